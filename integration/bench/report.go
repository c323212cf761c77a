package main

import (
	"context"
	_ "embed"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/pgweir/pgweir/integration/sandbox"
)

// machine is what the figures were measured on and with.
type machine struct {
	processor string
	kernel    string
	memory    string
	versions  []string
}

func (b *bench) machine(ctx context.Context) (m machine, err error) {
	line := func(program string, args ...string) string {
		out, err := exec.CommandContext(ctx, program, args...).Output()
		if err != nil {
			return fmt.Sprintf("%s: %v", program, err)
		}
		first, _, _ := strings.Cut(string(out), "\n")
		return first
	}
	m.kernel = line("uname", "-sr")
	m.processor = sandbox.Field("/proc/cpuinfo", "model name")
	m.memory = sandbox.Field("/proc/meminfo", "MemTotal")
	m.versions = []string{
		line(b.options.pgweir, "--version") + " (" + runtime.Version() + ")",
		line(b.options.pgbouncer, "--version"),
		line(b.options.haproxy, "-v"),
		"PostgreSQL " + b.postgres.Install.Version,
	}
	return m, nil
}

// report is the text for people.
type report struct {
	machine machine
	options options
	results results
	began   time.Time
}

// profile is what the figures don't say: what the poolers do with their time.
// It was measured by hand.
//
//go:embed profile.md
var profile string

func (r report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Benchmark\n\nWritten by `make bench` on %s; do not edit. CPU is the processor time of the pooler's process for each transaction,\n", r.began.UTC().Format(time.DateOnly))
	fmt.Fprintf(&b, "user and system, from /proc: it is what pooling costs. Every target took its turn on the same Postgres, %d times for %v; figures are medians,\nratios the medians of the ratios within a round. Ratios hold, absolutes are this machine's.\n\n", r.options.rounds, r.options.length)
	fmt.Fprintf(&b, "- machine: %d × %s, %s of memory, %s\n", runtime.NumCPU(), r.machine.processor, r.machine.memory, r.machine.kernel)
	for _, version := range r.machine.versions {
		fmt.Fprintf(&b, "- %s\n", version)
	}
	fmt.Fprintf(&b, "- poolers: transaction mode, %d server connections, connections logged to a file, all else default; HAProxy: TCP mode, one thread;\n  nothing is pinned to a core; clients, poolers and Postgres share the machine\n", servers)

	b.WriteString("\n## Against PgBouncer\n\n| work | CPU, pgweir / PgBouncer | target | |\n|---|---|---|---|\n")
	for _, one := range r.results.loads {
		r.verdicts(&b, one)
	}
	r.memory(&b)
	r.storm(&b)
	r.own(&b, r.results.loops, twoLoops, oneLoop)
	r.own(&b, r.results.prepared, prepared, simple)
	r.histograms(&b)

	b.WriteString("\n## All figures\n\n| work | target | tps | p50 ms | p99 ms | CPU µs per transaction | user | system | to PgBouncer |\n|---|---|--:|--:|--:|--:|--:|--:|--:|\n")
	all := r.results.loads
	for _, one := range []*result{r.results.loops, r.results.prepared} {
		if one != nil {
			all = append(all, *one)
		}
	}
	for _, one := range all {
		for i, name := range one.names {
			work := one.work.name
			if i > 0 {
				work = ""
			}
			f := one.of(name)
			fmt.Fprintf(&b, "| %s | %s | %.0f | %s | %s |", work, name, f.tps, ms(f.p50), ms(f.p99))
			switch {
			case name == direct:
				b.WriteString(" | | | |\n")
			case one.rounds[pgbouncer] == nil:
				fmt.Fprintf(&b, " %.1f | %.1f | %.1f | |\n", f.cpu(), f.user, f.system)
			default:
				fmt.Fprintf(&b, " %.1f | %.1f | %.1f | %.2f |\n", f.cpu(), f.user, f.system, one.ratio(name, pgbouncer))
			}
		}
	}

	b.WriteString("\n## Garbage collection of pgweir\n\nFrom the start of the process to the end of its load, `SHOW RUNTIME` on the console.\n\n| work | |\n|---|---|\n")
	for _, one := range r.results.loads {
		fmt.Fprintf(&b, "| %s | %s |\n", one.work.name, one.gc)
	}
	b.WriteString("\n" + profile)
	return b.String()
}

func (r report) verdicts(b *strings.Builder, one result) {
	ours, theirs := one.of(pgweir), one.of(pgbouncer)
	ratio := one.ratio(pgweir, pgbouncer)
	fmt.Fprintf(b, "| %s | %.2f | ≤ %.2f | %s |\n", one.work.name, ratio, one.work.goal, verdict(ratio <= one.work.goal))
	if one.work.latency {
		fmt.Fprintf(b, "| the same, p99 | %s ms / %s ms | not above | %s |\n", ms(ours.p99), ms(theirs.p99), verdict(ours.p99 <= theirs.p99))
	}
}

func (r report) memory(b *strings.Builder) {
	for _, m := range r.results.memory {
		ours, theirs := m.of[pgweir], m.of[pgbouncer]
		fmt.Fprintf(b, "| %s, %d after one query each, resident, for each | %d B (PgBouncer %d B) | ≤ %d B | %s |\n", m.name, m.clients, ours.rss, theirs.rss, m.goal, verdict(ours.rss <= m.goal))
		fmt.Fprintf(b, "| the same, Pss | %d B (PgBouncer %d B) | | |\n", ours.pss, theirs.pss)
	}
}

func (r report) storm(b *strings.Builder) {
	if r.results.storm == nil {
		return
	}
	ours, theirs := r.results.storm[pgweir], r.results.storm[pgbouncer]
	fmt.Fprintf(b, "| %s, %d with RSA-2048: p99 of a connected client grows by | %s ms (PgBouncer %s ms) | ≤ %s ms | %s |\n",
		stormWork, stormSize, ms(ours.delay()), ms(theirs.delay()), ms(stormGoal), verdict(ours.delay() <= stormGoal))
	fmt.Fprintf(b, "| the same, how long the storm took | %s ms (PgBouncer %s ms) | | |\n", ms(ours.length), ms(theirs.length))
}

// own judges a measurement of pgweir against itself.
func (r report) own(b *strings.Builder, one *result, name, base string) {
	if one == nil {
		return
	}
	const goal = 1.10
	ratio := one.ratio(name, base)
	fmt.Fprintf(b, "| %s, CPU per transaction (no PgBouncer in it) | %.2f | ≤ %.2f | %s |\n", one.work.name, ratio, goal, verdict(ratio <= goal))
}

func verdict(met bool) string {
	if met {
		return "met"
	}
	return "**not met**"
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f", d.Seconds()*1000) }
