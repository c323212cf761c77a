package pool_test

import (
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
	var key string
	for _, m := range b.wantWelcome() {
		if m.typ == wire.BackendKeyData {
			key = m.body
		}
	}
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
		var key string
		for _, m := range c.wantWelcome() {
			if m.typ == wire.BackendKeyData {
				key = m.body
			}
		}
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
