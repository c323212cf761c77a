package integration

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgweir/pgweir/integration/pooler"
	"github.com/pgweir/pgweir/integration/postgres"
)

// pair is a primary with a standby of its own.
func pair(t *testing.T) (primary, standby *postgres.Cluster) {
	t.Helper()
	primary = ownPostgres(t)
	standby, err := primary.Standby(testContext(t), "standby")
	if err != nil {
		t.Fatal(err)
	}
	return primary, standby
}

// either is an entry that names both of a pair, over their unix sockets.
func either(primary, standby *postgres.Cluster, database, more string) string {
	return fmt.Sprintf("%s = host=%s,%s port=%d dbname=%s user=%s %s",
		database, standby.Socket, primary.Socket, primary.Port, postgres.Database, postgres.Superuser, more)
}

// standbys asks n connections, each in a transaction at the same time, whether
// they are on a standby, and returns how many are.
func standbys(t *testing.T, p *pooler.Pooler, database string, n int) (found int) {
	t.Helper()
	ctx := testContext(t)
	for range n {
		conn := connect(t, p, database, pgx.QueryExecModeExec)
		tx, err := conn.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(ctx)
		var standby bool
		if err := tx.QueryRow(ctx, "select pg_is_in_recovery()").Scan(&standby); err != nil {
			t.Fatal(err)
		}
		if standby {
			found++
		}
	}
	return found
}

// TestTargetSessionAttrs has each entry find the servers that it asks for.
func TestTargetSessionAttrs(t *testing.T) {
	begin(t)
	primary, standby := pair(t)
	c := pooler.Config{
		Settings: map[string]string{"pool_mode": "transaction"},
		Userlist: map[string]string{user: ""},
	}
	const n = 4
	want := map[string]int{"any": n / 2, "read-write": 0, "primary": 0, "read-only": n, "standby": n}
	for attrs := range want {
		c.Databases = append(c.Databases, either(primary, standby, "'"+attrs+"'", "target_session_attrs="+attrs))
	}
	p := startPooler(t, c)
	for attrs, want := range want {
		if got := standbys(t, p, attrs, n); got != want {
			t.Errorf("target_session_attrs=%s: %d of %d servers are on the standby, want %d", attrs, got, n, want)
		}
	}
}

// TestFailover has a crowd at work while its primary goes away and the standby
// becomes the primary. The clients whose servers died are told; all others wait
// and go on with the new one. Then that one is made read-only without a word,
// and back: for read-write it is left meanwhile.
func TestFailover(t *testing.T) {
	begin(t)
	const database, clients, servers = "app", 20, 5
	for _, attrs := range []string{"primary", "read-write"} {
		t.Run(attrs, func(t *testing.T) {
			t.Parallel()
			primary, standby := pair(t)
			p := startPooler(t, pooler.Config{
				Settings:  map[string]string{"pool_mode": "transaction", "default_pool_size": fmt.Sprint(servers)},
				Databases: []string{either(primary, standby, database, "target_session_attrs="+attrs)},
				Userlist:  map[string]string{user: ""},
			})
			allWait := func() error {
				rows, err := p.Console(testContext(t), "SHOW POOLS")
				if err != nil {
					return err
				}
				for _, row := range rows {
					if row["database"] == database && row["cl_waiting"] == fmt.Sprint(clients) && row["sv_active"]+row["sv_idle"]+row["sv_tested"] == "000" {
						return nil
					}
				}
				return fmt.Errorf("not everybody waits: %v", rows)
			}
			c := startCrowd(t, p, database, pgx.QueryExecModeExec, clients, lost)
			c.progress(t, "before", 100)
			if err := primary.Stop(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the primary is gone", allWait)
			rows, err := p.Console(testContext(t), "SHOW HOSTS")
			if err != nil {
				t.Fatal(err)
			}
			if len(rows) != 2 || rows[0]["reason"] != "server is not "+attrs || rows[1]["host"] != primary.Socket || rows[1]["failures"] == "0" {
				t.Errorf("SHOW HOSTS: %v", rows)
			}
			if err := standby.Promote(testContext(t)); err != nil {
				t.Fatal(err)
			}
			c.progress(t, "after the failover", 1000)
			if n := c.refused.Load(); n > servers {
				t.Errorf("%d clients were told of an error, and only %d can have had a server", n, servers)
			}
			if attrs == "read-write" {
				refused := c.refused.Load()
				readOnly(t, standby, "on")
				eventually(t, "the server is read-only", allWait)
				readOnly(t, standby, "off")
				c.progress(t, "after it may write again", 1000)
				if n := c.refused.Load() - refused; n > 0 {
					t.Errorf("%d clients were told of an error while the server was read-only", n)
				}
			}
			if err := c.stop(); err != nil {
				t.Error(err)
			}
			if got := standbys(t, p, database, servers); got != 0 {
				t.Errorf("%d servers are on a standby", got)
			}
		})
	}
}

// readOnly makes transactions read-only by default, or not, for sessions that
// are there already too.
func readOnly(t *testing.T, db *postgres.Cluster, value string) {
	t.Helper()
	for _, sql := range []string{"alter system set default_transaction_read_only = " + value, "select pg_reload_conf()"} {
		if err := db.Exec(testContext(t), sql); err != nil {
			t.Fatal(err)
		}
	}
}
