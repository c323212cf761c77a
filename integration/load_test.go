package integration

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgweir/pgweir/integration/pooler"
	"github.com/pgweir/pgweir/integration/postgres"
)

// The size of the crowd, and of the pool that it shares.
const (
	manyClients = 400
	fewServers  = 20
)

// loadTime is how long a load lasts.
const loadTime = 2 * time.Second

// manyLoops has the pool's servers and clients on several loops, whatever the
// machine has.
const manyLoops = 3

// manyOverFew is the configuration of a transaction pool for a crowd.
func manyOverFew(db *postgres.Cluster, database string, more map[string]string) pooler.Config {
	settings := map[string]string{
		"default_pool_size": strconv.Itoa(fewServers),
		"max_client_conn":   strconv.Itoa(2 * manyClients),
		"pool_mode":         "transaction",
	}
	if !suite.pgbouncer {
		settings["loops"] = strconv.Itoa(manyLoops)
	}
	maps.Copy(settings, more)
	return config(db, database, settings)
}

// TestPgbench has pgbench check that each client gets its own rows, by the
// simple and by the extended protocol.
func TestPgbench(t *testing.T) {
	begin(t)
	db := suite.postgres
	database := ownDatabase(t, db)
	p := startPooler(t, manyOverFew(db, database, nil))
	base := atRest(t, p, database)

	// A client that gets another one's row divides by zero, which ends it and
	// fails the run.
	const script = `\set what random(1, 1000000000)
select :client_id as who, :what as what \gset got_
\if :got_who <> :client_id or :got_what <> :what
select 1/0;
\endif
begin;
select :client_id as who, :what + 1 as what \gset got_
select set_config('pgweir.owner', :client_id || '.' || :what, true);
select current_setting('pgweir.owner') = :client_id || '.' || :what as mine \gset got_
\if :got_who <> :client_id or :got_what <> :what + 1 or not :got_mine
select 1/0;
\endif
commit;
`
	path, err := suite.sandbox.WriteFile("own-rows.sql", []byte(script))
	if err != nil {
		t.Fatal(err)
	}
	for _, protocol := range []string{"simple", "extended"} {
		watch := watchLimit(t, db, fewServers, database)
		out, err := db.Pgbench(testContext(t), "-n", "-f", path, "-M", protocol,
			"-c", strconv.Itoa(manyClients), "-j", "2", "-T", strconv.Itoa(int(2*loadTime.Seconds())),
			"-h", p.Host, "-p", strconv.Itoa(p.Port), "-U", user, database)
		if err != nil {
			t.Fatalf("%s: %v\n%s", protocol, err, out)
		}
		watch.stop(t)
		if !strings.Contains(out, "number of failed transactions: 0 (") {
			t.Errorf("%s:\n%s", protocol, out)
		}
	}
	base.check(t)
}

// TestManyClients has a crowd run tagged work in each way that a driver can
// phrase it.
func TestManyClients(t *testing.T) {
	begin(t)
	for _, loops := range []int{1, manyLoops} {
		if suite.pgbouncer && loops > 1 {
			continue
		}
		t.Run(fmt.Sprintf("loops=%d", loops), func(t *testing.T) { manyOver(t, loops) })
	}
}

func manyOver(t *testing.T, loops int) {
	settings := map[string]string{}
	if !suite.pgbouncer {
		settings["loops"] = strconv.Itoa(loops)
	}
	db := suite.postgres
	database := ownDatabase(t, db)
	p := startPooler(t, manyOverFew(db, database, settings))
	base := atRest(t, p, database)
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeExec} {
		watch := watchLimit(t, db, fewServers, database)
		c := startCrowd(t, p, database, mode, manyClients)
		c.runFor(t, loadTime)
		if err := c.stop(); err != nil {
			t.Errorf("%v: %v", mode, err)
		}
		watch.stop(t)
		if n := c.done.Load(); n < manyClients {
			t.Errorf("%v: only %d pieces of work were done", mode, n)
		}
	}
	base.check(t)
}

// A crowd is many clients that work until they are told to stop.
type crowd struct {
	done    atomic.Int64 // pieces of work
	refused atomic.Int64 // errors that the test allows, each followed by a new connection
	cancel  context.CancelFunc
	workers sync.WaitGroup

	mu   sync.Mutex
	errs []error
}

// tolerance says which errors the clients of a crowd take in their stride: they
// connect anew.
type tolerance func(error) bool

// startCrowd starts a crowd in which all are the same user.
func startCrowd(t *testing.T, p *pooler.Pooler, database string, mode pgx.QueryExecMode, clients int, allow ...tolerance) *crowd {
	t.Helper()
	return startMixedCrowd(t, []string{p.DSN(user, "", database)}, mode, clients, allow...)
}

// startMixedCrowd starts a crowd that comes in by the given URLs, turn by turn,
// and returns when all are in.
func startMixedCrowd(t *testing.T, urls []string, mode pgx.QueryExecMode, clients int, allow ...tolerance) *crowd {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background()) // no deadline: a slow machine takes its time
	c := &crowd{cancel: cancel}
	var connected sync.WaitGroup
	connected.Add(clients)
	for id := range clients {
		c.workers.Go(func() { c.client(ctx, urls[id%len(urls)], mode, id, connected.Done, allow) })
	}
	t.Cleanup(func() { c.stop() })
	connected.Wait()
	return c
}

// client is one of the crowd. It tells by connected when it is in, or will
// never be.
func (c *crowd) client(ctx context.Context, url string, mode pgx.QueryExecMode, id int, connected func(), allow []tolerance) {
	in := sync.OnceFunc(connected)
	defer in()
	for ctx.Err() == nil {
		err := func() error {
			conn, err := dialURL(ctx, url, mode)
			if err != nil {
				return err
			}
			defer conn.Close(context.Background())
			in()
			for n := 0; ctx.Err() == nil; n++ {
				// Work in hand is finished: a client that leaves in the midst of
				// a transaction is another test.
				if err := ownRows(context.WithoutCancel(ctx), conn, id, n); err != nil {
					return err
				}
				c.done.Add(1)
			}
			return nil
		}()
		if err == nil || ctx.Err() != nil {
			continue
		}
		allowed := false
		for _, a := range allow {
			allowed = allowed || a(err)
		}
		if !allowed {
			c.mu.Lock()
			c.errs = append(c.errs, fmt.Errorf("client %d: %w", id, err))
			c.mu.Unlock()
			c.cancel()
			return
		}
		c.refused.Add(1)
	}
}

// errNotMine means that a client got what it had not asked for.
var errNotMine = errors.New("a reply to somebody else")

// ownRows does one of several kinds of work and checks each row of it.
func ownRows(ctx context.Context, conn *pgx.Conn, id, n int) error {
	tag := fmt.Sprintf("client %d, piece %d", id, n)
	mine := func(got string) error {
		if got != tag {
			return fmt.Errorf("%w: %q instead of %q", errNotMine, got, tag)
		}
		return nil
	}
	one := func(q interface {
		QueryRow(context.Context, string, ...any) pgx.Row
	}, sql string, args ...any,
	) error {
		var got string
		if err := q.QueryRow(ctx, sql, args...).Scan(&got); err != nil {
			return err
		}
		return mine(got)
	}
	switch n % 5 {
	case 0:
		return one(conn, "select $1::text", tag)
	case 1: // many rows
		rows, err := conn.Query(ctx, "select $1::text from generate_series(1, 50)", tag)
		if err != nil {
			return err
		}
		all, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		if len(all) != 50 {
			return fmt.Errorf("%w: %s has %d rows of 50", errNotMine, tag, len(all))
		}
		for _, got := range all {
			if err := mine(got); err != nil {
				return err
			}
		}
		return nil
	case 2: // a transaction, whose settings are its own
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "select set_config('pgweir.owner', $1, true)", tag); err != nil {
				return err
			}
			return one(tx, "select current_setting('pgweir.owner')")
		})
	case 3: // an error, after which the connection is as good as before
		var pgErr *pgconn.PgError
		err := one(conn, "select ($1::text)::int::text", tag)
		if !errors.As(err, &pgErr) || pgErr.Code != "22P02" {
			return fmt.Errorf("%s: a text that is no number gave %w", tag, cmp.Or(err, errors.New("no error")))
		}
		if !strings.Contains(pgErr.Message, strconv.Quote(tag)) {
			return fmt.Errorf("%w: error %q instead of one about %q", errNotMine, pgErr.Message, tag)
		}
		return nil
	default: // a pipeline
		var batch pgx.Batch
		for range 5 {
			batch.Queue("select $1::text", tag)
		}
		results := conn.SendBatch(ctx, &batch)
		for range 5 {
			if err := one(batchRows{results}, ""); err != nil {
				return errors.Join(err, results.Close())
			}
		}
		return results.Close()
	}
}

// batchRows gives the results of a batch the shape of a connection.
type batchRows struct{ pgx.BatchResults }

func (b batchRows) QueryRow(context.Context, string, ...any) pgx.Row {
	return b.BatchResults.QueryRow()
}

// runFor lets the crowd work.
func (c *crowd) runFor(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-testContext(t).Done():
	}
}

// progress waits until the crowd has done n more pieces of work.
func (c *crowd) progress(t *testing.T, what string, n int64) {
	t.Helper()
	from := c.done.Load()
	eventually(t, what, func() error {
		if done := c.done.Load() - from; done < n {
			return fmt.Errorf("%d of %d pieces of work are done; %w", done, n, c.err())
		}
		return nil
	})
}

func (c *crowd) err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Join(c.errs...)
}

// stop has the clients finish and leave. It returns what they complain of.
func (c *crowd) stop() error {
	c.cancel()
	c.workers.Wait()
	return c.err()
}

// limitWatch samples the number of backends of some databases.
type limitWatch struct {
	cancel context.CancelFunc
	ended  chan struct{}

	samples int
	most    atomic.Int64
	err     error
	limit   int
	staying int           // for how many samples on end a backend must be there to count
	last    map[int32]int // the backends, and in how many samples on end each was seen
	stayed  int           // how many were there long enough to count, at most
}

// watchLimit watches pg_stat_activity until stop. A backend whose connection the
// pooler has closed, to open another, is seen until it has noticed and gone: it
// does not count against the limit, nor does one that is seen for less than 200 ms.
func watchLimit(t *testing.T, db *postgres.Cluster, limit int, databases ...string) *limitWatch {
	t.Helper()
	return watchBackends(t, db, limit, 10, databases)
}

// watchStrictly is watchLimit where each backend counts for as long as Postgres
// itself says that it is there.
func watchStrictly(t *testing.T, db *postgres.Cluster, limit int, databases ...string) *limitWatch {
	t.Helper()
	return watchBackends(t, db, limit, 1, databases)
}

func watchBackends(t *testing.T, db *postgres.Cluster, limit, staying int, databases []string) *limitWatch {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w := &limitWatch{cancel: cancel, ended: make(chan struct{}), limit: limit, staying: staying}
	t.Cleanup(cancel)
	conn, err := db.Connect(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(w.ended)
		defer conn.Close(context.Background())
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			var pids, ports []int32
			const query = "select coalesce(array_agg(pid), '{}'), coalesce(array_agg(client_port), '{}') from pg_stat_activity where backend_type = 'client backend' and datname = any($1)"
			if w.err = conn.QueryRow(context.Background(), query, databases).Scan(&pids, &ports); w.err != nil {
				return
			}
			if staying > 1 && len(pids) > limit {
				if pids, w.err = connected(pids, ports, db.Port); w.err != nil {
					return
				}
			}
			w.sample(pids)
			<-tick.C
		}
	}()
	return w
}

// connected returns those of the backends whose client, at its port, has not closed
// the connection to the server's port. Where the system does not tell, that is all.
func connected(pids, ports []int32, server int) (open []int32, err error) {
	table, err := os.ReadFile("/proc/net/tcp")
	if errors.Is(err, fs.ErrNotExist) {
		return pids, nil
	}
	if err != nil {
		return nil, err
	}
	const established = "01"
	clients := map[int32]bool{}
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line)
		var local, remote int32
		if _, err := fmt.Sscanf(f[1]+" "+f[2], "0100007F:%X 0100007F:%X", &local, &remote); err == nil && f[3] == established && remote == int32(server) {
			clients[local] = true
		}
	}
	for i, pid := range pids {
		if clients[ports[i]] {
			open = append(open, pid)
		}
	}
	return open, nil
}

// sample notes which backends there are.
func (w *limitWatch) sample(pids []int32) {
	w.samples++
	w.most.Store(max(w.most.Load(), int64(min(len(pids), w.limit))))
	seen, stay := map[int32]int{}, 0
	for _, pid := range pids {
		seen[pid] = w.last[pid] + 1
		if seen[pid] >= w.staying {
			stay++
		}
	}
	w.last, w.stayed = seen, max(w.stayed, stay)
}

// seen is the largest number of backends so far, the limit at most.
func (w *limitWatch) seen() int { return int(w.most.Load()) }

// stop fails the test if the limit was ever exceeded.
func (w *limitWatch) stop(t *testing.T) {
	t.Helper()
	w.cancel()
	<-w.ended
	switch {
	case w.err != nil:
		t.Errorf("watching pg_stat_activity: %v", w.err)
	case w.stayed > w.limit:
		t.Errorf("pg_stat_activity showed %d backends, the limit is %d", w.stayed, w.limit)
	case w.seen() == 0:
		t.Errorf("pg_stat_activity showed no backend in %d samples", w.samples)
	}
}
