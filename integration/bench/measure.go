package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// figures are what one target made of one work load; of several rounds, the
// medians.
type figures struct {
	tps          float64
	p50, p99     time.Duration
	user, system float64 // µs of the target's processor time per transaction
}

// cpu is the processor time per transaction in µs.
func (f figures) cpu() float64 { return f.user + f.system }

// result is one work load in the report.
type result struct {
	work   work
	names  []string // of the targets, in order
	rounds map[string][]figures
	gc     string // pgweir's collections under this load
}

// of returns the medians of a target.
func (r result) of(name string) figures { return medians(r.rounds[name]) }

// ratio is how much processor time a target takes, compared with another one:
// the median of the ratios within each round, because what else the machine
// does changes from round to round.
func (r result) ratio(name, base string) float64 {
	ratios := make([]float64, len(r.rounds[name]))
	for i := range ratios {
		ratios[i] = r.rounds[name][i].cpu() / r.rounds[base][i].cpu()
	}
	return middle(ratios)
}

// results are all that was measured.
type results struct {
	loads    []result
	loops    *result                 // pgweir with one loop and with two
	prepared *result                 // pgweir by the simple protocol and with prepared statements
	memory   []memory                // none when it was not asked for
	storm    map[string]stormFigures // nil when it was not asked for

	counting time.Duration // see countingCost; 0 when it was not asked for
}

const (
	oneLoop  = "pgweir loops=1"
	twoLoops = "pgweir loops=2"
	simple   = "pgweir simple"
	prepared = "pgweir prepared"
)

// These are the measurements that have no PgBouncer in them.
const (
	loopsWork    = "loops=2 against loops=1"
	preparedWork = "prepared statements against the simple protocol"
)

func (b *bench) measure(ctx context.Context) (r results, err error) {
	for _, w := range b.workLoads() {
		if !b.only.MatchString(w.name) {
			continue
		}
		names := []string{direct, pgweir, pgbouncer, haproxy}
		if w.login.TLS != nil {
			names = []string{pgweir, pgbouncer}
		}
		targets := map[string]map[string]string{direct: nil, pgweir: w.settings, pgbouncer: w.settings, haproxy: nil}
		one, err := b.compare(ctx, w, names, targets)
		if err != nil {
			return r, fmt.Errorf("%s: %w", w.name, err)
		}
		r.loads = append(r.loads, one)
	}
	if b.only.MatchString(loopsWork) {
		w := b.workLoads()[0]
		w.name = loopsWork
		one, err := b.compare(ctx, w, []string{oneLoop, twoLoops}, map[string]map[string]string{
			oneLoop:  w.with(map[string]string{"loops": "1"}),
			twoLoops: w.with(map[string]string{"loops": "2"}),
		})
		if err != nil {
			return r, fmt.Errorf("%s: %w", loopsWork, err)
		}
		r.loops = &one
	}
	if b.only.MatchString(preparedWork) {
		w := b.workLoads()[0]
		w.name = preparedWork
		w.put = func(ctx context.Context, w work, t *target, length time.Duration) (sample, error) {
			return pgbench("-S", "-M", strings.TrimPrefix(t.name, "pgweir "))(ctx, w, t, length)
		}
		one, err := b.compare(ctx, w, []string{simple, prepared}, map[string]map[string]string{simple: w.settings, prepared: w.settings})
		if err != nil {
			return r, fmt.Errorf("%s: %w", preparedWork, err)
		}
		r.prepared = &one
	}
	if b.only.MatchString(histogramsWork) {
		if r.counting, err = countingCost(); err != nil {
			return r, fmt.Errorf("%s: %w", histogramsWork, err)
		}
	}
	if r.memory, err = b.measureIdle(ctx); err != nil {
		return r, err
	}
	r.storm, err = b.measureStorm(ctx)
	return r, err
}

// compare puts w on each target in turn, round after round.
func (b *bench) compare(ctx context.Context, w work, names []string, settings map[string]map[string]string) (_ result, err error) {
	fmt.Printf("\n%s\n", w.name)
	r := result{work: w, names: names, rounds: map[string][]figures{}}
	targets := map[string]*target{}
	defer func() {
		for _, t := range targets {
			err = errors.Join(err, t.stop())
		}
	}()
	for _, name := range names {
		t, err := b.start(ctx, name, settings[name])
		if err != nil {
			return r, err
		}
		targets[name] = t
		const warmUp = time.Second // opens the server connections, fills the caches
		if _, err := w.put(ctx, w, t, warmUp); err != nil {
			return r, fmt.Errorf("%s: %w", name, err)
		}
	}
	for range b.rounds {
		for _, name := range names {
			f, err := b.once(ctx, w, targets[name])
			if err != nil {
				return r, fmt.Errorf("%s: %w", name, err)
			}
			fmt.Printf("  %-15s %8.0f tps   p50 %-9v p99 %-9v", name, f.tps, f.p50.Round(time.Microsecond), f.p99.Round(time.Microsecond))
			if targets[name].process != nil {
				fmt.Printf("   CPU %6.1f µs per transaction (user %.1f, system %.1f)", f.cpu(), f.user, f.system)
			}
			fmt.Println()
			r.rounds[name] = append(r.rounds[name], f)
		}
	}
	if t := targets[pgweir]; t != nil {
		if r.gc, err = collections(ctx, t); err != nil {
			return r, err
		}
	}
	return r, nil
}

// once is one measurement.
func (b *bench) once(ctx context.Context, w work, t *target) (f figures, err error) {
	sample, err := w.put(ctx, w, t, b.length)
	if err != nil {
		return f, err
	}
	user, system, err := t.sinceMark()
	if err != nil {
		return f, err
	}
	return figures{
		tps:    sample.tps,
		p50:    sample.latencies.Quantile(0.50),
		p99:    sample.latencies.Quantile(0.99),
		user:   float64(user.Microseconds()) / sample.transactions,
		system: float64(system.Microseconds()) / sample.transactions,
	}, nil
}

// medians takes the median of each figure by itself.
func medians(all []figures) figures {
	return figures{
		tps:    median(all, func(f figures) float64 { return f.tps }),
		p50:    time.Duration(median(all, func(f figures) float64 { return float64(f.p50) })),
		p99:    time.Duration(median(all, func(f figures) float64 { return float64(f.p99) })),
		user:   median(all, func(f figures) float64 { return f.user }),
		system: median(all, func(f figures) float64 { return f.system }),
	}
}

func median(all []figures, of func(figures) float64) float64 {
	values := make([]float64, len(all))
	for i, f := range all {
		values[i] = of(f)
	}
	return middle(values)
}

// middle is the median.
func middle(values []float64) float64 {
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

// collections says what pgweir's garbage collector did since its start.
func collections(ctx context.Context, t *target) (string, error) {
	rows, err := t.pooler.Console(ctx, "SHOW RUNTIME")
	if err != nil {
		return "", err
	}
	value := map[string]string{}
	for _, row := range rows {
		value[row["key"]] = row["value"]
	}
	return fmt.Sprintf("%s collections, pauses p99 %s µs, max %s µs", value["gc_count"], value["gc_pause_p99_us"], value["gc_pause_max_us"]), nil
}
