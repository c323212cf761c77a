package main

import (
	"fmt"
	"strings"
)

// report is the table, whose lines are printed as they come, and the reasons
// for what did not pass, which come last.
type report struct {
	reasons []string
	failed  bool
}

// begin prints what stands above the table.
func (r *report) begin(title string) {
	fmt.Printf("\n%s\n\n%-15s", title, "")
	for _, t := range tasks {
		fmt.Printf(" %*s", width(t), t)
	}
	fmt.Printf(" %7s\n", "seconds")
}

// add prints a driver's line. A program that has tasks of its own has their
// names in it.
func (r *report) add(d driver, got row, seconds float64) {
	fmt.Printf("%-15s", d.name)
	columns := d.tasks
	if columns == nil {
		columns = tasks
	}
	var own strings.Builder
	for _, t := range columns {
		o := got[t]
		if d.tasks == nil {
			fmt.Printf(" %*s", width(t), o.verdict)
		} else {
			fmt.Fprintf(&own, " %s %s,", t, o.verdict)
		}
		if o.verdict == failed || o.verdict == missing {
			r.failed = true
		}
		if o.verdict != passed {
			r.reasons = append(r.reasons, fmt.Sprintf("%-7s %s, %s: %s", o.verdict, d.name, t, o.reason))
		}
	}
	if d.tasks != nil {
		all := 0
		for _, t := range tasks {
			all += 1 + width(t)
		}
		fmt.Printf("%-*s", all, strings.TrimSuffix(own.String(), ","))
	}
	fmt.Printf(" %7.1f\n", seconds)
}

// end prints the reasons.
func (r *report) end() {
	if len(r.reasons) > 0 {
		fmt.Printf("\n%s\n", strings.Join(r.reasons, "\n"))
	}
}

func width(t task) int { return max(len(t), len("MISSING")) }
