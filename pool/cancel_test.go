package pool_test

import (
	"testing"

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
	if len(s.dialer.sent) != 1 {
		t.Errorf("sent %q", s.dialer.sent)
	}
	if !s.log.has("closing because: another cancel request for the same query waits") {
		t.Errorf("the log is %q", s.log)
	}
}
