package pool_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool/dial"
	"github.com/pgweir/pgweir/wire"
)

// logIn answers the oldest login with a server on host, and returns its end of
// the connection.
func (w *world) logIn(host string) *fakeConn {
	w.t.Helper()
	n := len(w.loop.conns)
	w.dialer.next(w.t)(&dial.Session{Name: host, Host: host, Params: reported}, nil)
	w.settle()
	return w.loop.conns[n]
}

// asked takes what a server was sent, and returns the queries in it.
func (w *world) asked(server *fakeConn) string {
	w.t.Helper()
	var queries []string
	for _, m := range (&client{fakeConn: server, w: w}).read() {
		if m.typ == wire.Query {
			queries = append(queries, strings.TrimSuffix(m.body, "\x00"))
		}
	}
	return strings.Join(queries, ", ")
}

// answers has a server answer a query: with a row of RoleQuery if standby is
// not empty.
func (w *world) answers(server *fakeConn, standby string) {
	if standby != "" {
		b, at := wire.Begin(server.in, wire.DataRow)
		server.in = wire.End(append(b, "\x00\x02\x00\x00\x00\x01"+standby+"\x00\x00\x00\x03off"...), at)
	}
	b, at := wire.Begin(server.in, wire.CommandComplete)
	server.in = wire.AppendReadyForQuery(wire.End(append(b, "SELECT 1\x00"...), at), wire.TxIdle)
	w.settle()
}

var roleQuery = dial.RoleQuery(configs.SessionPrimary)

// newRoles is a world with one client, logged in, and a server on host a.
func newRoles(t *testing.T, main string) (w *world, c *client, server *fakeConn) {
	t.Helper()
	w = newWorld(t, "auth_type = trust\npool_mode = transaction\nmax_login_concurrency = 1\n"+main, "app = host=a,b target_session_attrs=primary")
	c = w.connect().startup("user", "alice", "database", "app")
	server = w.logIn("a")
	c.wantWelcome()
	return w, c, server
}

// TestRoleOfIdle: a server that is idle is asked once a second. One that is no
// longer what it should be is closed, and those in use on its host when they
// are free.
func TestRoleOfIdle(t *testing.T) {
	w, c, first := newRoles(t, "")
	c.send(wire.AppendQuery(nil, "begin"))
	d := w.connect().startup("user", "alice", "database", "app").send(wire.AppendQuery(nil, "begin"))
	second := w.logIn("a")
	w.asked(first)
	w.asked(second)
	w.answers(second, "")
	d.read()
	for range 3 {
		w.pass(1100 * time.Millisecond)
		if q := w.asked(second); q != roleQuery {
			t.Fatalf("asked %q", q)
		}
		w.answers(second, "f")
		w.pass(100 * time.Millisecond)
		if q := w.asked(second) + w.asked(first); q != "" {
			t.Fatalf("asked %q too soon, or in use", q)
		}
	}
	w.pass(1100 * time.Millisecond)
	w.answers(second, "t")
	if !second.closed || first.closed || !w.log.has("server is not primary any more") {
		t.Fatalf("closed: the idle one %v, the one in use %v", second.closed, first.closed)
	}
	w.answers(first, "")
	if got := types(c.read()); got != "CZ" || !first.closed {
		t.Errorf("the client got %q; its server is closed: %v", got, first.closed)
	}
	c.send(wire.AppendQuery(nil, "select"))
	if third := w.logIn("b"); w.asked(third) != "select" {
		t.Error("the new server has no query")
	}
}

// TestRoleThatIsNotTold: a server that can't say what it is goes, and says nothing
// about others.
func TestRoleThatIsNotTold(t *testing.T) {
	w, c, first := newRoles(t, "")
	c.send(wire.AppendQuery(nil, "begin"))
	d := w.connect().startup("user", "alice", "database", "app").send(wire.AppendQuery(nil, "begin"))
	second := w.logIn("a")
	w.answers(second, "")
	d.read()
	w.pass(1100 * time.Millisecond)
	w.asked(second)
	second.in = append(second.in, join(failed, idle)...)
	w.settle()
	w.asked(first)
	w.answers(first, "")
	if got := types(c.read()); got != "CZ" || first.closed || !second.closed {
		t.Errorf("the client got %q; closed: its server %v, the one that did not answer %v", got, first.closed, second.closed)
	}
}

// TestRoleOfBusy: where no server is ever idle one is asked when it is released.
func TestRoleOfBusy(t *testing.T) {
	w, c, server := newRoles(t, "")
	d := w.connect().startup("user", "alice", "database", "app")
	d.wantWelcome()
	for i := range 3 {
		c.send(wire.AppendQuery(nil, "select"))
		w.pass(1100 * time.Millisecond)
		w.asked(server)
		w.answers(server, "")
		if q := w.asked(server); q != roleQuery {
			t.Fatalf("round %d: asked %q", i, q)
		}
		d.send(wire.AppendQuery(nil, "next"))
		w.answers(server, "f")
		if q := w.asked(server); q != "next" {
			t.Fatalf("round %d: asked %q", i, q)
		}
		w.answers(server, "")
		if c, d := types(c.read()), types(d.read()); c != "CZ" || d != "CZ" {
			t.Errorf("round %d: the clients got %q and %q", i, c, d)
		}
	}
}

// TestRoleOfSilent: a server that does not answer is given up after
// server_connect_timeout, and with it all that are idle on its host, where
// nobody is sent for the moment.
func TestRoleOfSilent(t *testing.T) {
	w, c, first := newRoles(t, "server_connect_timeout = 5")
	c.send(wire.AppendQuery(nil, "begin"))
	d := w.connect().startup("user", "alice", "database", "app").send(wire.AppendQuery(nil, "begin"))
	second := w.logIn("a")
	for _, server := range []*fakeConn{first, second} {
		w.asked(server)
		w.answers(server, "")
	}
	w.pass(1100 * time.Millisecond)
	if q := w.asked(first) + w.asked(second); q != roleQuery {
		t.Fatalf("asked %q", q)
	}
	w.pass(4900 * time.Millisecond)
	if first.closed || second.closed {
		t.Error("given up too soon")
	}
	w.pass(200 * time.Millisecond)
	w.pass(200 * time.Millisecond)
	if !first.closed || !second.closed || !w.log.has("server does not answer") {
		t.Errorf("closed: %v, %v", first.closed, second.closed)
	}
	c.send(wire.AppendQuery(nil, "select"))
	if got := w.dialer.asked[len(w.dialer.asked)-1].Hosts; !slices.Equal(got, []string{"b"}) {
		t.Errorf("looked for on %v", got)
	}
	if third := w.logIn("b"); w.asked(third) != "select" {
		t.Error("the new server has no query")
	}
	d.leave()
}

// TestRoleOfEachHost: that a server of one host was asked says nothing of the
// others.
func TestRoleOfEachHost(t *testing.T) {
	w, c, first := newRoles(t, "")
	c.send(wire.AppendQuery(nil, "begin"))
	d := w.connect().startup("user", "alice", "database", "app").send(wire.AppendQuery(nil, "begin"))
	second := w.logIn("b")
	for _, server := range []*fakeConn{first, second} {
		w.asked(server)
	}
	w.answers(first, "") // idle, while the other one works
	for range 3 {
		w.pass(1100 * time.Millisecond)
		if q := w.asked(first); q != roleQuery {
			t.Fatalf("the idle one is asked %q", q)
		}
		w.answers(first, "f")
		w.answers(second, "")
		if q := w.asked(second); q != roleQuery {
			t.Fatalf("the busy one is asked %q", q)
		}
		w.answers(second, "f")
		d.send(wire.AppendQuery(nil, "next"))
		if q := w.asked(second); q != "next" {
			t.Fatalf("the busy one is asked %q", q)
		}
	}
}

// TestPreferStandby: one that was a standby, and is none any more, is left for
// another; one that was taken because there was none stays.
func TestPreferStandby(t *testing.T) {
	for _, standby := range []bool{true, false} {
		w := newWorld(t, "auth_type = trust\npool_mode = transaction", "app = host=a,b target_session_attrs=prefer-standby")
		w.connect().startup("user", "alice", "database", "app")
		w.dialer.next(t)(&dial.Session{Name: "a", Host: "a", Params: reported, Standby: standby}, nil)
		w.settle()
		server := w.loop.conns[len(w.loop.conns)-1]
		w.pass(1100 * time.Millisecond)
		if q := w.asked(server); q != roleQuery {
			t.Fatalf("asked %q", q)
		}
		w.answers(server, "f")
		if server.closed != standby {
			t.Errorf("a server that was a standby (%v) and is a primary is closed: %v", standby, server.closed)
		}
	}
}

// TestRoleOfUnused: a server that was unused for long is checked, and then
// asked, before it is used again.
func TestRoleOfUnused(t *testing.T) {
	w, c, server := newRoles(t, "server_check_delay = 0.1\nserver_check_query = check")
	w.pass(200 * time.Millisecond)
	w.asked(server)
	c.send(wire.AppendQuery(nil, "select"))
	if q := w.asked(server); q != "check" {
		t.Fatalf("asked %q", q)
	}
	w.answers(server, "")
	if q := w.asked(server); q != roleQuery {
		t.Fatalf("asked %q", q)
	}
	w.answers(server, "t")
	if !server.closed {
		t.Error("a standby is still there")
	}
	if next := w.logIn("b"); w.asked(next) != "select" {
		t.Error("the new server has no query")
	}
}
