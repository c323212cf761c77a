package integration

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgweir/pgweir/integration/pooler"
	"github.com/pgweir/pgweir/integration/postgres"
)

// TestReloadDuringFailover changes the entry while its primary is dead and a
// crowd waits: hosts come and go, the role that is asked for changes, and the
// size of the pool. Everybody is served as soon as one host will do, or told
// what the settings say, and nothing stays of what was before.
func TestReloadDuringFailover(t *testing.T) {
	begin(t)
	const clients, servers = 40, 5
	primary, standby := pair(t)
	nobody := folder(t)
	c := pooler.Config{
		Settings: map[string]string{"pool_mode": "transaction", "default_pool_size": fmt.Sprint(servers), "loops": "2"},
		Userlist: map[string]string{user: ""},
	}
	p := startPooler(t, appOn(c, primary.Port, "primary", standby.Socket, primary.Socket))
	base := atRest(t, p, "app")
	reload := func(attrs string, hosts ...string) {
		t.Helper()
		if err := p.Reload(testContext(t), appOn(c, primary.Port, attrs, hosts...)); err != nil {
			t.Fatal(err)
		}
		rows, err := p.Console(testContext(t), "SHOW HOSTS")
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, row := range rows {
			got = append(got, row["host"])
		}
		if !slices.Equal(got, hosts) {
			t.Errorf("the hosts are %v, want %v", got, hosts)
		}
	}
	app := startCrowd(t, p, "app", pgx.QueryExecModeExec, clients, lost)
	app.progress(t, "before", 100)
	primary.Kill()
	allWait(t, p, "app", clients)

	// A host comes, the dead one goes, and the pool gets smaller.
	c.Settings = maps.Clone(c.Settings)
	c.Settings["default_pool_size"] = "3"
	reload("primary", standby.Socket, nobody)
	wantSkipped(t, p, "app", map[string]string{standby.Socket: "server is not primary", nobody: "connect failed"})
	if err := standby.Promote(testContext(t)); err != nil {
		t.Fatal(err)
	}
	app.progress(t, "on the new primary", 1000)
	if n := app.refused.Load(); n > servers {
		t.Errorf("%d clients were told of an error, and only %d can have had a server", n, servers)
	}
	if got := standbys(t, p, "app", 3); got != 0 {
		t.Errorf("%d servers are on a standby", got)
	}
	consistent(t, p, 3)

	// The old primary is a standby now. That is not what the entry asks for,
	// until it asks for anything that is there.
	if err := primary.Follow(testContext(t), standby); err != nil {
		t.Fatal(err)
	}
	primary, standby = standby, primary
	reload("primary", standby.Socket, primary.Socket)
	app.progress(t, "with the old primary as a standby", 100)
	if err := primary.Stop(); err != nil {
		t.Fatal(err)
	}
	allWait(t, p, "app", clients)
	told := app.refused.Load()
	c.Settings["default_pool_size"] = fmt.Sprint(servers)
	reload("any", standby.Socket, primary.Socket)
	app.progress(t, "on a standby, where anything will do", 1000)
	consistent(t, p, servers)
	reload("primary", standby.Socket, primary.Socket)
	allWait(t, p, "app", clients)
	if n := app.refused.Load() - told; n > 0 {
		t.Errorf("%d clients were told that the entry has changed", n)
	}

	// Who waits for too long is told so.
	c.Settings["query_wait_timeout"] = "1"
	reload("primary", standby.Socket, primary.Socket)
	eventually(t, "everybody is told", func() error {
		n := strings.Count(p.Log(), "pooler error: query_wait_timeout: ")
		return unless(n >= clients, "%d of %d", n, clients)
	})
	delete(c.Settings, "query_wait_timeout")
	reload("primary", standby.Socket, primary.Socket)
	if err := standby.Promote(testContext(t)); err != nil {
		t.Fatal(err)
	}
	app.progress(t, "on the first primary again", 1000)
	if err := app.stop(); err != nil {
		t.Error(err)
	}
	base.check(t)
}

// TestReloadLeavesSilentHost: logins that hang at a host which does not answer
// are given up when a RELOAD leads elsewhere, and nobody waits for their end.
func TestReloadLeavesSilentHost(t *testing.T) {
	begin(t)
	primary, standby := pair(t)
	c := pooler.Config{
		Settings: map[string]string{"pool_mode": "transaction", "server_connect_timeout": "1000", "default_pool_size": "2"},
		Userlist: map[string]string{user: ""},
	}
	p := startPooler(t, appOn(c, primary.Port, "any", primary.Socket))
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
	const clients = 10
	in := make(chan error, clients)
	for range clients {
		go func() {
			conn, err := dial(testContext(t), p, "app", pgx.QueryExecModeExec)
			if err == nil {
				_, err = conn.Exec(testContext(t), "select 1")
				conn.Close(testContext(t))
			}
			in <- err
		}()
	}
	eventually(t, "logins that hang", func() error {
		rows, err := p.Console(testContext(t), "SHOW POOLS")
		if err != nil {
			return err
		}
		for _, row := range rows {
			if row["database"] == "app" && row["sv_login"] == "2" && row["cl_waiting"] == fmt.Sprint(clients) {
				return nil
			}
		}
		return fmt.Errorf("%v", rows)
	})
	if err := p.Reload(testContext(t), appOn(c, primary.Port, "any", standby.Socket)); err != nil {
		t.Fatal(err)
	}
	for range clients {
		if err := <-in; err != nil {
			t.Error(err)
		}
	}
}

// appOn is c with an entry app that names hosts.
func appOn(c pooler.Config, port int, attrs string, hosts ...string) pooler.Config {
	c.Databases = []string{fmt.Sprintf("app = host=%s port=%d dbname=%s user=%s target_session_attrs=%s",
		strings.Join(hosts, ","), port, postgres.Database, postgres.Superuser, attrs)}
	return c
}

// consistent waits until the console's commands agree on how many servers there
// are, and that is no more than most.
func consistent(t *testing.T, p *pooler.Pooler, most int) {
	t.Helper()
	eventually(t, "the console agrees with itself", func() error {
		count := func(command string, of func(pooler.Row) int) (n int) {
			rows, err := p.Console(testContext(t), command)
			if err != nil {
				t.Fatal(err)
			}
			for _, row := range rows {
				n += of(row)
			}
			return n
		}
		servers := count("SHOW SERVERS", func(pooler.Row) int { return 1 })
		pools := count("SHOW POOLS", func(row pooler.Row) (n int) {
			for column, value := range row {
				if strings.HasPrefix(column, "sv_") {
					var i int
					fmt.Sscan(value, &i)
					n += i
				}
			}
			return n
		})
		lists := count("SHOW LISTS", func(row pooler.Row) (n int) {
			if row["list"] == "used_servers" {
				fmt.Sscan(row["items"], &n)
			}
			return n
		})
		return unless(servers <= most && servers > 0 && servers == pools && servers == lists,
			"%d servers, %d in pools, %d in lists; want %d at most", servers, pools, lists, most)
	})
}
