package main

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/pgweir/pgweir/integration/sandbox"
)

// report is the text for people.
type report struct {
	options
	stage   *stage
	rows    []*row
	figures *figures
	began   time.Time
}

// faults are what must not be.
func (r *report) faults() (all []string) {
	for _, row := range r.rows {
		all = append(all, row.faults...)
	}
	if r.figures != nil {
		all = append(all, r.figures.faults...)
	}
	return all
}

// tables are the figures.
func (r *report) tables() string {
	var b strings.Builder
	if len(r.rows) > 0 {
		b.WriteString("| scenario | pooler | requests | failed | failed % | served/s | to PgBouncer's | p50 ms | p99 ms | most connections |\n|---|---|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	}
	for i, row := range r.rows {
		name := row.scenario
		if i > 0 && r.rows[i-1].scenario == name {
			name = ""
		}
		var all visits
		for _, v := range row.rounds {
			all.add(v)
		}
		failed, share := all.failed+all.cut, 0.0
		if row.ends {
			failed = all.failed // the rest is the app's own
		}
		if n := all.requests(); n > 0 {
			share = 100 * float64(failed) / float64(n)
		}
		rate, ratio := "", ""
		if !row.ends {
			rate = fmt.Sprintf("%.0f", median(row.rounds, func(_ int, v *visits) float64 { return v.perSecond() }))
		}
		if row.ratio > 0 {
			ratio = fmt.Sprintf("%.2f", row.ratio)
		}
		quantile := func(q float64) string {
			return fmt.Sprintf("%.0f", median(row.rounds, func(_ int, v *visits) float64 { return v.times.Quantile(q).Seconds() * 1000 }))
		}
		fmt.Fprintf(&b, "| %s | %s | %d | %d | %.1f | %s | %s | %s | %s | %d |\n",
			name, row.front, all.requests(), failed, share, rate, ratio, quantile(0.5), quantile(0.99), row.peak)
	}
	if f := r.figures; f != nil {
		b.WriteString("\n| the pooler beside an app | | bound |\n|---|--:|--:|\n")
		fmt.Fprintf(&b, "| resident memory with %d clients | %.1f MB | %d MB |\n", idleClients, float64(f.resident)/(1<<20), mostResident>>20)
		if f.idle >= 0 {
			fmt.Fprintf(&b, "| share of a core while they idle, over %.0f s | %.2f %% | %.1f %% |\n", idleTime.Seconds(), f.idle*100, mostIdle*100)
		}
		fmt.Fprintf(&b, "| ready after, median of %d starts (longest) | %d ms (%d ms) | %d ms |\n", starts, f.ready.Milliseconds(), f.readyMax.Milliseconds(), mostReady.Milliseconds())
		linked := "yes"
		if !f.static {
			linked = "**no**"
		}
		fmt.Fprintf(&b, "| one static program | %s | |\n", linked)
	}
	return b.String()
}

// markdown is docs/scenarios.md.
func (r *report) markdown(ctx context.Context) string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Scenarios

Written by `+"`make scenario`"+` on %s; do not edit. An app as it is deployed: Django under gunicorn, which opens a
connection for each request (`+"`CONN_MAX_AGE=0`"+`), on a role that may have %d connections. A request reads an account and its
latest entries, waits for another service for 200 ms, writes an entry and the account's balance in a transaction, and
reads the entry again. %d visitors ask over connections that are kept; each waits for its answer and asks again. Postgres
wants TLS and SCRAM, as providers do.

`, r.began.UTC().Format(time.DateOnly), roleLimit, crowd)
	b.WriteString(r.tables())
	fmt.Fprintf(&b, `
%d rounds of %v in turn. Requests and failures are those of all rounds; served/s, p50 and p99 are the medians of the
rounds, over requests that were served; the ratio is the median of the ratios within a round. App, poolers, Postgres and
visitors share the machine, so ratios hold and absolutes are this machine's. After each round the rows in the database are
counted: where nothing failed there is one for each request that was served, no more and no less.

- **gevent workers** (`+"`gevent 2`"+`): all requests that come are served at the same time, so without a pooler all but %d are
  told `+"`too many connections for role`"+`.
- **sync workers** (`+"`sync 32`"+`): 32 processes, each with one request at a time. Fewer meet the limit, and those fail.
- **session SETs**: the same as the first, and each connection begins with seven SETs, as those of Rails do, whose values
  are different for each connection. They are read back before and after the work; a request fails that finds another's.
  Both poolers have `+"`PGBOUNCER_POOL_MODE=session`"+`: a connection keeps its server.
- **startup options**: an app that asks for such values when it connects (`+"`options=-c statement_timeout=…`"+` in its URL) keeps
  them in transaction mode, too. PgBouncer refuses these connections.
- **dynos**: three, each with `+"`pgweir exec`"+`, `+"`PGWEIR_PLAN=heroku:essential-0`"+` and `+"`PGWEIR_PLAN_PROCESSES=3`"+`, and a third of
  the visitors. One stays, two start and stop, %d times, by SIGTERM to all their processes at once. The app cut %d connections
  of visitors when it ended; those are no failures.

PgBouncer is set as Heroku's buildpack sets it, with `+"`PGBOUNCER_DEFAULT_POOL_SIZE=%d`"+` and `+"`PGBOUNCER_MAX_CLIENT_CONN=1000`"+`;
pgweir exec gets the same variables, and nothing else.

`, r.rounds, r.length, roleLimit, r.rounds, r.cut(), poolSize)
	line := func(program string, args ...string) string {
		out, err := exec.CommandContext(ctx, program, args...).Output()
		if err != nil {
			return fmt.Sprintf("%s: %v", program, err)
		}
		first, _, _ := strings.Cut(string(out), "\n")
		return first
	}
	fmt.Fprintf(&b, "- machine: %d × %s, %s of memory, %s\n", runtime.NumCPU(), sandbox.Field("/proc/cpuinfo", "model name"), sandbox.Field("/proc/meminfo", "MemTotal"), line("uname", "-sr"))
	fmt.Fprintf(&b, "- %s (%s), %s, PostgreSQL %s\n", line(r.options.pgweir, "--version"), runtime.Version(), line(r.pgbouncer, "--version"), r.stage.postgres.Install.Version)
	python := string(r.stage.python)
	fmt.Fprintf(&b, "- %s, %s\n", line(python+"/python", "--version"), line(python+"/python", "-c", "from importlib.metadata import version as v; print(', '.join(f'{n} {v(n)}' for n in ('Django', 'gunicorn', 'gevent', 'psycopg')))"))
	return b.String()
}

// cut is how many connections of visitors apps have cut.
func (r *report) cut() (n int) {
	for _, row := range r.rows {
		for _, v := range row.rounds {
			if row.ends {
				n += v.cut
			}
		}
	}
	return n
}

func ms(d time.Duration) string { return fmt.Sprintf("%.0f", d.Seconds()*1000) }
