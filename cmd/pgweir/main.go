package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"
)

func main() { os.Exit(run(os.Args, os.Stdout, os.Stderr)) }

// The exit statuses. A shutdown that was asked for is a success, however fast.
const (
	statusOK    = 0
	statusError = 1
)

// usageError is a mistake on the command line.
type usageError string

func (e usageError) Error() string { return string(e) }

// errSilent ends the process with statusError; what there is to say was said.
var errSilent = errors.New("said already")

// run does what the command line args asks for, args[0] being the program's
// name, and returns the exit status.
func run(args []string, stdout, stderr io.Writer) int {
	if len(args) > 1 && args[1] == "exec" {
		return runExec(args[0], args[2:], stdout, stderr)
	}
	err := runApp(args, stdout)
	if err == nil {
		return statusOK
	}
	var usage usageError
	switch {
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "%s: %s\nTry \"%[1]s --help\" for more information.\n", args[0], usage)
	case err != errSilent:
		fmt.Fprintf(stderr, "%s: %v\n", args[0], err)
	}
	return statusError
}

func runApp(args []string, stdout io.Writer) error {
	var o options
	app := &cli.App{
		Name:     args[0],
		Writer:   stdout,
		HideHelp: true, // help is an option like the others, and no command
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "daemon", Aliases: []string{"d"}, Usage: "run in background, with all output in the log file"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "don't log to stderr"},
			&cli.StringFlag{Name: "user", Aliases: []string{"u"}, Usage: "run as the operating system's user NAME"},
			&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Count: &o.verbose, Usage: "log more; twice: even more"},
			&cli.BoolFlag{Name: "reboot", Aliases: []string{"R"}, Usage: "gone; says what to do instead"},
			&cli.BoolFlag{Name: "version", Aliases: []string{"V"}, Usage: "show the version, then exit"},
			&cli.BoolFlag{Name: "help", Aliases: []string{"h"}, Usage: "show this help, then exit"},
		},
		Commands:       []*cli.Command{checkCommand(stdout), plansCommand(stdout)},
		ExitErrHandler: func(*cli.Context, error) {}, // run does that
	}
	app.Action = func(c *cli.Context) (err error) {
		switch {
		case c.Bool("version"):
			_, err := io.WriteString(stdout, versionText())
			return err
		case c.Bool("reboot"):
			return errors.New("-R is gone, as in PgBouncer 1.26: with so_reuseport=1 start the new process beside the old one, then send the old one SIGTERM")
		}
		if o.path, err = configFile(c); err != nil {
			return err
		}
		o.daemon, o.quiet, o.user = c.Bool("daemon"), c.Bool("quiet"), c.String("user")
		return serve(o)
	}
	app.CustomAppHelpTemplate = helpTemplate(app.Name, app.Flags)
	for _, c := range app.Commands {
		c.CustomHelpTemplate = app.CustomAppHelpTemplate
	}
	words, flags, rest := args[:1:1], app.Flags, args[1:]
	if len(rest) > 0 {
		if c := app.Command(rest[0]); c != nil { // its options are its own
			words, flags, rest = append(words, rest[0]), c.Flags, rest[1:]
		}
	}
	arranged, err := arrange(rest, flags)
	if err != nil {
		return err
	}
	return app.Run(append(words, arranged...))
}

// command is a sub-command: the first word of the command line, which options
// of its own may follow.
func command(name string, flags []cli.Flag, action func(*cli.Context) error) *cli.Command {
	return &cli.Command{
		Name:     name,
		HideHelp: true,
		Flags:    append(flags, &cli.BoolFlag{Name: "help", Aliases: []string{"h"}, Usage: "show this help, then exit"}),
		Action: func(c *cli.Context) error {
			if c.Lineage()[1].NumFlags() > 0 {
				return usageError("options of " + name + " stand behind it")
			}
			return action(c)
		},
	}
}

// options are what the command line says about a pooler to run.
type options struct {
	path    string // the configuration file
	daemon  bool
	quiet   bool
	verbose int    // how many times
	user    string // "" for none given
}

// configFile is the one argument that isn't an option.
func configFile(c *cli.Context) (string, error) {
	switch c.NArg() {
	case 0:
		return "", usageError("no configuration file specified")
	case 1:
		return c.Args().First(), nil
	}
	return "", usageError("more than one configuration file specified: " + strings.Join(c.Args().Slice(), " "))
}

// helpTemplate is what --help prints, behind a command too.
func helpTemplate(name string, flags []cli.Flag) string {
	var b strings.Builder
	b.WriteString(`pgweir is a connection pooler for Postgres, in the place of PgBouncer.

Usage:
  ` + name + ` [OPTION]... CONFIG_FILE
  ` + name + ` check [--dynos=N [--preboot[=N]]] CONFIG_FILE
  ` + name + ` plans [PROVIDER | PLAN]
  ` + name + ` exec [OPTION]... [--] COMMAND [ARGUMENT]...

check says everything that is wrong with a configuration, and whether its plans
have room for N dynos, all of which (--preboot) or some run twice during a deploy.
plans lists what is known of providers' plans, or explains one. exec starts a
pooler and an app that uses it (pgweir exec --help).

Options:
`)
	for _, f := range flags {
		doc, long := f.(cli.DocGenerationFlag), f.Names()[0]
		if doc.TakesValue() {
			long += "=NAME"
		}
		fmt.Fprintf(&b, "  -%s, --%-10s  %s\n", f.Names()[1], long, doc.GetUsage())
	}
	return b.String()
}
