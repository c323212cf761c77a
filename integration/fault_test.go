package integration

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgweir/pgweir/integration/postgres"
)

// lost allows what a client meets when its server dies: an error that ends the
// session, or the end of the connection. A wrong reply is never allowed.
func lost(err error) bool {
	if errors.Is(err, errNotMine) {
		return false
	}
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		const connectionException, operatorIntervention = "08", "57"
		class := pgErr.Code[:2]
		return pgErr.Severity == "FATAL" || class == connectionException || class == operatorIntervention
	}
	return true
}

// soonAgain has the pooler try anew soon after a server could not be opened.
var soonAgain = map[string]string{"server_login_retry": "0.2"}

// faultClients is the size of the crowd that lives through a fault.
const faultClients = 100

// TestServerDies kills servers under load, in every way.
func TestServerDies(t *testing.T) {
	begin(t)
	faults := map[string]func(*testing.T, *postgres.Cluster, string){
		"pg_terminate_backend": func(t *testing.T, db *postgres.Cluster, database string) {
			if err := db.Exec(testContext(t), "select pg_terminate_backend(pid) from pg_stat_activity where datname = '"+database+"'"); err != nil {
				t.Fatal(err)
			}
		},
		"kill -9 of a backend": func(t *testing.T, db *postgres.Cluster, database string) {
			conn, err := db.Connect(testContext(t))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(context.Background())
			var pid int
			if err := conn.QueryRow(testContext(t), "select pid from pg_stat_activity where datname = $1 limit 1", database).Scan(&pid); err != nil {
				t.Fatal(err)
			}
			// Postgres ends all the other backends as well, and recovers.
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		},
		"restart of Postgres": func(t *testing.T, db *postgres.Cluster, _ string) {
			if err := db.Restart(testContext(t)); err != nil {
				t.Fatal(err)
			}
		},
		"kill -9 of Postgres": func(t *testing.T, db *postgres.Cluster, _ string) {
			db.Kill()
			if err := db.Restart(testContext(t)); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := ownPostgres(t)
			database := ownDatabase(t, db)
			p := startPooler(t, manyOverFew(db, database, soonAgain))
			base := atRest(t, p, database)
			c := startCrowd(t, p, database, pgx.QueryExecModeExec, faultClients, lost)
			c.progress(t, "before", faultClients)
			fault(t, db, database)
			c.progress(t, "after", 10*faultClients)
			if err := c.stop(); err != nil {
				t.Error(err)
			}
			base.check(t)
		})
	}
}

// TestClientsDie kills a process full of clients in the midst of their
// transactions, next to a crowd that must not notice.
func TestClientsDie(t *testing.T) {
	begin(t)
	db := suite.postgres
	database := ownDatabase(t, db)
	p := startPooler(t, manyOverFew(db, database, nil))
	base := atRest(t, p, database)
	path, err := suite.sandbox.WriteFile("dying.sql", []byte("begin;\nselect pg_sleep(0.01), repeat('x', 100000);\nselect pg_sleep(0.01);\ncommit;\n"))
	if err != nil {
		t.Fatal(err)
	}
	c := startCrowd(t, p, database, pgx.QueryExecModeExec, faultClients)
	for range 3 {
		ctx, kill := context.WithCancel(testContext(t))
		ended := make(chan error, 1)
		go func() {
			_, err := db.Pgbench(ctx, "-n", "-f", path, "-c", "50", "-T", "60",
				"-h", p.Host, "-p", strconv.Itoa(p.Port), "-U", user, database)
			ended <- err
		}()
		eventually(t, "the clients that are to die", func() error {
			rows, err := p.Console(testContext(t), "SHOW CLIENTS")
			if err != nil {
				return err
			}
			if len(rows) < faultClients+50+1 {
				return fmt.Errorf("%d clients", len(rows))
			}
			return nil
		})
		kill()
		if err := <-ended; err == nil {
			t.Error("pgbench ended by itself")
		}
	}
	c.progress(t, "after", 10*faultClients)
	if err := c.stop(); err != nil {
		t.Error(err)
	}
	base.check(t)
}

// TestSlowReaders has clients that ask for much and read nothing: the pooler's
// memory stays bounded, and others are served meanwhile. When they read at
// last, everything is there.
func TestSlowReaders(t *testing.T) {
	begin(t)
	const readers, rows, width = 15, 200, 100_000 // 20 MB each
	db := suite.postgres
	database := ownDatabase(t, db)
	p := startPooler(t, manyOverFew(db, database, nil))
	base := atRest(t, p, database)

	var slow []*rawConn
	query := encoded(t, "Query", fmt.Sprintf("select repeat(chr(65 + i %% 26), %d) from generate_series(1, %d) i", width, rows))
	for range readers {
		conn, err := login(testContext(t), fmt.Sprintf("%s:%d", p.Host, p.Port), user, database)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.close()
		if _, err := conn.Write(query); err != nil {
			t.Fatal(err)
		}
		slow = append(slow, conn)
	}
	c := startCrowd(t, p, database, pgx.QueryExecModeExec, faultClients)
	c.progress(t, "beside slow readers", 20*faultClients)
	if err := c.stop(); err != nil {
		t.Error(err)
	}
	rss, _, err := p.Memory()
	if err != nil {
		t.Fatal(err)
	}
	// 300 MB are waiting. What the pooler may hold of it is far less.
	if bound := int64(128 << 20); rss > bound {
		t.Errorf("the pooler takes %d MB while slow readers wait for 300 MB", rss>>20)
	}
	for _, conn := range slow {
		replies, err := conn.exchange(nil, "Z", 0)
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		for _, r := range replies {
			if r.typ == 'D' {
				got++
				const header = 2 + 4 // number of columns, length of the first
				if want := byte(65 + got%26); len(r.body) != header+width || r.body[header] != want || r.body[len(r.body)-1] != want {
					t.Fatalf("row %d is %v", got, r)
				}
			}
		}
		if got != rows {
			t.Errorf("%d rows of %d", got, rows)
		}
		conn.close()
	}
	base.check(t)
}

// encoded makes one message of the client.
func encoded(t *testing.T, words ...string) []byte {
	t.Helper()
	m, err := encode(words)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestClientsLeave has clients go away at every point of their work, without a
// word: none of it may reach those who come next.
func TestClientsLeave(t *testing.T) {
	begin(t)
	db := suite.postgres
	database := ownDatabase(t, db)
	p := startPooler(t, manyOverFew(db, database, nil))
	base := atRest(t, p, database)
	c := startCrowd(t, p, database, pgx.QueryExecModeExec, faultClients)
	messages := map[string][]byte{
		"half a query":       encoded(t, "Query", "select 1")[:7],
		"a query":            encoded(t, "Query", "select pg_sleep(0.01), repeat('x', 100000)"),
		"a transaction":      encoded(t, "Query", "begin; select set_config('pgweir.owner', 'gone', false)"),
		"a failed one":       encoded(t, "Query", "begin; select 1/0"),
		"a parse, no sync":   encoded(t, "Parse", "", "select 'gone'"),
		"a flush":            append(encoded(t, "Parse", "", "select 'gone'"), encoded(t, "Flush")...),
		"a copy":             append(encoded(t, "Query", "copy pg_class from stdin"), encoded(t, "CopyData", "gone\n")...),
		"a large result":     encoded(t, "Query", "select repeat('x', 1000000) from generate_series(1, 20)"),
		"a malformed header": {'Q', 0, 0, 0, 1},
		"an unknown message": {0xff, 0, 0, 0, 4},
	}
	for range 10 {
		for what, bytes := range messages {
			conn, err := login(testContext(t), fmt.Sprintf("%s:%d", p.Host, p.Port), user, database)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Write(bytes); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if err := conn.Conn.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	c.progress(t, "after", 10*faultClients)
	if err := c.stop(); err != nil {
		t.Error(err)
	}
	base.check(t)
}
