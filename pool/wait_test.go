package pool_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/pool/dial"
	"github.com/pgweir/pgweir/wire"
)

// reasons are why those who wait do so, and what SHOW WAITS has to say, as
// "reason waiting count total".
func (w *world) reasons() (now, waits string) {
	var reasons, sums []string
	w.outside(func() {
		for _, c := range w.p.Clients() {
			if c.WaitReason != pool.WaitNone {
				reasons = append(reasons, c.WaitReason.String())
			}
		}
		for _, s := range w.p.Waits() {
			sums = append(sums, fmt.Sprintf("%v %d %d %v", s.Reason, s.Waiting, s.Count, s.Total))
		}
	})
	return strings.Join(slices.Compact(reasons), " "), strings.Join(sums, ", ")
}

var query = wire.AppendQuery(nil, "select 1")

// TestWaitReasons: each thing that keeps a client waiting is called by its name.
func TestWaitReasons(t *testing.T) {
	// Each function gets a world in which alice has a server that she uses, and
	// returns the client that waits.
	waits := func(w *world, database string) *client {
		c := w.connect().startup("user", "alice", "database", database)
		return c.send(query)
	}
	for _, r := range []struct {
		reason, settings, detail string
		wait                     func(w *world) *client
	}{
		{"server_login", "default_pool_size = 5", "one is being opened", nil},
		{"pool_size", "default_pool_size = 1", "all that the pool may have are in use (pool_size = 1)", nil},
		{
			"reserve_pool_timeout", "default_pool_size = 1\nreserve_pool_size = 1\nreserve_pool_timeout = 100",
			"all that the pool may have are in use (pool_size = 1), and its reserve opens after reserve_pool_timeout", nil,
		},
		{"max_db_connections", "max_db_connections = 1", "all that the database may have are in use (max_db_connections = 1)", nil},
		{"max_user_connections", "max_user_connections = 1", "all that the user may have are in use (max_user_connections = 1)", nil},
		{"max_login_concurrency", "max_login_concurrency = 1", "others are being opened (max_login_concurrency = 1)", func(w *world) *client {
			waits(w, "app")
			return waits(w, "app")
		}},
		{"server_login_retry", "server_login_retry = 1000", "the last attempt to open one failed (connect failed)", func(w *world) *client {
			c := waits(w, "app")
			for range 12 { // the back-off grows to more than the test waits
				w.refuse(&dial.LoginError{Kind: dial.ConnectFailed, Reason: "connect failed"})
				if len(w.dialer.done) == 0 {
					w.pass(500 * time.Second)
				}
			}
			return c
		}},
		{"pause", "default_pool_size = 5", "the database is paused", func(w *world) *client {
			w.outside(func() {
				done := make(chan struct{})
				close(done)
				w.p.Pause(done, "app")
			})
			return waits(w, "app")
		}},
	} {
		t.Run(r.reason, func(t *testing.T) {
			w := newWorld(t, "auth_type = trust\npool_mode = transaction\nquery_wait_timeout = 0\n"+r.settings, "")
			first := w.connect().startup("user", "alice", "database", "app")
			w.serve()
			first.send(query)
			wait := r.wait
			if wait == nil {
				wait = func(w *world) *client { return waits(w, "app") }
			}
			c := wait(w)
			if now, _ := w.reasons(); now != r.reason {
				t.Errorf("waits for %q", now)
			}
			w.outside(func() { w.p.Set("query_wait_timeout", "10") })
			w.pass(11 * time.Second)
			all := c.read()
			f := wire.ParseFields([]byte(all[len(all)-1].body))
			if f.Message != "query_wait_timeout" || !strings.HasPrefix(f.Detail, "Waited ") ||
				!strings.HasSuffix(f.Detail, ` s for a server connection of pool "app/alice": `+r.detail+".") {
				t.Errorf("was told %+v", f)
			}
			if !w.log.has("pooler error: query_wait_timeout: " + f.Detail) {
				t.Errorf("the log does not say so: %q", w.log)
			}
		})
	}
}

// TestWaitSums: a wait for several reasons is told apart.
func TestWaitSums(t *testing.T) {
	w := newWorld(t, "auth_type = trust\npool_mode = transaction\ndefault_pool_size = 1", "")
	a := w.connect().startup("user", "alice", "database", "app")
	server := len(w.loop.conns)
	w.pass(time.Second)
	w.serve()
	a.send(query)
	b := w.connect().startup("user", "alice", "database", "app").send(query)
	w.pass(2 * time.Second)
	if now, waits := w.reasons(); now != "pool_size" || waits != "server_login 0 1 1s, pool_size 1 0 0s" {
		t.Errorf("now %q, sums %q", now, waits)
	}
	w.outside(func() {
		done := make(chan struct{})
		close(done)
		w.p.Pause(done, "")
	})
	w.pass(3 * time.Second)
	w.outside(func() { w.p.Resume("") })
	w.pass(time.Second)
	v := w.loop.conns[server]
	v.handler.Data(replies('C', 'Z'))
	w.settle()
	if now, waits := w.reasons(); now != "" || waits != "server_login 0 1 1s, pool_size 0 1 3s, pause 0 1 3s" {
		t.Errorf("now %q, sums %q", now, waits)
	}
	v.handler.Data(replies('C', 'Z'))
	w.settle()
	if got := types(b.read()); !strings.HasSuffix(got, "CZ") {
		t.Errorf("got %q", got)
	}
}

// TestQueryTimeoutOfLogins: for as long as a query may take a login waits for
// its pool's first server, as in PgBouncer.
func TestQueryTimeoutOfLogins(t *testing.T) {
	w := newWorld(t, "auth_type = trust\nquery_timeout = 3", "")
	c := w.connect().startup("user", "alice", "database", "app")
	w.pass(2 * time.Second)
	if c.closed {
		t.Fatal("ended too early")
	}
	w.pass(2 * time.Second)
	c.wantErrorDetail("query_timeout", `Waited 4.0 s for a server connection of pool "app/alice": one is being opened.`)
}
