package integration

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgweir/pgweir/integration/pooler"
	"github.com/pgweir/pgweir/integration/sandbox"
)

// TestPeers has two processes share a port. A client's cancel request comes to
// either of them, and reaches its query all the same.
func TestPeers(t *testing.T) {
	begin(t)
	db := suite.postgres
	database := ownDatabase(t, db)
	var dirs []string
	for id := 1; id <= 2; id++ {
		dir, err := suite.sandbox.Mkdir(fmt.Sprintf("peer%d", serial.Add(1)))
		if err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, dir)
	}
	port, err := sandbox.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	c := config(db, database, nil)
	c.Port = port
	var all [2]*pooler.Pooler
	for i := range all {
		c.Settings = map[string]string{
			"pool_mode": "transaction", "so_reuseport": "1", "peer_id": fmt.Sprint(i + 1), "unix_socket_dir": dirs[i],
		}
		c.Peers = nil
		for j, dir := range dirs {
			c.Peers = append(c.Peers, fmt.Sprintf("%d = host=%s port=%d", j+1, dir, port))
		}
		all[i] = startPooler(t, c)
		p := all[i]
		eventually(t, "the process is up", func() error {
			return unless(strings.Contains(p.Log(), "process up"), "not yet")
		})
	}
	watch, err := db.Connect(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close(context.Background())
	const cancels = 24
	for range cancels {
		conn := connect(t, all[0], database, pgx.QueryExecModeExec)
		ended := make(chan error, 1)
		go func() {
			_, err := conn.PgConn().Exec(testContext(t), "select pg_sleep(60)").ReadAll()
			ended <- err
		}()
		eventually(t, "the query runs", func() error {
			var n int
			err := watch.QueryRow(testContext(t), "select count(*) from pg_stat_activity where datname = $1 and state = 'active'", database).Scan(&n)
			return errors.Join(err, unless(n == 1, "%d queries run", n))
		})
		if err := conn.PgConn().CancelRequest(testContext(t)); err != nil {
			t.Error(err)
		}
		var e *pgconn.PgError
		if err := <-ended; !errors.As(err, &e) || e.Code != queryCanceled {
			t.Fatalf("a cancelled query ended with %v", err)
		}
		conn.Close(testContext(t))
	}
	sent := 0
	for i, p := range all {
		n := strings.Count(p.Log(), "successfully sent cancel request")
		if n == 0 {
			t.Errorf("process %d sent no cancel request", i+1)
		}
		sent += n
	}
	if sent <= cancels { // one that was passed on is sent twice
		t.Errorf("%d cancel requests were sent for %d queries: none was passed on", sent, cancels)
	}
}

// unless is an error if ok is false.
func unless(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, args...)
}
