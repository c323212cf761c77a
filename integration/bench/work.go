package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pgweir/pgweir/integration/load"
)

// work is one work load, put on every target in turn.
type work struct {
	name string

	// goal bounds the ratio of pgweir's figure to PgBouncer's; zero means none.
	// The figure is CPU time per transaction unless the work says otherwise.
	goal float64

	// latency asks that pgweir's p99 be not above PgBouncer's.
	latency bool

	clients  int
	settings map[string]string // of the poolers
	login    load.Login        // user, password and TLS; empty means the user that is trusted, in clear

	// put puts the load on a target for about length. It calls the target's
	// mark when the load begins.
	put func(ctx context.Context, w work, t *target, length time.Duration) (sample, error)
}

// sample is what a load came to.
type sample struct {
	latencies    load.Histogram // of all transactions, or of some
	transactions float64
	tps          float64
}

// servers is the pool size of every work load.
const servers = 20

// workLoads are those of the report, in its order.
func (b *bench) workLoads() []work {
	loads := []work{
		{name: "select-only, simple protocol, 20 clients", goal: 1.00, clients: 20, put: pgbench("-S", "-M", "simple")},
		{name: "select-only, simple protocol, 1 client", goal: 1.00, clients: 1, put: pgbench("-S", "-M", "simple")},
		{name: "select-only, simple protocol, 400 clients", goal: 0.85, latency: true, clients: 400, put: queries(anyAccount)},
		{name: "select-only, extended protocol, 20 clients", goal: 1.00, clients: 20, put: pgbench("-S", "-M", "extended")},
		{name: "TPC-B-like, 20 clients", goal: 1.00, clients: 20, put: pgbench()},
		{name: "33 KB results, 4 clients", goal: 0.45, clients: 4, put: queries(always(page))},
		{name: "5 MB results, 4 clients", goal: 0.35, clients: 4, put: queries(always("select line from book"))},
		{name: "connect, select, disconnect; trust", goal: 1.00, clients: 8, put: logins("select 1")},
		{
			name: "connect, select, disconnect; SCRAM", goal: 1.00, clients: 8, put: logins("select 1"),
			settings: map[string]string{"auth_type": "scram-sha-256"},
			login:    load.Login{User: scramUser, Password: scramPassword},
		},
	}
	for _, kind := range []string{keyRSA, keyP256} {
		loads = append(loads,
			b.encrypted(kind, work{name: "TLS, " + kind + ": select-only, simple protocol, 20 clients", goal: 1.00, clients: 20, put: queries(anyAccount)}),
			b.encrypted(kind, work{name: "TLS, " + kind + ": 33 KB results, 4 clients", goal: 0.70, clients: 4, put: queries(always(page))}))
	}
	return loads
}

// page is a query for 33 KB.
const page = "select line from page where page = 1"

// encrypted is w with TLS between the clients and the pooler, which has a
// certificate of that kind.
func (b *bench) encrypted(kind string, w work) work {
	w.settings, w.login.TLS = b.certs.settings(kind), b.certs.client
	return w
}

// pgbench has pgbench put the load. Its log of a share of the transactions
// gives the latencies.
func pgbench(args ...string) func(context.Context, work, *target, time.Duration) (sample, error) {
	return func(ctx context.Context, w work, t *target, length time.Duration) (s sample, err error) {
		const prefix = "pgbench-latencies"
		clear := func() error { return t.bench.removeAll(prefix + "*") }
		if err := clear(); err != nil {
			return s, err
		}
		host, port, _ := strings.Cut(t.address, ":")
		if err := t.mark(); err != nil {
			return s, err
		}
		out, err := t.bench.postgres.Pgbench(ctx, append([]string{
			"-n", "-h", host, "-p", port, "-U", trustedUser,
			"-c", strconv.Itoa(w.clients), "-T", strconv.Itoa(int(length.Seconds())),
			"-l", "--log-prefix=" + t.bench.sandbox.Path(prefix), "--sampling-rate=0.2",
		}, append(args, database)...)...)
		if err != nil {
			return s, err
		}
		if _, err := fmt.Sscan(after(out, "actually processed: "), &s.transactions); err != nil {
			return s, fmt.Errorf("%w in pgbench's report:\n%s", err, out)
		}
		if _, err := fmt.Sscan(after(out, "\ntps = "), &s.tps); err != nil {
			return s, fmt.Errorf("%w in pgbench's report:\n%s", err, out)
		}
		if err := t.bench.readLatencies(prefix+"*", &s.latencies); err != nil {
			return s, err
		}
		return s, clear()
	}
}

// after returns what follows label in text, nothing if text lacks it.
func after(text, label string) string {
	_, rest, _ := strings.Cut(text, label)
	return rest
}

// queries has clients that stay connected run what sql returns, again and
// again. The work begins when all are in.
func queries(sql func() string) func(context.Context, work, *target, time.Duration) (sample, error) {
	return func(ctx context.Context, w work, t *target, length time.Duration) (s sample, err error) {
		var clients []*load.Client
		defer func() {
			for _, c := range clients {
				err = errors.Join(err, c.Close())
			}
		}()
		for range w.clients {
			c, err := load.Dial(ctx, t.login(w))
			if err != nil {
				return s, err
			}
			clients = append(clients, c)
		}
		if err := t.mark(); err != nil {
			return s, err
		}
		return together(w.clients, length, func(i int, until time.Time, record func(time.Duration)) error {
			for time.Now().Before(until) && ctx.Err() == nil {
				began := time.Now()
				if _, err := clients[i].Query(sql()); err != nil {
					return err
				}
				record(time.Since(began))
			}
			return ctx.Err()
		})
	}
}

// always returns one and the same text.
func always(sql string) func() string { return func() string { return sql } }

// anyAccount is the statement of pgbench -S.
func anyAccount() string {
	return fmt.Sprintf("SELECT abalance FROM pgbench_accounts WHERE aid = %d;", 1+rand.IntN(scale*100_000))
}

// logins has clients connect for each query.
func logins(sql string) func(context.Context, work, *target, time.Duration) (sample, error) {
	return func(ctx context.Context, w work, t *target, length time.Duration) (sample, error) {
		if err := t.mark(); err != nil {
			return sample{}, err
		}
		return together(w.clients, length, func(_ int, until time.Time, record func(time.Duration)) error {
			for time.Now().Before(until) && ctx.Err() == nil {
				began := time.Now()
				c, err := load.Dial(ctx, t.login(w))
				if err != nil {
					return err
				}
				if _, err := c.Query(sql); err != nil {
					return err
				}
				if err := c.Close(); err != nil {
					return err
				}
				record(time.Since(began))
			}
			return ctx.Err()
		})
	}
}

// together runs clients at once and returns what they recorded, and how often
// per second.
func together(clients int, length time.Duration, client func(i int, until time.Time, record func(time.Duration)) error) (sample, error) {
	var meter load.Meter
	errs := make([]error, clients)
	var all sync.WaitGroup
	began := time.Now()
	for i := range clients {
		all.Go(func() { errs[i] = client(i, began.Add(length), meter.Record) })
	}
	all.Wait()
	h := meter.Total()
	n := float64(h.Count())
	return sample{latencies: h, transactions: n, tps: n / time.Since(began).Seconds()}, errors.Join(errs...)
}

// with returns the work's pooler settings and more.
func (w work) with(more map[string]string) map[string]string {
	all := map[string]string{}
	maps.Copy(all, w.settings)
	maps.Copy(all, more)
	return all
}
