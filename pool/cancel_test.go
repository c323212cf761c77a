package pool_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pgweir/pgweir/pool/dial"
	"github.com/pgweir/pgweir/wire"
)

// TestCancelWhileSetting has requests for a query come while the server is told
// its client's parameters: one of them follows the query.
func TestCancelWhileSetting(t *testing.T) {
	s, _ := newStage(t, "")
	b := s.connect().startup("user", "alice", "database", "app", "application_name", "other")
	key := b.wantKey()
	s.dialer.sent = nil
	b.send(wire.AppendQuery(nil, "select pg_sleep(10)"))
	s.asked(wire.AppendQuery(nil, "SET application_name='other';"))
	s.cancelRequest(key).leave()
	s.cancelRequest(key)
	if len(s.dialer.sent) > 0 {
		t.Fatalf("sent %q while the server sets parameters", s.dialer.sent)
	}
	s.answers(wire.AppendCommandComplete(nil, "SET"), wire.AppendParameterStatus(nil, "application_name", "other"), idle)
	s.asked(wire.AppendQuery(nil, "select pg_sleep(10)"))
	if len(s.dialer.sent) > 0 {
		t.Errorf("sent %q before the server can have begun with the query", s.dialer.sent)
	}
	s.pass(time.Second)
	if len(s.dialer.sent) != 1 {
		t.Errorf("sent %q", s.dialer.sent)
	}
	if !s.log.has("closing because: another cancel request for the same query waits") {
		t.Errorf("the log is %q", s.log)
	}
}

// sealed is a TLS session that says only what it is.
type sealed struct{ wire.Stream }

func (sealed) String() string { return "TLSv1.3" }

// TestCancelAsTheSession has requests go the way of the session that they are
// for: with TLS, and held against the name of its host, if it has any.
func TestCancelAsTheSession(t *testing.T) {
	for _, stream := range []wire.Stream{nil, sealed{}} {
		w := newWorld(t, "auth_type = trust\npool_mode = transaction\nserver_tls_sslmode = prefer", "")
		c := w.connect().startup("user", "alice", "database", "app")
		w.dialer.next(t)(&dial.Session{
			Params: reported, Key: make([]byte, 8), Name: "db", Host: "10.0.0.1", Socket: wire.Socket{TLS: stream},
		}, nil)
		w.settle()
		key := c.wantKey()
		c.send(wire.AppendQuery(nil, "select pg_sleep(10)"))
		w.pass(time.Second)
		w.cancelRequest(key)
		if len(w.dialer.sent) != 1 {
			t.Fatalf("sent %q", w.dialer.sent)
		}
		if r := w.dialer.last; r.TLS.Wanted() != (stream != nil) || len(r.Hosts) != 1 || r.Hosts[0] != "db" {
			t.Errorf("session with TLS %v: TLS %v to %q", stream != nil, r.TLS.Wanted(), r.Hosts)
		}
	}
}

// cancelsLater has a request come right after its query was sent.
func (s *stage) cancelsLater(key string) {
	s.t.Helper()
	s.cancelRequest(key)
	if len(s.dialer.sent) > 0 {
		s.t.Fatalf("sent %q before the server can have begun with the query", s.dialer.sent)
	}
	s.pass(time.Second)
	if len(s.dialer.sent) != 1 {
		s.t.Errorf("sent %q", s.dialer.sent)
	}
}

// TestCancelOfAYoungQuery has a request come right after its query was sent, for
// which a server had to be set up first: it waits as if there had been no setting.
func TestCancelOfAYoungQuery(t *testing.T) {
	s, _ := newStage(t, "")
	b := s.connect().startup("user", "alice", "database", "app", "application_name", "other")
	key := b.wantKey()
	s.dialer.sent = nil
	b.send(wire.AppendQuery(nil, "select pg_sleep(10)"))
	s.pass(time.Second) // which the parameters take
	s.answers(wire.AppendCommandComplete(nil, "SET"), wire.AppendParameterStatus(nil, "application_name", "other"), idle)
	s.cancelsLater(key)
}

// TestCancelOfAQueryInPieces has a request come right after the last piece of its
// query, which had begun long before, and behind another.
func TestCancelOfAQueryInPieces(t *testing.T) {
	s, _ := newStage(t, "")
	b := s.connect().startup("user", "alice", "database", "app")
	key := b.wantKey()
	query := join(parse("", "select 1"), sync, ask("select pg_sleep(10)"))
	b.send(query[:len(query)-5])
	s.pass(time.Second)
	b.send(query[len(query)-5:])
	s.cancelsLater(key)
}

// TestCancelOfAnUnnamedStatement cancels requests that wait for a server. Like any
// that fails, one that would have prepared the unnamed statement leaves none.
func TestCancelOfAnUnnamedStatement(t *testing.T) {
	for _, test := range []struct {
		name          string
		waits, follow []byte
		keeps         bool
	}{
		{"Parse", join(parse("", "select 2"), sync), nil, false},
		{"Parse behind a Flush", join(describe(""), flush), join(parse("", "select 2"), sync), false},
		{"Query", ask("select 2"), nil, false},
		{"Describe", join(describe(""), sync), nil, true},
		{"Parse of a name", join(parse("mine", "select 2"), sync), nil, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, a := newStage(t, "")
			b := s.connect().startup("user", "alice", "database", "app")
			key := b.wantKey()
			b.send(join(parse("", "select 1"), sync))
			s.answers(reply('1'), idle)
			a.send(ask("begin"))
			s.answers(tag("BEGIN"), wire.AppendReadyForQuery(nil, wire.TxOpen))
			b.out = nil
			b.send(test.waits)
			s.cancelRequest(key)
			b.send(test.follow)
			if !strings.Contains(string(b.out), "57014") || !strings.HasSuffix(string(b.out), string(idle)) {
				t.Fatalf("the client got %q", b.out)
			}
			a.send(ask("commit"))
			s.answers(tag("COMMIT"), idle)
			s.server.out = nil
			b.send(join(bind(""), execute, sync))
			if keeps := strings.Contains(string(s.server.out), "select 1"); keeps != test.keeps {
				t.Errorf("the server was sent %q", s.server.out)
			}
		})
	}
}

// TestCancelKeepsTheServer: from the moment when a request is sent until Postgres
// has dealt with it, nobody else gets the server; and if that can't be known,
// nobody ever does.
func TestCancelKeepsTheServer(t *testing.T) {
	for name, test := range map[string]struct {
		fails   error
		running bool // the query, when it is known what became of the request
	}{
		"done":                   {nil, false},
		"unknown":                {errors.New("timeout"), false},
		"unknown, and it is run": {errors.New("timeout"), true},
	} {
		t.Run(name, func(t *testing.T) {
			s, a := newStage(t, "")
			key := s.connect().startup("user", "alice", "database", "app").wantKey()
			c := s.clients[1]
			c.send(ask("select pg_sleep(10)"))
			b := s.join()
			s.pass(time.Second)
			s.dialer.await, s.dialer.fails = true, test.fails
			s.cancelRequest(key)
			if len(s.dialer.sent) != 1 || len(s.dialer.held) != 1 {
				t.Fatalf("sent %q", s.dialer.sent)
			}
			s.server.out = nil
			b.send(ask("select 1"))
			if !test.running {
				s.answers(done, idle)
				c.gets(done, idle)
			}
			s.asked(nil)
			s.dialer.held[0]()
			s.settle()
			if test.fails == nil {
				s.asked(ask("select 1"))
				s.answers(done, idle)
				b.gets(done, idle)
				a.leave()
				return
			}
			if s.asked(nil); !s.server.closed {
				t.Error("the server is not closed")
			}
			if test.running {
				c.wantError("cancel request of unknown outcome")
			}
			n := len(s.loop.conns)
			s.serve()
			s.server = s.loop.conns[n]
			s.asked(ask("select 1"))
		})
	}
}

// TestCancelOfAWaiter: who waits is told at once, and waits no more.
func TestCancelOfAWaiter(t *testing.T) {
	s, a := newStage(t, "")
	b := s.connect().startup("user", "alice", "database", "app")
	key := b.wantKey()
	a.send(ask("begin"))
	s.answers(tag("BEGIN"), wire.AppendReadyForQuery(nil, wire.TxOpen))
	b.send(ask("select 1"))
	c := s.join()
	c.send(ask("select 2"))
	s.cancelRequest(key).wantSilence()
	if got := types(b.read()); got != "EZ" {
		t.Fatalf("the client got %q", got)
	}
	s.server.out = nil
	a.send(ask("commit"))
	s.answers(tag("COMMIT"), idle)
	s.asked(join(ask("commit"), ask("select 2"))) // and not the query that was cancelled
	s.answers(done, idle)
	c.gets(done, idle)
	b.gets()
}
