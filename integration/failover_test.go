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
	t.Parallel()
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

// TestFailover has a crowd write while its primary goes away and the standby
// becomes the primary. The clients whose servers died are told, the others
// wait, and all go on with the new one. Then the old one comes back as what it
// was, and is made read-only: it is left again.
func TestFailover(t *testing.T) {
	t.Parallel()
	for _, attrs := range []string{"primary", "read-write"} {
		t.Run(attrs, func(t *testing.T) {
			t.Parallel()
			primary, standby := pair(t)
			const database = "app"
			p := startPooler(t, pooler.Config{
				Settings:  map[string]string{"pool_mode": "transaction", "max_client_conn": "1000", "default_pool_size": "5"},
				Databases: []string{either(primary, standby, database, "target_session_attrs="+attrs)},
				Userlist:  map[string]string{user: ""},
			})
			c := startCrowd(t, p, database, pgx.QueryExecModeExec, 20, lost)
			c.progress(t, "before", 100)
			if err := primary.Stop(); err != nil {
				t.Fatal(err)
			}
			waiting := connected(t, p, database, 20)
			eventually(t, "clients that wait", func() error { return waiting(10) })
			if err := standby.Promote(testContext(t)); err != nil {
				t.Fatal(err)
			}
			c.progress(t, "after", 1000)
			if err := c.stop(); err != nil {
				t.Error(err)
			}
			if got := standbys(t, p, database, 5); got != 0 {
				t.Errorf("%d servers are on a standby", got)
			}
		})
	}
}
