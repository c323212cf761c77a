package integration

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgweir/pgweir/integration/pooler"
	"github.com/pgweir/pgweir/integration/postgres"
)

// peers starts n processes that are peers of each other, and tells them of each
// other by hosts: how the line of peer i+1 in section [peers] goes on. more[i] is
// one more line that process i+1 alone has.
func peers(t *testing.T, c pooler.Config, hosts []string, more ...string) (all []*pooler.Pooler) {
	t.Helper()
	for i, host := range hosts {
		c.Peers = append(c.Peers, fmt.Sprintf("%d = host=%s", i+1, host))
	}
	for i := range hosts {
		c := c
		c.Settings = maps.Clone(c.Settings)
		c.Settings["peer_id"] = fmt.Sprint(i + 1)
		if i < len(more) {
			c.Peers = append(slices.Clone(c.Peers), more[i])
		}
		host, port, _ := strings.Cut(hosts[i], " port=")
		if strings.HasPrefix(host, "/") {
			c.Settings["unix_socket_dir"] = host
		}
		var err error
		if c.Port, err = strconv.Atoi(port); err != nil {
			t.Fatal(err)
		}
		p := startMortal(t, c)
		eventually(t, "the process is up", func() error {
			return unless(strings.Contains(p.Log(), "process up"), "not yet")
		})
		all = append(all, p)
	}
	return all
}

// folder makes a folder of the sandbox for a unix socket.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := suite.sandbox.Mkdir(fmt.Sprintf("peer%d", serial.Add(1)))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// logged counts how often a text is in the logs of all.
func logged(all []*pooler.Pooler, text string) (n int) {
	for _, p := range all {
		n += strings.Count(p.Log(), text)
	}
	return n
}

// TestPeers has three processes share a port. Clients of all of them cancel
// their queries at the same time, and each request comes to one of the processes
// by chance. It reaches its query, and no other: neither those that wait for a
// request of their own, nor those of a crowd that asks for none.
func TestPeers(t *testing.T) {
	begin(t)
	const cancelers, rounds = 12, 4
	db := suite.postgres
	database := ownDatabase(t, db)
	c := config(db, database, map[string]string{"pool_mode": "transaction", "so_reuseport": "1"})
	var hosts []string
	port := freePort(t)
	for range 3 {
		hosts = append(hosts, fmt.Sprintf("%s port=%d", folder(t), port))
	}
	all := peers(t, c, hosts)
	innocent := startCrowd(t, all[0], database, pgx.QueryExecModeExec, 12)
	var workers sync.WaitGroup
	errs := make([]error, cancelers)
	for i := range cancelers {
		workers.Go(func() { errs[i] = cancelEach(testContext(t), db, all[0].DSN(user, "", database), rounds) })
	}
	workers.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	innocent.progress(t, "after the cancel requests", 100)
	if err := innocent.stop(); err != nil {
		t.Error(err)
	}
	for i, p := range all {
		if !strings.Contains(p.Log(), "login attempt: db="+database) {
			t.Errorf("process %d had no client", i+1)
		}
	}
	// One that was passed on is sent twice.
	if sent := logged(all, "successfully sent cancel request"); sent <= cancelers*rounds {
		t.Errorf("%d cancel requests were sent for %d queries: none was passed on", sent, cancelers*rounds)
	}
}

// cancelEach has a query run for long, cancels it, and so on. Nobody else may
// have cancelled it before.
func cancelEach(ctx context.Context, db *postgres.Cluster, dsn string, rounds int) error {
	watch, err := db.Connect(ctx)
	if err != nil {
		return err
	}
	defer watch.Close(context.Background())
	for range rounds {
		conn, err := pgconn.Connect(ctx, dsn) // to whichever process it is
		if err != nil {
			return err
		}
		err = cancelOnce(ctx, watch, conn, func() error { return conn.CancelRequest(ctx) })
		if err := errors.Join(err, conn.Close(ctx)); err != nil {
			return err
		}
	}
	return nil
}

func cancelOnce(ctx context.Context, watch *pgx.Conn, conn *pgconn.PgConn, cancel func() error) error {
	query := fmt.Sprintf("select pg_sleep(1000), %d", serial.Add(1))
	ended := make(chan error, 1)
	go func() {
		_, err := conn.Exec(ctx, query).ReadAll()
		ended <- err
	}()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for running := 0; running == 0; {
		select {
		case err := <-ended:
			return fmt.Errorf("%s ended before it was cancelled: %w", query, err)
		case <-tick.C:
		}
		if err := watch.QueryRow(ctx, "select count(*) from pg_stat_activity where query = $1 and state = 'active'", query).Scan(&running); err != nil {
			return err
		}
	}
	if err := cancel(); err != nil {
		return err
	}
	err := <-ended
	if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != queryCanceled {
		return fmt.Errorf("%s, cancelled, ended with: %w", query, err)
	}
	return nil
}

// TestPeersApart has three processes that a balancer might stand before: each
// has an address of its own, and wants TLS. A request reaches its query by
// whichever process it comes in. One that is for a process that is down is lost
// without harm, and one that they pass round in a circle comes to its end.
func TestPeersApart(t *testing.T) {
	begin(t)
	db := suite.postgres
	database := ownDatabase(t, db)
	c := config(db, database, map[string]string{"pool_mode": "transaction", "client_tls_sslmode": "require"})
	var hosts, circle []string
	for _, host := range []string{"127.0.0.1", "localhost", "127.0.0.1"} {
		hosts = append(hosts, fmt.Sprintf("%s port=%d", host, freePort(t)))
	}
	for i := range hosts {
		circle = append(circle, "9 = host="+hosts[(i+1)%len(hosts)])
	}
	all := peers(t, c, hosts, circle...)
	watch, err := db.Connect(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close(context.Background())
	session := func(p *pooler.Pooler) *pgconn.PgConn {
		t.Helper()
		conn, err := pgconn.Connect(testContext(t), strings.Replace(p.DSN(user, "", database), "sslmode=disable", "sslmode=require", 1))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close(context.Background()) })
		return conn
	}
	by := func(ask func(host string, port int, pid uint32, key []byte) error, p *pooler.Pooler, conn *pgconn.PgConn) func() error {
		return func() error { return ask(p.Host, p.Port, conn.PID(), conn.SecretKey()) }
	}
	for i, owner := range all {
		for j, way := range all {
			conn := session(owner)
			for _, ask := range []func(string, int, uint32, []byte) error{cancelAndHangUp, cancelAndHangUpTLS} {
				if err := cancelOnce(testContext(t), watch, conn, by(ask, way, conn)); err != nil {
					t.Errorf("a query of process %d, cancelled by way of %d: %v", i+1, j+1, err)
				}
			}
		}
	}

	round := []byte{1, 9, 0, 4, 5, 6, 7, 3} // nobody's, but each process knows whom to ask
	if err := sendCancel(all[0].Host, all[0].Port, binary.BigEndian.Uint32(round), round[4:]); err != nil {
		t.Error(err)
	}
	eventually(t, "the end of the circle", func() error {
		const exhausted = "failed to forward cancel request because its TTL was exhausted"
		return unless(strings.Contains(all[0].Log(), exhausted) && logged(all, exhausted) == 1, "not in the log")
	})

	lost := session(all[1])
	if err := all[1].Stop(); err != nil {
		t.Fatal(err)
	}
	if err := sendCancel(all[0].Host, all[0].Port, lost.PID(), lost.SecretKey()); err != nil {
		t.Error(err)
	}
	wantLog(t, all[0], "failed to send cancel request: connect failed")
	conn := session(all[0])
	if err := cancelOnce(testContext(t), watch, conn, by(cancelAndHangUp, all[2], conn)); err != nil {
		t.Errorf("beside one that is down: %v", err)
	}

	// Under a new id it still knows the keys that carry the old one.
	for _, way := range []*pooler.Pooler{all[0], all[2]} {
		conn := session(all[0])
		if _, err := all[0].Console(testContext(t), "SET peer_id = 77"); err != nil {
			t.Fatal(err)
		}
		if err := cancelOnce(testContext(t), watch, conn, by(cancelAndHangUp, way, conn)); err != nil {
			t.Errorf("after peer_id has changed, by way of port %d: %v", way.Port, err)
		}
		if _, err := all[0].Console(testContext(t), "SET peer_id = 1"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTakeover has one of two processes that share a port shut down while clients
// come and go. Nobody is told so, and there is always somebody who listens. The
// kernel may reset a connection that is being made at that very moment; how many
// those are is logged.
func TestTakeover(t *testing.T) {
	begin(t)
	db := suite.postgres
	database := ownDatabase(t, db)
	c := config(db, database, map[string]string{"pool_mode": "transaction", "so_reuseport": "1"})
	port := freePort(t)
	all := peers(t, c, []string{fmt.Sprintf("%s port=%d", folder(t), port), fmt.Sprintf("%s port=%d", folder(t), port)})
	bounded := testContext(t)
	visit := func() error {
		conn, err := dial(bounded, all[0], database, pgx.QueryExecModeExec)
		if err != nil {
			return err
		}
		_, err = conn.Exec(bounded, "select 1")
		return errors.Join(err, conn.Close(bounded))
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var visits, resets atomic.Int64
	var visitors sync.WaitGroup
	for range 16 {
		visitors.Go(func() {
			for ctx.Err() == nil {
				err := visit()
				var told *pgconn.PgError
				switch {
				case err == nil:
					visits.Add(1)
				case errors.As(err, &told), errors.Is(err, syscall.ECONNREFUSED):
					t.Error(err)
					return
				default:
					resets.Add(1)
				}
			}
		})
	}
	more := func(n int64) {
		t.Helper()
		from := visits.Load()
		eventually(t, "visits", func() error { return unless(visits.Load() >= from+n, "%d of %d", visits.Load()-from, n) })
	}
	more(200)
	signal(t, all[0], syscall.SIGTERM)
	select {
	case <-all[0].Done():
	case <-bounded.Done():
		t.Error("the process goes on")
	}
	more(200)
	cancel()
	visitors.Wait()
	t.Logf("%d visits, %d reset", visits.Load(), resets.Load())
}

// unless is an error if ok is false.
func unless(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, args...)
}
