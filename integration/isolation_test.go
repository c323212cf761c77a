package integration

import (
	"fmt"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

// TestSessionsLeaveNothing has a client of a session pool use everything that a
// session can keep, and leave. The next one, on the same server, finds a fresh
// session.
func TestSessionsLeaveNothing(t *testing.T) {
	begin(t)
	db := suite.postgres
	database := ownDatabase(t, db)
	p := startPooler(t, config(db, database, map[string]string{"pool_mode": "session", "default_pool_size": "1"}))
	base := atRest(t, p, database)

	first := connect(t, p, database, pgx.QueryExecModeSimpleProtocol)
	var server int
	if err := first.QueryRow(testContext(t), "select pg_backend_pid()").Scan(&server); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		"create temporary table mine ()",
		"prepare mine as select 1",
		"set work_mem = '12345kB'",
		"set application_name = 'mine'",
		"select pg_advisory_lock(1)",
		"listen mine",
		"select set_config('pgweir.mine', 'yes', false)",
	} {
		if _, err := first.Exec(testContext(t), sql); err != nil {
			t.Fatal(err)
		}
	}
	if err := first.Close(testContext(t)); err != nil {
		t.Fatal(err)
	}

	second := connect(t, p, database, pgx.QueryExecModeSimpleProtocol)
	var same int
	var left string
	err := second.QueryRow(testContext(t), `select pg_backend_pid(), concat_ws(', ',
		(select 'a temporary table' from pg_class where relname = 'mine'),
		(select 'a prepared statement' from pg_prepared_statements where name = 'mine'),
		(select 'work_mem' where current_setting('work_mem') = '12345kB'),
		(select 'application_name' where current_setting('application_name') = 'mine'),
		(select 'an advisory lock' from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()),
		(select 'a channel' from pg_listening_channels()),
		(select 'a setting' where current_setting('pgweir.mine', true) <> ''))`).Scan(&same, &left)
	if err != nil {
		t.Fatal(err)
	}
	if same != server {
		t.Errorf("the second client has server %d, the first had %d: the test tests nothing", same, server)
	}
	if left != "" {
		t.Errorf("the first client left %s", left)
	}
	if err := second.Close(testContext(t)); err != nil {
		t.Fatal(err)
	}
	base.check(t)
}

// TestParametersFollowClients has clients with parameters of their own share
// one server, turn by turn: each finds its own in each transaction, whether it
// came with them or set them.
func TestParametersFollowClients(t *testing.T) {
	begin(t)
	db := suite.postgres
	database := ownDatabase(t, db)
	p := startPooler(t, manyOverFew(db, database, map[string]string{"default_pool_size": "2"}))
	base := atRest(t, p, database)
	zones := []string{"Asia/Tokyo", "Europe/Vienna", "America/Lima", "UTC"}
	var all sync.WaitGroup
	errs := make([]error, 20)
	for i := range errs {
		all.Go(func() {
			errs[i] = func() error {
				name, zone := fmt.Sprintf("client %d's own", i), zones[i%len(zones)]
				config, err := pgx.ParseConfig(p.DSN(user, "", database))
				if err != nil {
					return err
				}
				config.DefaultQueryExecMode = pgx.QueryExecModeExec
				config.RuntimeParams["application_name"] = name
				config.RuntimeParams["timezone"] = zone
				conn, err := pgx.ConnectConfig(testContext(t), config)
				if err != nil {
					return err
				}
				defer conn.Close(testContext(t))
				for n := range 50 {
					if n == 25 {
						name += `, changed: it's "quoted" \ so`
						if _, err := conn.Exec(testContext(t), "select set_config('application_name', $1, false)", name); err != nil {
							return err
						}
					}
					var gotName, gotZone string
					if err := conn.QueryRow(testContext(t), "select current_setting('application_name'), current_setting('timezone')").Scan(&gotName, &gotZone); err != nil {
						return err
					}
					if gotName != name || gotZone != zone {
						return fmt.Errorf("client %d, turn %d: %q and %q, want %q and %q", i, n, gotName, gotZone, name, zone)
					}
				}
				return nil
			}()
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	base.check(t)
}
