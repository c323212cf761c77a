package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/pgweir/pgweir/configs"
)

func plansCommand(stdout io.Writer) *cli.Command {
	return command("plans", nil, func(c *cli.Context) error {
		if c.NArg() > 1 {
			return usageError("more than one plan specified: " + strings.Join(c.Args().Slice(), " "))
		}
		return plans(stdout, c.Args().First())
	})
}

// plans lists the presets, those of one provider, or explains one.
func plans(stdout io.Writer, what string) error {
	if strings.Contains(what, ":") {
		p, err := configs.Preset(what)
		if err != nil {
			return err
		}
		explain(stdout, p)
		return nil
	}
	if providers := configs.Providers(); what != "" && !slices.Contains(providers, what) {
		hint := "there are " + strings.Join(providers, ", ")
		if like, ok := configs.Closest(what, providers); ok {
			hint = "perhaps you meant " + like
		}
		return fmt.Errorf("no plans are known of a provider %q: %s", what, hint)
	}
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "plan\tconnections\treserve\tscope\tas of")
	for _, p := range configs.Presets() {
		if what == "" || strings.HasPrefix(p.Name, what+":") {
			fmt.Fprintf(table, "%s\t%d\t%d\t%v\t%s\n", p.Name, p.MaxServerConnections, p.Reserve, p.Scope, p.Date)
		}
	}
	return table.Flush()
}

// explain says everything about a preset.
func explain(stdout io.Writer, p *configs.Plan) {
	shared := "all that connect to the server share them"
	if p.Scope == configs.ScopeRole {
		shared = "each role on the server has so many"
	}
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	for _, line := range [][3]string{
		{"connections", strconv.Itoa(p.MaxServerConnections), shared},
		{"reserve", strconv.Itoa(p.Reserve), "of them stay free for people and migrations"},
		{"pgweir", strconv.Itoa(p.Budget()), "server connections at most, whatever its pools add up to"},
	} {
		fmt.Fprintf(table, "  %s\t%s\t%s\n", line[0], line[1], line[2])
	}
	fmt.Fprintf(stdout, "%s\n\n", p.Name)
	table.Flush()
	fmt.Fprintf(stdout, "\n  source: %s (%s)\n", p.Source, p.Date)
	if p.Note != "" {
		fmt.Fprintf(stdout, "  %s.\n", p.Note)
	}
	fmt.Fprintf(stdout, `
pgweir asks the server for its limits as well, and the lowest one counts. To put
all entries under the plan, write into pgbouncer.ini

  [pgbouncer]
  plan = %[1]s

or, for one of them alone,

  [databases]
  app = host=… plan=%[1]s

With N processes in front of the server, such as dynos, plan_processes = N gives
each its part; pgweir check --dynos=N FILE says whether it fits.
`, p.Name)
}
