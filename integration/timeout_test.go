package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// farewell reads until the pooler closes the connection, and returns the
// message of the last error it sent.
func (c *rawConn) farewell() (string, error) {
	last := ""
	for {
		r, err := c.receive()
		if errors.Is(err, io.EOF) {
			return last, nil
		}
		if err != nil {
			return last, err
		}
		if r.typ == 'E' {
			for field := range bytes.SplitSeq(r.body, []byte{0}) {
				if len(field) > 0 && field[0] == 'M' {
					last = string(field[1:])
				}
			}
		}
	}
}

// TestTimeouts has a client run into each timeout: it is told which one, and
// nobody else notices.
func TestTimeouts(t *testing.T) {
	begin(t)
	const soon = "0.3"
	for _, test := range []struct {
		setting string
		send    []string // queries, each answered, but for the last
		text    string
		newer   bool // than Debian's PgBouncer
	}{
		{setting: "query_wait_timeout", send: []string{"select 'waits'"}, text: "query_wait_timeout"},
		{setting: "query_timeout", send: []string{"select pg_sleep(100)"}, text: "query timeout"},
		{setting: "idle_transaction_timeout", send: []string{"begin", ""}, text: "idle transaction timeout"},
		{setting: "transaction_timeout", send: []string{"begin", "select pg_sleep(100)"}, text: "transaction timeout", newer: true},
		{setting: "client_idle_timeout", send: []string{""}, text: "client_idle_timeout"}, // its clock runs from the login on
	} {
		t.Run(test.setting, func(t *testing.T) {
			t.Parallel()
			db := suite.postgres
			database := ownDatabase(t, db)
			p := startPooler(t, manyOverFew(db, database, map[string]string{"default_pool_size": "2"}))
			if test.newer && suite.pgbouncer {
				t.Skip("this PgBouncer does not know it")
			}
			base := atRest(t, p, database)
			// For query_wait_timeout, somebody must hold the servers.
			var holders []*pgx.Conn
			if test.setting == "query_wait_timeout" {
				for range 2 {
					conn := connect(t, p, database, pgx.QueryExecModeExec)
					if _, err := conn.Begin(testContext(t)); err != nil {
						t.Fatal(err)
					}
					holders = append(holders, conn)
				}
			}
			conn, err := login(testContext(t), fmt.Sprintf("%s:%d", p.Host, p.Port), user, database)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.close()
			for i, sql := range test.send {
				if sql == "" {
					continue // nothing more: the client idles
				}
				await := "Z"
				if i == len(test.send)-1 {
					await = ""
				}
				if _, err := conn.exchange(encoded(t, "Query", sql), await, 0); err != nil {
					t.Fatal(err)
				}
			}
			// Only now, lest the timeout comes before the client is where it should be.
			if err := p.Reload(testContext(t), manyOverFew(db, database, map[string]string{"default_pool_size": "2", test.setting: soon})); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			if text, err := conn.farewell(); err != nil || text != test.text {
				t.Errorf("the pooler says %q, %v; want %q", text, err, test.text)
			}
			if took := time.Since(began); took > patience/2 { // by default they are longer, or none
				t.Errorf("it took %v", took)
			}
			for _, conn := range holders {
				if _, err := conn.Exec(testContext(t), "commit"); err != nil {
					t.Errorf("a client that did nothing wrong: %v", err)
				}
				if err := conn.Close(testContext(t)); err != nil {
					t.Error(err)
				}
			}
			if err := p.Reload(testContext(t), manyOverFew(db, database, map[string]string{"default_pool_size": "2"})); err != nil {
				t.Fatal(err)
			}
			base.check(t)
		})
	}
}

// TestLoginTimeout has a client connect and say nothing.
func TestLoginTimeout(t *testing.T) {
	begin(t)
	db := suite.postgres
	p := startPooler(t, config(db, ownDatabase(t, db), map[string]string{"client_login_timeout": "0.3"}))
	socket, err := net.Dial("tcp", net.JoinHostPort(p.Host, fmt.Sprint(p.Port)))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	conn := &rawConn{Conn: socket}
	if err := conn.SetDeadline(time.Now().Add(patience / 2)); err != nil {
		t.Fatal(err)
	}
	if text, err := conn.farewell(); err != nil || text != "client_login_timeout" {
		t.Errorf("the pooler says %q, %v; want client_login_timeout", text, err)
	}
}

// TestServersGrowOld closes servers that are idle, or old, and opens new ones.
func TestServersGrowOld(t *testing.T) {
	begin(t)
	db := suite.postgres
	for _, setting := range []string{"server_idle_timeout", "server_lifetime"} {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			database := ownDatabase(t, db)
			p := startPooler(t, manyOverFew(db, database, map[string]string{setting: "1"}))
			conn := connect(t, p, database, pgx.QueryExecModeExec)
			backend := func() (pid int) {
				t.Helper()
				if err := conn.QueryRow(testContext(t), "select pg_backend_pid()").Scan(&pid); err != nil {
					t.Fatal(err)
				}
				return pid
			}
			first := backend()
			eventually(t, "the server's end", func() error {
				rows, err := p.Console(testContext(t), "SHOW SERVERS")
				if err != nil {
					return err
				}
				if len(rows) > 0 {
					return fmt.Errorf("SHOW SERVERS: %v", rows)
				}
				return nil
			})
			if second := backend(); second == first {
				t.Errorf("server %d is still there", first)
			}
		})
	}
}

// TestUnreachableServer tells clients what is wrong, and serves them when it is
// right again.
func TestUnreachableServer(t *testing.T) {
	begin(t)
	db := ownPostgres(t)
	database := ownDatabase(t, db)
	settings := map[string]string{"server_login_retry": "0.2"}
	p := startPooler(t, manyOverFew(db, database, settings))
	base := atRest(t, p, database)
	settings["query_wait_timeout"] = "2"
	if err := p.Reload(testContext(t), manyOverFew(db, database, settings)); err != nil {
		t.Fatal(err)
	}
	if err := db.Stop(); err != nil {
		t.Fatal(err)
	}
	conn, err := login(testContext(t), fmt.Sprintf("%s:%d", p.Host, p.Port), user, database)
	if err == nil {
		_, err = conn.exchange(encoded(t, "Query", "select 1"), "Z", 0)
		conn.close()
	}
	if err == nil {
		t.Error("a query was answered without a server")
	}
	if err := db.Restart(testContext(t)); err != nil {
		t.Fatal(err)
	}
	c := startCrowd(t, p, database, pgx.QueryExecModeExec, 10, lost)
	c.progress(t, "after", 100)
	if err := c.stop(); err != nil {
		t.Error(err)
	}
	base.check(t)
}
