package main

import (
	"fmt"
	"strings"
)

// report is the table.
type report struct {
	title string
	rows  []reportRow
}

type reportRow struct {
	driver  string
	tasks   []task
	row     row
	seconds float64
}

func (r *report) failed() bool {
	for _, line := range r.rows {
		for _, t := range line.tasks {
			if v := line.row[t].verdict; v == failed || v == missing {
				return true
			}
		}
	}
	return false
}

// String is the table of the drivers, then the programs, which have tasks of
// their own, then the reasons of all that did not pass.
func (r *report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s\n\n%-20s", r.title, "")
	for _, t := range tasks {
		fmt.Fprintf(&b, " %*s", width(t), t)
	}
	fmt.Fprintf(&b, " %7s\n", "seconds")
	var reasons []string
	for _, line := range r.rows {
		fmt.Fprintf(&b, "%-20s", line.driver)
		own := len(line.tasks) != len(tasks)
		for _, t := range line.tasks {
			o := line.row[t]
			if own {
				fmt.Fprintf(&b, " %s: %s ", t, o.verdict)
			} else {
				fmt.Fprintf(&b, " %*s", width(t), o.verdict)
			}
			if o.verdict != passed {
				reasons = append(reasons, fmt.Sprintf("%-7s %s, %s: %s", o.verdict, line.driver, t, o.reason))
			}
		}
		fmt.Fprintf(&b, " %7.1f\n", line.seconds)
	}
	if len(reasons) > 0 {
		fmt.Fprintf(&b, "\n%s\n", strings.Join(reasons, "\n"))
	}
	return b.String()
}

func width(t task) int { return max(len(t), len("MISSING")) }
