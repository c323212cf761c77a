// Bench measures pgweir against PgBouncer and HAProxy on one private Postgres,
// in turn, and writes report.md. What it measures is in work.go.
//
// Environment:
//
//	BENCH_ROUNDS     how often each measurement is repeated; medians count (3)
//	BENCH_SECONDS    how long one measurement lasts (4)
//	BENCH_ONLY       a regular expression: only the work loads whose names match
//	BENCH_PGBOUNCER  the PgBouncer to compare with (the one on the PATH)
//	BENCH_REPORT     where to write the report (integration/bench/report.md)
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"

	"github.com/pgweir/pgweir/integration/sandbox"
)

// options come from the environment.
type options struct {
	pgweir    string
	pgbouncer string
	haproxy   string
	rounds    int
	length    time.Duration
	only      *regexp.Regexp
	report    string
}

func main() {
	pgweir := flag.String("pgweir", "bin/pgweir", "the `program` to measure")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if address := os.Getenv(stormTarget); address != "" {
		if err := beStorm(ctx, address, os.Getenv(stormCA)); err != nil {
			fmt.Fprintln(os.Stderr, "storm:", err)
			os.Exit(1)
		}
		return
	}
	if err := run(ctx, *pgweir); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, pgweir string) (err error) {
	o, err := environment(pgweir)
	if err != nil {
		return err
	}
	if err := raiseDescriptors(); err != nil {
		return err
	}
	began := time.Now()
	b, err := newBench(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.sandbox.Close()) }()
	results, err := b.measure(ctx)
	if err != nil {
		return err
	}
	machine, err := b.machine(ctx)
	if err != nil {
		return err
	}
	text := report{machine: machine, options: o, results: results, began: began}.markdown()
	if err := os.WriteFile(o.report, []byte(text), 0o644); err != nil {
		return err
	}
	fmt.Printf("\n%s\nwritten to %s\n", text, o.report)
	return nil
}

func environment(pgweir string) (o options, err error) {
	if o.rounds, err = sandbox.Number("BENCH_ROUNDS", 3); err != nil {
		return o, err
	}
	seconds, err := sandbox.Number("BENCH_SECONDS", 4)
	if err != nil {
		return o, err
	}
	o.length = time.Duration(seconds) * time.Second
	if o.only, err = regexp.Compile(os.Getenv("BENCH_ONLY")); err != nil {
		return o, fmt.Errorf("BENCH_ONLY: %w", err)
	}
	o.report = cmp.Or(os.Getenv("BENCH_REPORT"), "integration/bench/report.md")
	if o.pgweir, err = sandbox.Program(pgweir); err != nil {
		return o, fmt.Errorf("%w; make build makes it", err)
	}
	if o.pgbouncer, err = sandbox.Program(cmp.Or(os.Getenv("BENCH_PGBOUNCER"), "pgbouncer")); err != nil {
		return o, fmt.Errorf("%w; apt-get install pgbouncer, or set BENCH_PGBOUNCER", err)
	}
	if o.haproxy, err = sandbox.Program("haproxy"); err != nil {
		return o, fmt.Errorf("%w; apt-get install haproxy", err)
	}
	return o, nil
}

// raiseDescriptors lets this process and the programs it starts open as many
// files as the machine allows. (The runtime does so for this process alone, and
// takes it back for its children unless the program asks.)
func raiseDescriptors() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	limit.Cur = limit.Max
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
}
