// Scenario runs an app as it is deployed: Django under gunicorn, which opens a
// connection for each request, with hundreds of visitors, on a role that may
// have 20 connections. Each scenario is run without a pooler, with PgBouncer as
// Heroku's buildpack sets it, and with `pgweir exec`, in turn. Then the pooler
// itself is measured: memory, idling, start.
//
// It prints a table, writes it to docs/scenarios.md, and ends with status 1 if a
// request has failed through pgweir.
//
// Environment:
//
//	SCENARIO_ROUNDS     how often each row is measured; medians count (3)
//	SCENARIO_SECONDS    how long one measurement lasts (6)
//	SCENARIO_ONLY       a regular expression: only the scenarios whose names match
//	SCENARIO_PGBOUNCER  the PgBouncer to compare with (the one on the PATH)
//	SCENARIO_REPORT     where to write the page (docs/scenarios.md)
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"github.com/pgweir/pgweir/integration/sandbox"
)

// options come from the command line and the environment.
type options struct {
	pgweir    string
	pgbouncer string // "" in a quick run
	source    string // the app's folder
	cache     string // for what is installed
	quick     bool
	rounds    int
	length    time.Duration
	only      *regexp.Regexp
	report    string // "" in a quick run
}

func main() {
	var o options
	flag.StringVar(&o.pgweir, "pgweir", "bin/pgweir", "the `program` to measure")
	flag.StringVar(&o.source, "source", "integration/scenario/app", "the `folder` of the app")
	flag.StringVar(&o.cache, "cache", ".cache/scenario", "the `folder` for what is installed")
	flag.BoolVar(&o.quick, "quick", false, "only see whether requests fail: one short round, no PgBouncer, no page")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	err := o.complete()
	if err == nil {
		err = run(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "scenario:", err)
		os.Exit(1)
	}
}

// complete adds what the environment says.
func (o *options) complete() (err error) {
	rounds, seconds := 3, 6
	if o.quick {
		rounds, seconds = 1, 3
	}
	if o.rounds, err = sandbox.Number("SCENARIO_ROUNDS", rounds); err != nil {
		return err
	}
	if seconds, err = sandbox.Number("SCENARIO_SECONDS", seconds); err != nil {
		return err
	}
	o.length = time.Duration(seconds) * time.Second
	if o.only, err = regexp.Compile(os.Getenv("SCENARIO_ONLY")); err != nil {
		return fmt.Errorf("SCENARIO_ONLY: %w", err)
	}
	for _, path := range []*string{&o.source, &o.cache} {
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	if o.pgweir, err = sandbox.Program(o.pgweir); err != nil {
		return fmt.Errorf("%w; make build makes it", err)
	}
	if o.quick {
		return nil
	}
	o.report = cmp.Or(os.Getenv("SCENARIO_REPORT"), "docs/scenarios.md")
	if o.pgbouncer, err = sandbox.Program(cmp.Or(os.Getenv("SCENARIO_PGBOUNCER"), "pgbouncer")); err != nil {
		return fmt.Errorf("%w; apt-get install pgbouncer, or set SCENARIO_PGBOUNCER", err)
	}
	return nil
}

// errFailed means that a request has failed through pgweir.
var errFailed = errors.New("not everything held that must hold through pgweir exec; see above")

func run(ctx context.Context, o options) (err error) {
	began := time.Now()
	python, err := install(ctx, o.source, o.cache)
	if err != nil {
		return err
	}
	fmt.Printf("installed in %.0f s\n", time.Since(began).Seconds())
	box, err := sandbox.New()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, box.Close()) }()
	s, err := newStage(ctx, box, o, python)
	if err != nil {
		return err
	}
	r := report{options: o, stage: s, began: began}
	if r.rows, err = s.play(ctx); err != nil {
		return err
	}
	if r.figures, err = s.sidecar(ctx); err != nil {
		return err
	}
	text := r.markdown(ctx)
	fmt.Printf("\n%s\n%.0f s in all\n", r.tables(), time.Since(began).Seconds())
	if o.report != "" {
		if err := os.WriteFile(o.report, []byte(text), 0o644); err != nil {
			return err
		}
		fmt.Println("written to", o.report)
	}
	if faults := r.faults(); len(faults) > 0 {
		for _, fault := range faults {
			fmt.Println("FAILED:", fault)
		}
		return errFailed
	}
	return nil
}
