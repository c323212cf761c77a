package pool_test

import (
	"slices"
	"testing"
	"time"

	"github.com/pgweir/pgweir/pool/dial"
	"github.com/pgweir/pgweir/wire"
)

// TestReplication has a client stream, in a transaction pool: its server is
// told what it said at login, is its own, and is closed with it.
func TestReplication(t *testing.T) {
	s, c := newStage(t, "ignore_startup_parameters = noise")
	r := s.connect().startup("user", "alice", "options", "-c a=b -d 5", "noise", "1", "replication", "database",
		"application_name", "walker", "database", "app")
	s.asked(join(reply('X'))) // the idle one, for there is one place only
	want := [][2]string{
		{"database", "app"}, {"replication", "database"}, {"options", "-c a=b -d 5"}, {"application_name", "walker"}, {"user", "alice"},
	}
	if got := s.dialer.asked[1].Params; !slices.Equal(got, want) {
		t.Errorf("the server is told %q, want %q", got, want)
	}
	n := len(s.loop.conns)
	s.serve()
	s.server = s.loop.conns[n]
	if v := param(r.wantWelcome(), "server_version"); v != "18.0" {
		t.Errorf("server_version %q", v)
	}

	// Neither the end of a query nor a name makes it anybody's.
	query := wire.AppendQuery(nil, "IDENTIFY_SYSTEM")
	r.send(query)
	s.asked(query)
	s.answers(done, idle)
	r.gets(done, idle)
	named := join(parse("mine", "select 1"), sync)
	r.send(named)
	s.asked(named)
	s.answers(reply('1'), idle)
	r.gets(reply('1'), idle)
	c.send(wire.AppendQuery(nil, "select 1"))
	s.asked(nil)

	// What is sent both ways passes, and no timeout of queries applies.
	start := wire.AppendQuery(nil, "START_REPLICATION SLOT s LOGICAL 0/0")
	r.send(start)
	s.asked(start)
	s.answers(reply('W'), request('d', "row"))
	r.gets(reply('W'), request('d', "row"))
	r.send(request('d', "status"))
	s.asked(request('d', "status"))
	r.send(reply('c'))
	s.asked(reply('c'))
	s.answers(reply('c'), done, done, idle)
	r.gets(reply('c'), done, done, idle)

	r.leave()
	s.asked(reply('X'))
	if !s.server.closed {
		t.Error("its server stays")
	}
	n = len(s.loop.conns)
	s.serve() // for c, who waited
	s.server = s.loop.conns[n]
	s.asked(wire.AppendQuery(nil, "select 1"))
	s.answers(done, idle)
	c.gets(done, idle)
}

// TestReplicationTimeouts: those of queries are not for streams.
func TestReplicationTimeouts(t *testing.T) {
	w := newWorld(t, "auth_type = trust\nquery_timeout = 1\ntransaction_timeout = 1\nidle_transaction_timeout = 1\nserver_lifetime = 1", "")
	r := w.connect().startup("user", "alice", "database", "app", "replication", "on")
	n := len(w.loop.conns)
	w.serve()
	server := w.loop.conns[n]
	r.wantWelcome()
	r.send(wire.AppendQuery(nil, "START_REPLICATION 0/0"))
	w.reply(server, reply('W'))
	w.pass(time.Hour)
	if r.closed {
		t.Fatalf("ended: %q", w.log)
	}
	// But it is closed when its server should not be used any more.
	if err := w.p.Reconnect("app"); err != nil {
		t.Fatal(err)
	}
	w.pass(time.Second)
	r.wantError("database configuration changed")
	if !server.closed {
		t.Error("the server stays")
	}
}

// TestReplicationRefused: what a server says to a replication client is no
// other's business.
func TestReplicationRefused(t *testing.T) {
	w := newWorld(t, "auth_type = trust\nserver_login_retry = 1000", "")
	r := w.connect().startup("user", "alice", "database", "app", "replication", "true")
	no := wire.Fields{Severity: "FATAL", Code: "42501", Message: "must be superuser or replication role to start walsender"}
	w.refuse(&dial.LoginError{Kind: dial.Refused, Reason: no.Message, Server: no})
	all := r.read()
	if len(all) != 1 || !r.closed || wire.ParseFields([]byte(all[0].body)) != no {
		t.Fatalf("%q, closed: %v", all, r.closed)
	}
	c := w.connect().startup("user", "alice", "database", "app")
	w.serve() // at once: nothing is held against the pool
	c.wantWelcome()

	r = w.connect().startup("user", "alice", "database", "app", "replication", "true")
	w.refuse(&dial.LoginError{Kind: dial.ConnectFailed, Reason: "connect failed"})
	r.wantError("connect failed")
}

// TestReplicationLeaves while its server is being logged in to, or while it
// waits for a place.
func TestReplicationLeaves(t *testing.T) {
	w := newWorld(t, "auth_type = trust\ndefault_pool_size = 1\nclient_login_timeout = 10\nquery_wait_timeout = 0", "")
	a := w.connect().startup("user", "alice", "database", "app", "replication", "true")
	b := w.connect().startup("user", "alice", "database", "app", "replication", "true")
	late := w.connect().startup("user", "alice", "database", "app", "replication", "true")
	a.leave()
	n := len(w.loop.conns)
	w.serve()
	if !w.loop.conns[n].closed || len(w.dialer.done) != 1 {
		t.Fatal("the server of one who left stays, or the next is not served")
	}
	w.serve()
	b.wantWelcome()
	w.pass(11 * time.Second)
	late.wantErrorDetail("client_login_timeout (server down)",
		`Waited 11.0 s for a server connection of pool "app/alice": all that the pool may have are in use (pool_size = 1).`)
}

// TestReplicationWaits in the same queue as all others.
func TestReplicationWaits(t *testing.T) {
	s, first := newStage(t, "")
	query := wire.AppendQuery(nil, "select 1")
	first.send(query)
	s.asked(query)
	second := s.join()
	second.send(query)
	r := s.connect().startup("user", "alice", "database", "app", "replication", "true")
	third := s.join()
	third.send(query)
	s.answers(done, idle)
	first.gets(done, idle)
	s.asked(query)
	s.answers(done, idle)
	second.gets(done, idle)
	s.asked(reply('X')) // r's turn: the server makes room
	n := len(s.loop.conns)
	s.serve()
	s.server = s.loop.conns[n]
	r.wantWelcome()
	third.gets()
	r.leave()
	n = len(s.loop.conns)
	s.serve()
	s.server = s.loop.conns[n]
	s.asked(query)
	s.answers(done, idle)
	third.gets(done, idle)
}

// TestReplicationPaused: a login that ends in a PAUSE has to be done again.
func TestReplicationPaused(t *testing.T) {
	w := newWorld(t, "auth_type = trust", "")
	r := w.connect().startup("user", "alice", "database", "app", "replication", "true")
	stop := make(chan struct{})
	close(stop)
	if err := w.p.Pause(stop, ""); err != nil {
		t.Fatal(err)
	}
	w.settle()
	w.serve()
	if len(r.read()) > 0 || len(w.dialer.done) > 0 {
		t.Fatal("a server in a PAUSE")
	}
	if err := w.p.Resume(""); err != nil {
		t.Fatal(err)
	}
	w.settle()
	w.serve()
	r.wantWelcome()
}
