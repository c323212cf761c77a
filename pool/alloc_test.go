package pool_test

import (
	"testing"

	"github.com/pgweir/pgweir/wire"
)

// relayed are the ways in which a transaction passes through the pooler once
// everything is warm: what clients send, one message after the other, and what
// the server answers.
var relayed = []struct {
	name          string
	clients       int
	query, answer []byte
}{
	{"simple", 1, wire.AppendQuery(nil, "select 1"), replies('T', 'D', 'C', 'Z')},
	{"extended", 1, requests('P', 'B', 'D', 'E', 'S'), replies('1', '2', 'T', 'D', 'C', 'Z')},
	{"waiting", 4, wire.AppendQuery(nil, "select 1"), replies('T', 'D', 'C', 'Z')},
}

// requests makes messages with a body of eight bytes, a Sync without one.
func requests(types ...byte) (b []byte) {
	for _, t := range types {
		out, at := wire.Begin(b, t)
		if t != wire.Sync {
			out = append(out, "\x00\x00body\x00\x00"...)
		}
		b = wire.End(out, at)
	}
	return b
}

// replies makes messages with a body of eight bytes, a ReadyForQuery that says
// that no transaction is open.
func replies(types ...byte) (b []byte) {
	for _, t := range types {
		switch t {
		case wire.ReadyForQuery:
			b = wire.AppendReadyForQuery(b, wire.TxIdle)
		case wire.ParseComplete, wire.BindComplete:
			b = append(b, t, 0, 0, 0, 4)
		default:
			out, at := wire.Begin(b, t)
			b = wire.End(append(out, "12345678"...), at)
		}
	}
	return b
}

// relay makes a world with one server and so many clients, and returns what
// puts one transaction of each through it.
func relay(t testing.TB, clients int, query, answer []byte) (transaction func()) {
	w := newWorld(t, "auth_type = trust\npool_mode = transaction\ndefault_pool_size = 1", "")
	var all []*client
	first := w.connect().startup("user", "alice", "database", "app")
	server := len(w.loop.conns)
	w.serve()
	v := w.loop.conns[server]
	all = append(all, first)
	for len(all) < clients {
		all = append(all, w.connect().startup("user", "alice", "database", "app"))
	}
	for _, c := range all {
		c.out = make([]byte, 0, 4<<10)
	}
	v.out = make([]byte, 0, 4<<10)
	return func() {
		for _, c := range all {
			c.out = c.out[:0]
			c.handler.Data(query)
		}
		for range all {
			if len(v.out) != len(query) {
				t.Fatalf("the server got %q instead of %q", v.out, query)
			}
			v.out = v.out[:0]
			v.handler.Data(answer)
		}
		for i, c := range all {
			if len(c.out) != len(answer) {
				t.Fatalf("client %d got %q instead of %q", i, c.out, answer)
			}
		}
	}
}

// A transaction costs no allocation, also where clients wait for each other.
func TestRelayAllocatesNothing(t *testing.T) {
	for _, r := range relayed {
		transaction := relay(t, r.clients, r.query, r.answer)
		transaction()
		if n := testing.AllocsPerRun(1000, transaction); n != 0 {
			t.Errorf("%s: %v allocations for each transaction", r.name, n)
		}
	}
}

func BenchmarkRelay(b *testing.B) {
	for _, r := range relayed {
		b.Run(r.name, func(b *testing.B) {
			transaction := relay(b, r.clients, r.query, r.answer)
			transaction()
			b.ReportAllocs()
			for b.Loop() {
				transaction()
			}
		})
	}
}

// BenchmarkLogin is a login that is trusted, of an application that logs in
// all the time, and its end.
func BenchmarkLogin(b *testing.B) {
	w := newWorld(b, "auth_type = trust\npool_mode = transaction\nlog_connections = 0\nlog_disconnections = 0", "")
	first := w.connect().startup("user", "alice", "database", "app")
	w.serve()
	first.leave()
	packet := startup(3<<16, "user", "alice", "database", "app", "application_name", "shop", "client_encoding", "UTF8")
	b.ReportAllocs()
	for b.Loop() {
		w.loop.conns = w.loop.conns[:0]
		w.p.Worker(0).Accept(tcp)
		c := w.loop.conns[0]
		c.handler.Data(packet)
		c.handler.Data([]byte{wire.Terminate, 0, 0, 0, 4})
		if !c.closed {
			b.Fatal("a client that said good-bye is still there")
		}
	}
}
