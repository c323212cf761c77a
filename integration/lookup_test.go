package integration

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgweir/pgweir/integration/pooler"
	"github.com/pgweir/pgweir/integration/postgres"
)

// TestSlowLookups: while an auth_query, or an LDAP server, does not answer, no
// login waits longer than client_login_timeout, all others come in, and nothing
// of the question stays.
func TestSlowLookups(t *testing.T) {
	begin(t)
	db := ownPostgres(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // its backlog takes connections, and nobody answers
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	hba := write(t, suite.sandbox, fmt.Sprintf("hba%d.conf", serial.Add(1)), fmt.Appendf(nil,
		"host all nina all ldap ldapserver=127.0.0.1 ldapport=%d ldapprefix=uid=\nhost all all all scram-sha-256\n", silent.Addr().(*net.TCPAddr).Port))
	p := startPooler(t, pooler.Config{
		Settings: map[string]string{
			"auth_type": "hba", "auth_hba_file": hba, "client_login_timeout": "3600", "auth_dbname": "who",
			"auth_query": "select $1::text, 'none'::text from pg_sleep(600)",
		},
		Databases: []string{
			fmt.Sprintf("quick = host=%s port=%d dbname=%s", db.Host, db.Port, postgres.Database),
			fmt.Sprintf("slow = host=%s port=%d dbname=%s auth_user=%s", db.Host, db.Port, postgres.Database, postgres.Superuser),
			fmt.Sprintf("who = host=%s port=%d dbname=%s pool_size=2", db.Host, db.Port, postgres.Database),
		},
		Userlist: map[string]string{postgres.Superuser: "tulip"},
	})
	visit := func(user, database string) error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		conn, err := pgconn.Connect(ctx, p.DSN(user, "tulip", database))
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, "select 1").ReadAll()
		return err
	}
	asked := func(want int) error {
		rows, err := p.Console(testContext(t), "SHOW SERVERS")
		n := 0
		for _, row := range rows {
			if row["database"] == "who" && row["state"] == "active" {
				n++
			}
		}
		if err == nil && n != want {
			err = fmt.Errorf("%d servers are asked, want %d", n, want)
		}
		return err
	}
	var slow sync.WaitGroup
	var seen atomic.Bool
	come := func(user, database, otherwise string) {
		slow.Go(func() {
			for again := true; again; again = !seen.Load() {
				err := visit(user, database)
				if err == nil || !strings.Contains(err.Error(), "client_login_timeout (SQLSTATE 08P01)") && !strings.Contains(err.Error(), otherwise) {
					t.Errorf("%s to %s: %v", user, database, err)
				}
			}
		})
	}
	for i := range 20 {
		come("nina", "quick", "LDAP authentication failed") // is given up after three seconds
		come("stranger", "slow", "client_login_timeout (server down)")
		come(fmt.Sprint("stranger", i), "slow", "client_login_timeout (server down)")
	}
	eventually(t, "auth_query", func() error { return asked(2) }) // the pool has no more
	seen.Store(true)
	for range 10 {
		for _, database := range []string{"quick", "slow"} {
			if err := visit(postgres.Superuser, database); err != nil {
				t.Errorf("a known user to %s: %v", database, err)
			}
		}
	}
	set(t, p, "client_login_timeout", "1")
	slow.Wait()
	eventually(t, "auth_query", func() error { return asked(0) })
}

// TestLookupsGivenUp: an auth_query that hangs does not stay in Postgres when
// pgweir gives it up, whatever the reason.
func TestLookupsGivenUp(t *testing.T) {
	begin(t)
	db := ownPostgres(t)
	watch, err := db.Connect(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { watch.Close(context.Background()) })
	working := func(name string, want int) func() error {
		return func() error {
			var n int
			err := watch.QueryRow(testContext(t), "select count(*) from pg_stat_activity where application_name = $1 and query like '%pg_sleep(600)%'", name).Scan(&n)
			if err == nil && n != want {
				err = fmt.Errorf("%d backends are at work, want %d", n, want)
			}
			return err
		}
	}
	for _, tt := range []struct {
		name   string
		mortal bool
		leave  bool   // before the end
		set    string // a setting to 1, before the end
		end    func(p *pooler.Pooler) error
	}{
		{name: "late", set: "client_login_timeout"},
		{name: "query_timeout", set: "query_timeout"},
		{name: "alone", leave: true},
		{name: "killed", end: func(p *pooler.Pooler) error { _, err := p.Console(testContext(t), "KILL app"); return err }},
		{name: "last", leave: true, mortal: true, end: func(p *pooler.Pooler) error { return p.Signal(syscall.SIGTERM) }},
		{name: "drained", set: "sigterm_grace", mortal: true, end: func(p *pooler.Pooler) error {
			_, err := p.Console(testContext(t), "SHUTDOWN DRAIN")
			return err
		}},
	} {
		c := pooler.Config{
			Settings: map[string]string{
				"auth_type": "plain", "auth_user": postgres.Superuser, "auth_query": "select $1::text, 'none'::text from pg_sleep(600)",
			},
			Databases: []string{fmt.Sprintf("app = host=%s port=%d dbname=%s application_name=%s", db.Host, db.Port, postgres.Database, tt.name)},
			Userlist:  map[string]string{postgres.Superuser: ""},
		}
		start := startPooler
		if tt.mortal {
			start = startMortal
		}
		p := start(t, c)
		ctx, leave := context.WithCancel(testContext(t))
		var visit sync.WaitGroup
		visit.Go(func() {
			if conn, err := pgconn.Connect(ctx, p.DSN("nina", "tulip", "app")); err == nil {
				conn.Close(ctx)
				t.Errorf("%s: let in", tt.name)
			}
		})
		eventually(t, tt.name, working(tt.name, 1))
		if tt.set != "" {
			set(t, p, tt.set, "1")
		}
		if tt.end != nil {
			if err := tt.end(p); err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
		}
		if tt.leave {
			leave()
		}
		eventually(t, tt.name, working(tt.name, 0))
		leave()
		visit.Wait()
		if tt.mortal {
			select {
			case <-p.Done():
			case <-testContext(t).Done():
				t.Errorf("%s: the process does not end", tt.name)
			}
		}
	}
}
