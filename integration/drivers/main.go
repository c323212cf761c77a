// Drivers holds pgweir against the drivers that applications use. Each driver
// runs in a process of its own, with many connections at once through a pooler
// that has a tenth as many servers in transaction mode, and goes through the
// same tasks: queries, named prepared statements, transactions, pipelines,
// COPY, cancel requests, errors, values of a megabyte. Every row carries the tag
// of the client that asked for it, so a reply for somebody else can't pass.
//
// It installs what it needs, each version pinned, into a cache, prints a table
// of drivers and tasks, and ends with status 1 unless everything passed.
//
// The programs of the drivers are in the folders of their languages. What they
// are told and what they must print is described in program.go, what the tasks
// are in task.go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	var o options
	flag.StringVar(&o.binary, "pgweir", "bin/pgweir", "the pooler's `program`, a PgBouncer for one")
	flag.StringVar(&o.source, "source", "integration/drivers", "the `folder` of the drivers' programs")
	flag.StringVar(&o.cache, "cache", ".cache/drivers", "the `folder` for what is installed")
	flag.StringVar(&o.mode, "mode", "transaction", "the pool `mode`; \"direct\" means Postgres itself, which shows whether the programs are right")
	flag.StringVar(&o.tls, "tls", "off", "TLS on both sides of the pooler: `off, on or both`, one after the other")
	flag.IntVar(&o.clients, "clients", 40, "connections of each driver")
	flag.IntVar(&o.servers, "servers", 4, "connections to Postgres")
	only := flag.String("only", "", "the `drivers` to run, separated by spaces; empty means all")
	flag.Parse()
	o.only = strings.Fields(*only)

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := o.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "drivers:", err)
		os.Exit(1)
	}
}

// options is the command line.
type options struct {
	binary, source, cache string
	mode, tls             string
	clients, servers      int
	only                  []string
}

// errFailed means that the table has a failure.
var errFailed = errors.New("not everything passed")

func (o *options) run(ctx context.Context) error {
	for _, path := range []*string{&o.binary, &o.source, &o.cache} {
		abs, err := filepath.Abs(*path)
		if err != nil {
			return err
		}
		*path = abs
	}
	chosen, err := choose(o.only)
	if err != nil {
		return err
	}
	var secured []bool
	switch o.tls {
	case "off":
		secured = []bool{false}
	case "on":
		secured = []bool{true}
	case "both":
		secured = []bool{false, true}
	default:
		return fmt.Errorf("-tls %s: want off, on or both", o.tls)
	}

	start := time.Now()
	if err := o.install(ctx, chosen); err != nil {
		return err
	}
	fmt.Printf("installed in %.0f s\n", time.Since(start).Seconds())

	all := true
	for _, secure := range secured {
		passed, err := o.bench(ctx, chosen, secure)
		if err != nil {
			return err
		}
		all = all && passed
	}
	fmt.Printf("\n%.0f s in all\n", time.Since(start).Seconds())
	if !all {
		return errFailed
	}
	return nil
}

// choose returns the drivers of those names, all for none.
func choose(names []string) ([]driver, error) {
	if len(names) == 0 {
		return drivers, nil
	}
	var chosen []driver
	for _, name := range names {
		i := slices.IndexFunc(drivers, func(d driver) bool { return d.name == name })
		if i < 0 {
			var all []string
			for _, d := range drivers {
				all = append(all, d.name)
			}
			return nil, fmt.Errorf("no driver %q; there are: %s", name, strings.Join(all, ", "))
		}
		chosen = append(chosen, drivers[i])
	}
	return chosen, nil
}

// install installs what the chosen drivers need.
func (o *options) install(ctx context.Context, chosen []driver) error {
	var done []*language
	for _, d := range chosen {
		if d.language == nil || slices.Contains(done, d.language) {
			continue
		}
		done = append(done, d.language)
		if err := d.language.install(ctx, shop{source: o.source, cache: o.cache}); err != nil {
			return fmt.Errorf("%s: %w", d.language.name, err)
		}
	}
	return nil
}
