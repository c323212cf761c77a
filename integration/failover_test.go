package integration

import (
	"errors"
	"fmt"
	"strings"
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
		defer tx.Commit(ctx)
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
	want := map[string]int{"any": n / 2, "read-write": 0, "primary": 0, "read-only": n, "standby": n, "prefer-standby": n}
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

// TestFailover has two crowds at work, on the primary and on the standby, while
// the primary goes away and the standby becomes the primary. The clients whose
// servers died are told; all others wait and go on with the new one. Then the
// old primary comes back as a standby, and serves as that alone.
func TestFailover(t *testing.T) {
	begin(t)
	const clients, servers = 40, 5
	for _, attrs := range []string{"primary", "read-write"} {
		t.Run(attrs, func(t *testing.T) {
			t.Parallel()
			primary, standby := pair(t)
			p := startPooler(t, pooler.Config{
				Settings: map[string]string{"pool_mode": "transaction", "default_pool_size": fmt.Sprint(servers), "loops": "2"},
				Databases: []string{
					either(primary, standby, "app", "target_session_attrs="+attrs),
					either(primary, standby, "replica", "target_session_attrs=standby"),
					either(primary, standby, "any", "target_session_attrs=prefer-standby"),
				},
				Userlist: map[string]string{user: ""},
			})
			for _, end := range []string{"kill -9", "shutdown"} {
				app := startCrowd(t, p, "app", pgx.QueryExecModeExec, clients, lost)
				replica := startCrowd(t, p, "replica", pgx.QueryExecModeExec, clients/4)
				app.progress(t, "before the "+end, 100)
				replica.progress(t, "the standby before the "+end, 100)
				if end == "kill -9" {
					primary.Kill()
				} else if err := primary.Stop(); err != nil {
					t.Fatal(err)
				}
				allWait(t, p, "app", clients)
				wantSkipped(t, p, "app", map[string]string{standby.Socket: "server is not " + attrs, primary.Socket: ""})
				if err := standby.Promote(testContext(t)); err != nil {
					t.Fatal(err)
				}
				app.progress(t, "after the "+end, 1000)
				if n := app.refused.Load(); n > servers {
					t.Errorf("%s: %d clients were told of an error, and only %d can have had a server", end, n, servers)
				}
				allWait(t, p, "replica", clients/4)
				wantSkipped(t, p, "replica", map[string]string{standby.Socket: "server is not standby"})
				if got := standbys(t, p, "any", 1); got != 0 {
					t.Error("there is no standby, and one was found")
				}
				if err := primary.Follow(testContext(t), standby); err != nil {
					t.Fatal(err)
				}
				primary, standby = standby, primary
				replica.progress(t, "the old primary as a standby", 100)
				for _, c := range []*crowd{app, replica} {
					if err := c.stop(); err != nil {
						t.Error(err)
					}
				}
				if got := standbys(t, p, "app", servers); got != 0 {
					t.Errorf("%s: %d servers of the primary's are on a standby", end, got)
				}
				if got := standbys(t, p, "replica", servers); got != servers {
					t.Errorf("%s: %d servers of the standby's are on a standby, want %d", end, got, servers)
				}
			}
		})
	}
}

// TestSilentPrimary has the primary stop answering, as a machine that lost its
// power does, and the standby take its place. The servers that are idle are
// given up, so that nobody is given one of them.
func TestSilentPrimary(t *testing.T) {
	begin(t)
	const servers = 5
	primary, standby := pair(t)
	p := startPooler(t, pooler.Config{
		Settings:  map[string]string{"pool_mode": "transaction"},
		Databases: []string{either(primary, standby, "app", "target_session_attrs=primary")},
		Userlist:  map[string]string{user: ""},
	})
	conn := connect(t, p, "app", pgx.QueryExecModeExec)
	if got := standbys(t, p, "app", servers); got != 0 {
		t.Fatalf("%d servers are on the standby", got)
	}
	set(t, p, "server_connect_timeout", "1")
	thaw, err := primary.Freeze(testContext(t))
	if thaw != nil {
		t.Cleanup(func() {
			if err := thaw(); err != nil {
				t.Error(err)
			}
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "no server is left", func() error {
		rows, err := p.Console(testContext(t), "SHOW SERVERS")
		return errors.Join(err, unless(len(rows) == 0, "%v", rows))
	})
	wantSkipped(t, p, "app", map[string]string{primary.Socket: "server does not answer"})
	set(t, p, "server_connect_timeout", "15")
	if err := standby.Promote(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(testContext(t), "create table written ()"); err != nil {
		t.Error(err)
	}
}

// TestReadOnlyForAWhile has a primary made read-only without a word, and back.
// For read-write it is left meanwhile, and nobody hears of it.
func TestReadOnlyForAWhile(t *testing.T) {
	begin(t)
	const clients = 20
	primary, standby := pair(t)
	p := startPooler(t, pooler.Config{
		Settings:  map[string]string{"pool_mode": "transaction", "default_pool_size": "5"},
		Databases: []string{either(primary, standby, "app", "target_session_attrs=read-write")},
		Userlist:  map[string]string{user: ""},
	})
	c := startCrowd(t, p, "app", pgx.QueryExecModeExec, clients)
	c.progress(t, "before", 100)
	readOnly(t, primary, "on")
	allWait(t, p, "app", clients)
	readOnly(t, primary, "off")
	c.progress(t, "after it may write again", 1000)
	if err := c.stop(); err != nil {
		t.Error(err)
	}
}

// allWait waits until that many clients of a database wait, and it has no
// server.
func allWait(t *testing.T, p *pooler.Pooler, database string, clients int) {
	t.Helper()
	eventually(t, "everybody waits", func() error {
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
	})
}

// wantSkipped waits until hosts of a database fail, and the reasons begin as
// reasons says.
func wantSkipped(t *testing.T, p *pooler.Pooler, database string, reasons map[string]string) {
	t.Helper()
	eventually(t, "hosts that are skipped", func() error {
		rows, err := p.Console(testContext(t), "SHOW HOSTS")
		for _, row := range rows {
			if why, ok := reasons[row["host"]]; ok && row["database"] == database && (row["failures"] == "0" || !strings.HasPrefix(row["reason"], why)) {
				err = errors.Join(err, fmt.Errorf("%v, want it skipped because: %s", row, why))
			}
		}
		return err
	})
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
