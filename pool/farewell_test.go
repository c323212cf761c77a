package pool_test

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/pool/dial"
	"github.com/pgweir/pgweir/wire"
)

// newFarewell makes a world with room for three servers, two of a pool, where
// Postgres takes its time to say goodbye.
func newFarewell(t *testing.T, change func(*pool.Options)) *world {
	return newFarewellWith(t, "default_pool_size = 2", change)
}

// newFarewellWith is newFarewell, with what else allows two servers.
func newFarewellWith(t *testing.T, limit string, change func(*pool.Options)) *world {
	return newWorldWith(t, "auth_type = trust\npool_mode = transaction\nserver_round_robin = 1\nplan = gold\n"+limit+
		"\n[plans]\ngold = max_server_connections=3", "", change)
}

// client is one of alice's, who logs in.
func (w *world) client(params ...string) *client {
	return w.connect().startup(append([]string{"user", "alice", "database", "app"}, params...)...)
}

// servesNext answers the next login, and returns the server's end.
func (w *world) servesNext() *fakeConn {
	w.t.Helper()
	n := len(w.loop.conns)
	w.serve()
	return w.loop.conns[n]
}

// farewells are the connections on l that only wait for their end.
func (l *fakeLoop) farewells() (all []*fakeConn) {
	for _, c := range l.conns {
		switch c.handler.(type) {
		case *pool.Client, *pool.Server:
		default:
			if !c.closed {
				all = append(all, c)
			}
		}
	}
	return all
}

// endFarewells has Postgres close the connections that wait for that.
func endFarewells(loops ...*fakeLoop) {
	for _, l := range loops {
		for _, f := range l.farewells() {
			f.closed = true
			f.handler.Closed(nil)
		}
	}
}

// live is what a server says to pgweir's question what it allows: enough.
func live() []byte {
	const limits = "100 -1 -1"
	out, at := wire.Begin(nil, wire.DataRow)
	out = binary.BigEndian.AppendUint32(append(out, 0, 1), uint32(len(limits)))
	return join(wire.End(append(out, limits...), at), done, idle)
}

// TestServedDuringFarewell: a replication client has an idle server closed, for
// its pool is full. While that takes its leave, the other one serves those behind.
func TestServedDuringFarewell(t *testing.T) {
	query := wire.AppendQuery(nil, "select 1")
	w := newFarewell(t, func(*pool.Options) {})
	a := w.client()
	first := w.servesNext()
	w.reply(first, live())
	a.wantWelcome()
	b := w.client()
	b.wantWelcome()
	a.send(query)
	b.send(query)
	second := w.servesNext()
	w.reply(first, join(done, idle))
	w.reply(second, join(done, idle))
	a.gets(done, idle)
	b.gets(done, idle)

	r := w.client("replication", "true")
	farewells := w.loop.farewells()
	if !first.closed || len(farewells) != 1 || len(w.dialer.done) > 0 {
		t.Fatalf("the pool is full, and no server says goodbye: %q", w.log)
	}
	second.out = nil
	a.send(query)
	b.send(query)
	if string(second.out) != string(query) {
		t.Fatal("nobody is served by an idle server during a farewell")
	}
	w.reply(second, join(done, idle))
	a.gets(done, idle)
	w.reply(second, join(done, idle))
	b.gets(done, idle)

	endFarewells(w.loop)
	w.settle()
	w.serve()
	r.wantWelcome()
	if second.closed {
		t.Error("two servers were closed for one client")
	}
}

// serveEach lets a client in for each startup packet, by a server of its own, and
// returns the servers.
func (w *world) serveEach(startups ...[]string) (servers []*fakeConn) {
	w.t.Helper()
	for _, params := range startups {
		c := w.connect().startup(params...)
		servers = append(servers, w.servesNext())
		w.reply(servers[len(servers)-1], live())
		c.wantWelcome()
	}
	return servers
}

// inPlaceOfOne has a client come for whom there is room when the first of two
// servers has said goodbye: no second one is closed for the same client.
func (w *world) inPlaceOfOne(servers []*fakeConn, params ...string) {
	w.t.Helper()
	c := w.connect().startup(params...)
	w.pass(time.Second)
	if !servers[0].closed || servers[1].closed || len(w.dialer.done) > 0 {
		w.t.Fatalf("closed: %v, %v; %d logins", servers[0].closed, servers[1].closed, len(w.dialer.done))
	}
	endFarewells(w.loop)
	w.settle()
	w.reply(w.servesNext(), live())
	c.wantWelcome()
	if servers[1].closed {
		w.t.Error("two servers were closed for one client")
	}
}

// TestFarewellForAnother: while one server says goodbye for a client of another
// pool, no second one is closed for the same client.
func TestFarewellForAnother(t *testing.T) {
	w := newWorld(t, "auth_type = trust\npool_mode = transaction\nmax_db_connections = 2\nplan = gold\n"+
		"[plans]\ngold = max_server_connections=9", "")
	servers := w.serveEach([]string{"user", "alice", "database", "app"}, []string{"user", "hash", "database", "app"})
	w.inPlaceOfOne(servers, "user", "watch", "database", "app")
}

// TestFarewellOfARemovedPool is the same where the server that says goodbye is of an
// entry that a RELOAD has taken out of the file meanwhile.
func TestFarewellOfARemovedPool(t *testing.T) {
	const settings = "auth_type = any\npool_mode = transaction\nmax_user_connections = 2\nplan = gold\n" +
		"[plans]\ngold = max_server_connections=9"
	w := newWorldWith(t, settings, "a = host=db user=owner\nb = host=db user=owner\nc = host=db user=owner", func(o *pool.Options) {
		o.Reload = func(*configs.Snapshot) (*configs.Snapshot, error) {
			return configs.Parse("test", "[databases]\nb = host=db user=owner\nc = host=db user=owner\n[pgbouncer]\n"+settings+"\n")
		}
	})
	servers := w.serveEach([]string{"user", "alice", "database", "a"}, []string{"user", "alice", "database", "b"})
	w.outside(func() {
		if err := w.p.Kill("a"); err != nil {
			t.Error(err)
		}
	})
	w.reload()
	w.inPlaceOfOne(servers, "user", "alice", "database", "c")
}

// TestFarewellIsBounded: a server that never ends, as on a machine that is gone,
// keeps its slot for so long and no longer.
func TestFarewellIsBounded(t *testing.T) {
	query := wire.AppendQuery(nil, "select 1")
	w := newFarewell(t, func(*pool.Options) {})
	a, b := w.client(), w.client()
	first := w.servesNext()
	w.reply(first, live())
	for _, c := range []*client{a, b} {
		c.wantWelcome()
		c.send(query)
	}
	w.reply(w.servesNext(), join(done, idle))
	w.reply(first, join(done, idle))

	r := w.client("replication", "true")
	farewells := w.loop.farewells()
	w.pass(wire.Linger - time.Millisecond)
	if len(farewells) != 1 || len(w.dialer.done) > 0 {
		t.Fatalf("%d servers say goodbye, and %d are opened meanwhile", len(farewells), len(w.dialer.done))
	}
	w.pass(time.Millisecond)
	if !farewells[0].closed {
		t.Error("the connection stays open")
	}
	w.serve()
	r.wantWelcome()
}

// TestFarewellAcrossLoops: on one loop the oldest client waits for the end of a
// farewell, and on another one a younger client for a server. The next one that
// is released goes to that, and not to and fro between the loops.
func TestFarewellAcrossLoops(t *testing.T) {
	for _, limit := range []string{"default_pool_size = 2", "max_user_connections = 2", "max_db_connections = 2"} {
		t.Run(limit, func(t *testing.T) { testFarewellAcrossLoops(t, limit) })
	}
}

func testFarewellAcrossLoops(t *testing.T, limit string) {
	query := wire.AppendQuery(nil, "select 1")
	other := &fakeLoop{}
	w := newFarewellWith(t, limit, func(o *pool.Options) { o.Loops = append(o.Loops, other) })
	loops := []*fakeLoop{w.loop, other}
	tick := func() {
		for _, l := range loops {
			l.now = w.loop.now.Add(10 * time.Millisecond)
		}
	}
	run := func() (turns int) {
		t.Helper()
		for turns = 0; len(w.loop.posted)+len(other.posted) > 0 || turns < 2; turns++ {
			if turns == 100 {
				t.Fatal("the loops don't come to rest")
			}
			for _, l := range loops {
				l.run()
			}
		}
		w.p.Check(len(w.dialer.done) == 0)
		tick()
		return turns
	}
	come := func(i int, more ...string) *client {
		n := len(loops[i].conns)
		w.p.Worker(i).Accept(tcp)
		c := &client{fakeConn: loops[i].conns[n], w: w}
		c.in = startup(3<<16, append([]string{"user", "alice", "database", "app"}, more...)...)
		run()
		return c
	}
	ask := func(c *client) {
		c.in = append(c.in, query...)
		run()
	}
	serve := func() {
		t.Helper()
		w.dialer.next(t)(&dial.Session{Params: reported, Key: make([]byte, 8)}, nil)
		run()
	}
	// answer has every server answer that was asked.
	answer := func() (n int) {
		for _, l := range loops {
			for _, c := range l.conns {
				_, server := c.handler.(*pool.Server)
				switch {
				case !server || c.closed || len(c.out) == 0:
				case bytes.Contains(c.out, []byte("max_connections")):
					c.in, c.out = live(), nil
				default:
					c.in, c.out = join(done, idle), nil
					n++
				}
			}
		}
		run()
		return n
	}
	tick()
	b := come(1)
	serve()
	answer()
	b.wantWelcome()
	c := come(1)
	c.wantWelcome()
	ask(b)
	ask(c)
	serve()
	if n := answer(); n != 2 {
		t.Fatalf("%d servers were asked", n)
	}
	b.gets(done, idle)
	c.gets(done, idle)

	r := come(0, "replication", "true")
	ask(b)
	ask(c)
	if err := w.p.Set("verbose", "1"); err != nil { // after which each loop looks what there is for its waiters
		t.Fatal(err)
	}
	run()
	for range 2 {
		if n := answer(); n != 1 {
			t.Fatalf("%d servers were asked, want the one that is left", n)
		}
	}
	b.gets(done, idle)
	c.gets(done, idle)
	endFarewells(loops...)
	run()
	serve()
	r.wantWelcome()
	for _, c := range []*client{b, c, r} {
		c.closed = true
		c.handler.Closed(nil)
		run()
	}
	endFarewells(loops...)
	run()
}
