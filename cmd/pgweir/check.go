package main

import (
	"cmp"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool/certs"
)

func checkCommand(stdout io.Writer) *cli.Command {
	return command("check", []cli.Flag{
		&cli.StringFlag{Name: "dynos", Usage: "hold the plans against so many processes"},
		&cli.StringFlag{Name: "preboot", DefaultText: "all", Usage: "so many of them, or all, run twice during a deploy"},
	}, func(c *cli.Context) error {
		path, err := configFile(c)
		if err != nil {
			return err
		}
		fleet, err := parseFleet(c.String("dynos"), c.String("preboot"))
		if err != nil {
			return err
		}
		return check(stdout, path, fleet)
	})
}

// fleet is how many processes run with one configuration.
type fleet struct {
	dynos   int // 0: as many as plan_processes says
	preboot int // of them that run twice while new ones start
}

func parseFleet(dynos, preboot string) (f fleet, err error) {
	if dynos != "" {
		if f.dynos, err = strconv.Atoi(dynos); err != nil || f.dynos < 1 || f.dynos > maxDynos {
			return f, usageError(fmt.Sprintf("--dynos=%s: must be a number from 1 to %d", dynos, maxDynos))
		}
	}
	switch {
	case preboot == "":
	case f.dynos == 0:
		return f, usageError("--preboot needs --dynos")
	case preboot == "all":
		f.preboot = f.dynos
	default:
		if f.preboot, err = strconv.Atoi(preboot); err != nil || f.preboot < 0 || f.preboot > f.dynos {
			return f, usageError(fmt.Sprintf("--preboot=%s: must be all, or a number up to that of --dynos", preboot))
		}
	}
	return f, nil
}

const maxDynos = 100000

// processes is how many there are at the worst moment.
func (f fleet) processes(snap *configs.Snapshot) int {
	return cmp.Or(f.dynos, snap.Main.PlanProcesses) + f.preboot
}

// check prints everything that is wrong with the configuration at path, a line
// each, and with the files of its TLS settings, and then how it stands with the
// plans.
func check(stdout io.Writer, path string, f fleet) error {
	var result error
	for _, p := range configs.Check(path) {
		tell(stdout, path, p)
		if p.Severity == configs.Error {
			result = errSilent
		}
	}
	if result != nil {
		return result
	}
	snap, err := configs.Load(path)
	if err != nil {
		return err // the file has just changed
	}
	return cmp.Or(checkTLS(stdout, path, snap), checkPlans(stdout, path, snap, f))
}

// checkTLS prints what is wrong with the files that TLS settings name.
func checkTLS(stdout io.Writer, path string, snap *configs.Snapshot) error {
	wrong, doubtful := certs.Check(&snap.Main, time.Now())
	for i, e := range append(wrong, doubtful...) {
		p := configs.Problem{Severity: configs.Warning, Text: e.Error()}
		if i < len(wrong) {
			p.Severity = configs.Error
		}
		p.File, p.Line = snap.Position(e.Key)
		tell(stdout, path, p)
	}
	if len(wrong) > 0 {
		return errSilent
	}
	return nil
}

// tell prints what is wrong with the configuration at path, as compilers do.
func tell(stdout io.Writer, path string, p configs.Problem) {
	line := ""
	if p.Line > 0 {
		line = fmt.Sprintf(":%d", p.Line)
	}
	fmt.Fprintf(stdout, "%s%s: %v: %s\n", cmp.Or(p.File, path), line, p.Severity, p.Text)
}

// checkPlans prints what the configuration may claim of its plans, in a table,
// and what to change where that is more than there is.
func checkPlans(stdout io.Writer, path string, snap *configs.Snapshot, f fleet) error {
	claims := snap.Claims()
	if len(claims) == 0 {
		if f.dynos > 0 {
			fmt.Fprintf(stdout, "%s: error: --dynos: no entry has a plan to hold it against; write plan = … into [pgbouncer] (pgweir plans lists those of providers)\n", path)
			return errSilent
		}
		return nil
	}
	processes := f.processes(snap)
	var result error
	var advices []string
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "plan\ton\tpools\tper process\tprocesses\tworst case\troom")
	for _, c := range claims {
		fits, advice := c.Fits(processes)
		verdict := "fits"
		switch {
		case !fits:
			verdict, result = "too much", errSilent
			advices = append(advices, advice)
		case c.Room() == 0:
			verdict = "as the server says"
		}
		each, worst, room := "any", "any", ""
		if c.Each() != configs.Unbounded {
			each, worst = strconv.Itoa(c.Each()), strconv.Itoa(c.Each()*processes)
		}
		if c.Room() > 0 {
			room = strconv.Itoa(c.Room())
		}
		pools := "any"
		if c.Most != configs.Unbounded {
			pools = strconv.Itoa(c.Most)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", c.Plan.Name, c.On, pools, each, processes, worst, room, verdict)
	}
	table.Flush()
	for _, advice := range advices {
		fmt.Fprintf(stdout, "%s: error: %s\n", path, advice)
	}
	return result
}
