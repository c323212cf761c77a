package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pgweir/pgweir/configs/dyno"
)

// The exit statuses of `pgweir exec` beside the command's own, as timeout(1) and
// env(1) have them.
const (
	statusPooler        = 125 // the pooler could not start, or ended before the command
	statusNotExecutable = 126
	statusNotFound      = 127
)

// execOptions are what `pgweir exec` is told, by options or by variables.
type execOptions struct {
	dyno    dyno.Options
	grace   time.Duration // from SIGTERM to the end of everything
	wait    time.Duration // for the databases, at start
	ifDown  string        // start or fail: what to do when the wait is over
	listen  string        // tcp or unix
	forward string        // SIGTERM to the command: yes, no or auto
	show    bool
	command []string
}

const execUsage = `pgweir exec starts a connection pooler and an app that uses it, and ends both in
the right order.

Usage:
  pgweir exec [OPTION]... [--] COMMAND [ARGUMENT]...

The URLs in DATABASE_URL, and in the variables that PGWEIR_URLS names, are
replaced by URLs of the pooler before COMMAND is started. Its exit status is
that of pgweir, 128 and the signal's number if a signal has ended it, or 125 if
the pooler could not start or has ended.

Each option has a variable, in brackets, that says the same. Any setting of
[pgbouncer] can be given as PGWEIR_NAME, too, or as --set name=value; those of
Heroku's buildpack for PgBouncer (PGBOUNCER_POOL_MODE and the like) are heeded.

Options:
`

// parseExec reads the arguments behind "exec". flag.ErrHelp asks for the help,
// which is then in help.
func parseExec(args, environ []string) (o execOptions, help string, err error) {
	o.dyno.Settings = map[string]string{}
	flags := flag.NewFlagSet("pgweir exec", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	setting := func(key string) func(string) error {
		return func(value string) error { o.dyno.Settings[key] = value; return nil }
	}
	oneOf := func(to *string, values ...string) func(string) error {
		*to = values[0]
		return func(value string) error {
			if *to = value; !slices.Contains(values, value) {
				return fmt.Errorf("must be %s", strings.Join(values, " or "))
			}
			return nil
		}
	}
	o.grace, o.wait = 25*time.Second, 30*time.Second
	var usage strings.Builder
	add := func(name, value, meaning string, set func(string) error) {
		flags.Func(name, meaning, set)
		variable := variableOf(name)
		if name == "set" {
			variable = "PGWEIR_NAME"
		}
		fmt.Fprintf(&usage, "  --%s %s [%s]\n        %s\n", name, value, variable, meaning)
	}
	add("plan", "NAME", "the plan of the database, as `pgweir plans` lists them", setting("plan"))
	add("pool-size", "N", "connections to the database for each user; 5", setting("default_pool_size"))
	add("urls", "NAMES", "the variables that hold URLs, between commas; DATABASE_URL", func(names string) error {
		o.dyno.URLs = strings.FieldsFunc(names, func(r rune) bool { return r == ',' || r == ' ' })
		return nil
	})
	add("listen", "tcp|unix", "where the app finds the pooler: a port of 127.0.0.1, or a unix socket; tcp", oneOf(&o.listen, "tcp", "unix"))
	add("port", "N", "that port; 0 is any that is free", setting("listen_port"))
	add("wait", "TIME", "how long to wait at start until each database answers; 30s", duration(&o.wait))
	add("if-down", "start|fail", "what to do then: start the command all the same, or fail; start", oneOf(&o.ifDown, "start", "fail"))
	add("grace", "TIME", "how long the command may go on after SIGTERM; then it is killed; 25s", duration(&o.grace))
	add("forward-sigterm", "auto|yes|no", "whether to pass SIGTERM on; auto: unless Heroku does, which tells all processes of a dyno", oneOf(&o.forward, "auto", "yes", "no"))
	add("set", "NAME=VALUE", "any setting of [pgbouncer], again and again", func(pair string) error {
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			return errors.New("must be NAME=VALUE")
		}
		o.dyno.Settings[strings.TrimSpace(key)] = strings.TrimSpace(value)
		return nil
	})
	flags.BoolVar(&o.show, "print-config", false, "")
	usage.WriteString("  --print-config\n        show the configuration, without secrets, and start nothing\n")

	// Variables that are settings are dyno's business.
	for _, name := range []string{"listen", "wait", "if-down", "grace", "forward-sigterm"} {
		if value := variable(environ, variableOf(name)); value != "" {
			if err := flags.Set(name, value); err != nil {
				return o, "", fmt.Errorf("%s: %w", variableOf(name), err)
			}
		}
	}
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return o, execUsage + usage.String(), err
	case err != nil:
		return o, "", usageError(err.Error())
	}
	if o.command = flags.Args(); len(o.command) == 0 && !o.show {
		return o, "", usageError("no command to start")
	}
	return o, "", nil
}

// variableOf is the variable that says the same as an option.
func variableOf(option string) string {
	return "PGWEIR_" + strings.ToUpper(strings.ReplaceAll(option, "-", "_"))
}

// variable is the value of a variable, "" if it isn't set.
func variable(environ []string, name string) (value string) {
	for _, kv := range environ {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			value = v
		}
	}
	return value
}

// duration reads a time as Go writes it, or as a number of seconds.
func duration(to *time.Duration) func(string) error {
	return func(text string) error {
		d, err := time.ParseDuration(text)
		if seconds, isNumber := strconv.ParseFloat(text, 64); isNumber == nil {
			d, err = time.Duration(seconds*float64(time.Second)), nil
		}
		if err != nil || d < 0 {
			return errors.New("must be a time, such as 25s")
		}
		*to = d
		return nil
	}
}

// runExec does what `pgweir exec` asks for and returns the exit status.
func runExec(program string, args []string, stdout, stderr io.Writer) int {
	environ := os.Environ()
	fail := func(status int, err error) int {
		fmt.Fprintf(stderr, "%s exec: %v\n", program, err)
		if _, ok := errors.AsType[usageError](err); ok {
			fmt.Fprintf(stderr, "Try \"%s exec --help\" for more information.\n", program)
		}
		return status
	}
	o, help, err := parseExec(args, environ)
	switch {
	case help != "":
		fmt.Fprint(stdout, help)
		return statusOK
	case err != nil:
		return fail(statusPooler, err)
	case o.show:
		side, err := dyno.New(environ, o.dyno)
		var text string
		if err == nil {
			text, err = side.Text()
		}
		if err != nil {
			return fail(statusPooler, err)
		}
		fmt.Fprint(stdout, text)
		return statusOK
	}
	path, err := exec.LookPath(o.command[0])
	switch {
	case errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist):
		return fail(statusNotFound, err)
	case err != nil:
		return fail(statusNotExecutable, err)
	}
	if !dyno.Enabled(environ) {
		return fail(statusNotExecutable, syscall.Exec(path, o.command, environ))
	}
	if o.listen == "unix" {
		if o.dyno.UnixDir, err = os.MkdirTemp("", "pgweir-"); err != nil {
			return fail(statusPooler, err)
		}
		defer os.RemoveAll(o.dyno.UnixDir)
	}
	s, err := newSidecar(o, environ)
	if err != nil {
		return fail(statusPooler, err)
	}
	defer s.log.Close()
	status, err := s.run(context.Background(), path)
	if err != nil {
		return fail(cmp.Or(status, statusPooler), err)
	}
	return status
}
