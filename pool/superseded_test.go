package pool_test

import (
	"strings"
	"testing"
	"time"

	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/pool/dial"
	"github.com/pgweir/pgweir/wire"
)

// withEntry makes a Reload that reads the database entry which line points to.
func withEntry(line *string) func(*pool.Options) {
	return func(o *pool.Options) {
		o.Reload = func(*configs.Snapshot) (*configs.Snapshot, error) {
			return configs.Parse("test", "[databases]\n"+*line+"\n[pgbouncer]\nauth_type = trust\npool_mode = transaction\n")
		}
	}
}

// unwanted reports whether r's login is to be given up.
func unwanted(r *dial.Request) bool {
	select {
	case <-r.Unwanted:
		return true
	default:
		return false
	}
}

// TestSuperseded: a RELOAD that leads an entry elsewhere gives up the logins that
// are under way. What comes of them is held against nobody, be it that they
// fail, and the next login goes to the new host at once.
func TestSuperseded(t *testing.T) {
	no := wire.Fields{Severity: "FATAL", Code: "28P01", Message: "wrong password"}
	for name, err := range map[string]error{
		"given up": &dial.LoginError{Kind: dial.Canceled, Reason: "server connection closed"},
		"failed":   &dial.LoginError{Kind: dial.ConnectFailed, Reason: "connect failed"},
		"refused":  &dial.LoginError{Kind: dial.Refused, Reason: no.Message, Server: no},
		"there":    nil,
	} {
		t.Run(name, func(t *testing.T) {
			line := "app = host=new port=5433"
			w := newWorldWith(t, "auth_type = trust\nserver_login_retry = 1000", "app = host=old", withEntry(&line))
			c := w.connect().startup("user", "alice", "database", "app")
			w.reload()
			if !unwanted(&w.dialer.asked[0]) {
				t.Error("the login is still wanted")
			}
			if err != nil {
				w.refuse(err)
			} else {
				w.serve()
			}
			if n := len(w.dialer.asked); n != 2 {
				t.Fatalf("%d logins", n)
			}
			r := w.dialer.asked[1]
			if r.Hosts[0] != "new" || r.Port != 5433 || unwanted(&r) {
				t.Errorf("the next login is at %s:%d", r.Hosts[0], r.Port)
			}
			w.serve()
			c.wantWelcome()
		})
	}
}

// TestSupersededPrivate: a login for one client alone is given up too, that of a
// replication client and that which tries a password. The next one is at the new
// host.
func TestSupersededPrivate(t *testing.T) {
	canceled := &dial.LoginError{Kind: dial.Canceled, Reason: "server connection closed"}
	begin := func(t *testing.T, auth string) judges {
		return judges{newWorldWith(t, "auth_type = "+auth+"\nserver_login_retry = 1000", "app = host=old", func(o *pool.Options) {
			o.Reload = func(*configs.Snapshot) (*configs.Snapshot, error) {
				return configs.Parse("test", "[databases]\napp = host=new\n[pgbouncer]\nauth_type = "+auth+"\n")
			}
		})}
	}
	reloaded := func(w judges) {
		w.t.Helper()
		w.reload()
		if !unwanted(&w.dialer.asked[0]) {
			w.t.Error("the login is still wanted")
		}
	}
	again := func(w judges) {
		w.t.Helper()
		if len(w.dialer.asked) != 2 {
			w.t.Fatalf("%d logins", len(w.dialer.asked))
		}
		if r := w.dialer.asked[1]; r.Hosts[0] != "new" || unwanted(&r) {
			w.t.Errorf("the next login is at %s", r.Hosts[0])
		}
	}
	for name, err := range map[string]error{"given up": canceled, "there": nil} {
		t.Run("replication, "+name, func(t *testing.T) {
			w := begin(t, "trust")
			c := w.connect().startup("user", "alice", "database", "app", "replication", "true")
			reloaded(w)
			if err != nil {
				w.refuse(err)
			} else {
				w.serve()
			}
			again(w)
			w.serve()
			c.wantWelcome()
		})
		t.Run("trial, "+name, func(t *testing.T) {
			w := begin(t, "passthrough")
			c := w.says("tulip")
			reloaded(w)
			if err != nil {
				w.refuse(err)
			} else {
				w.takes("tulip") // the old host's word is good enough
			}
			again(w)
			w.takes("tulip")
			c.wantWelcome()
		})
	}
}

// TestKilledPrivate: who has a login of its own under way hears of a KILL like
// everybody, and nothing stays that those who come later would wait for.
func TestKilledPrivate(t *testing.T) {
	w := newJudges(t, "client_login_timeout = 0", "")
	first := w.says("tulip")
	w.outside(func() {
		if err := w.p.Kill("app"); err != nil {
			t.Error(err)
		}
	})
	first.wantError("bouncer config error")
	w.refuse(&dial.LoginError{Kind: dial.Canceled, Reason: "server connection closed"})
	if err := w.p.Resume("app"); err != nil {
		t.Fatal(err)
	}
	w.settle()
	second := w.says("tulip")
	w.takes("tulip")
	second.wantWelcome()
}

// TestReloadEndsBackoff: after a RELOAD, which may have mended what was wrong, or
// a RECONNECT, the next login follows at once; not after a SET.
func TestReloadEndsBackoff(t *testing.T) {
	for name, test := range map[string]struct {
		do   func(w *world) error
		want int
	}{
		"RELOAD":    {func(w *world) error { return w.p.Reload() }, 1},
		"RECONNECT": {func(w *world) error { return w.p.Reconnect("") }, 1},
		"SET":       {func(w *world) error { return w.p.Set("default_pool_size", "5") }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			line := "app = host=old"
			w := newWorldWith(t, "auth_type = trust\nserver_login_retry = 1000\nclient_login_timeout = 0", line, withEntry(&line))
			c := w.connect().startup("user", "alice", "database", "app")
			w.refuse(&dial.LoginError{Kind: dial.ConnectFailed, Reason: "connect failed"})
			if len(w.dialer.done) > 0 {
				t.Fatal("no back-off")
			}
			w.outside(func() {
				if err := test.do(w); err != nil {
					t.Error(err)
				}
			})
			if n := len(w.dialer.done); n != test.want {
				t.Errorf("%d logins, want %d", n, test.want)
			}
			if test.want == 0 {
				w.pass(time.Second)
			}
			w.serve()
			c.wantWelcome()
		})
	}
}

// TestCancelAfterReload: a cancel request goes to where the server is, and not
// to where the entry leads by now.
func TestCancelAfterReload(t *testing.T) {
	line := "app = host=new port=5433"
	w := newWorldWith(t, "auth_type = trust\npool_mode = transaction", "app = host=old", withEntry(&line))
	c := w.connect().startup("user", "alice", "database", "app")
	w.serve()
	key := []byte(c.wantKey())
	c.send(wire.AppendQuery(nil, "select pg_sleep(10)"))
	w.reload()
	w.pass(time.Second)
	w.cancelRequest(string(key)).wantSilence()
	if sent := w.dialer.sent; len(sent) != 1 || !strings.HasPrefix(sent[0], "10.0.0.1:5432 ") {
		t.Errorf("sent %q", sent)
	}
}

// TestPoolShrinks: servers beyond a pool_size that has become less are closed
// when they are released, also while others wait for them.
func TestPoolShrinks(t *testing.T) {
	query := wire.AppendQuery(nil, "select 1")
	w := newWorld(t, "auth_type = trust\npool_mode = transaction\ndefault_pool_size = 2", "")
	var clients []*client
	var servers []*fakeConn
	for i := range 3 {
		c := w.connect().startup("user", "alice", "database", "app")
		n := len(w.loop.conns)
		if i == 0 {
			w.serve()
			servers = append(servers, w.loop.conns[n])
		}
		c.wantWelcome()
		n = len(w.loop.conns)
		c.send(query)
		if i == 1 {
			w.serve()
			servers = append(servers, w.loop.conns[n])
		}
		clients = append(clients, c)
	}
	w.outside(func() {
		if err := w.p.Set("default_pool_size", "1"); err != nil {
			t.Fatal(err)
		}
	})
	w.reply(servers[0], join(done, idle))
	if !servers[0].closed || servers[1].closed {
		t.Fatal("there are still two servers")
	}
	w.reply(servers[1], join(done, idle))
	w.reply(servers[1], join(done, idle))
	if servers[1].closed {
		t.Error("there is no server left")
	}
	for _, c := range clients {
		c.gets(done, idle)
	}
}
