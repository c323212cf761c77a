package pool_test

import (
	"strings"
	"testing"
	"time"

	"github.com/pgweir/pgweir/wire"
)

// many is how many clients a drain sends away here.
const many = 20

// TestDrainInTurn: a drain sends each client away when it is its turn, whatever
// the client waits for.
func TestDrainInTurn(t *testing.T) {
	const spread, grace = 16 * time.Second, time.Minute
	for name, test := range map[string]struct {
		main  string
		login func(w *world) *client
	}{
		"idle": {"auth_type = trust\npool_mode = transaction", func(w *world) *client {
			return w.connect().startup("user", "alice", "database", "app")
		}},
		"with a server": {"auth_type = trust\npool_mode = session\ndefault_pool_size = 0", func(w *world) *client {
			c := w.connect().startup("user", "alice", "database", "app")
			var server *fakeConn
			if len(w.dialer.done) > 0 {
				server = w.servesNext()
			}
			c.wantWelcome()
			if c.send(ask("select 1")); len(w.dialer.done) > 0 {
				server = w.servesNext()
			}
			w.reply(server, join(done, idle))
			c.gets(done, idle)
			return c
		}},
		"before the password": {"auth_type = md5\nclient_login_timeout = 0", (*world).connect},
		"before the first server": {"auth_type = trust\nclient_login_timeout = 0", func(w *world) *client {
			return w.connect().startup("user", "alice", "database", "app")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, test.main, "")
			for range many {
				test.login(w)
			}
			if name == "idle" {
				w.serve()
			}
			w.outside(func() { w.p.Drain(grace, spread) })
			for passed := time.Duration(0); passed <= spread; passed += time.Second {
				left := 0
				for _, c := range w.clients {
					if c.closed {
						left++
					}
				}
				if due := int(many * passed / spread); left < due-2 || left > due+2 {
					t.Fatalf("after %v %d clients of %d have left, want %d", passed, left, many, due)
				}
				w.pass(time.Second)
			}
			for _, c := range w.clients {
				if got := c.read(); !c.closed || len(got) == 0 || !strings.Contains(got[len(got)-1].body, "C57P01\x00") {
					t.Fatalf("a client was told %q, closed: %v", got, c.closed)
				}
			}
		})
	}
}

// TestDrainWithinAMessage: who has sent a part of a message is not between two
// transactions, and stays until that is answered.
func TestDrainWithinAMessage(t *testing.T) {
	query := ask("select 1")
	data := request(wire.CopyData, make([]byte, 100)) // which nothing answers
	for name, test := range map[string]struct {
		mode    string
		message []byte
		cut     int
		asked   bool
	}{
		"header":           {"transaction", query, 3, true},
		"name":             {"transaction", parse("name", "select 1"), 8, true},
		"Query":            {"session", query, 3, true},
		"data of no COPY":  {"session", data, 50, false},
		"data and nothing": {"transaction", request(wire.CopyFail, strings.Repeat("x", 50)), 20, false},
	} {
		t.Run(name, func(t *testing.T) {
			s, a := newStage(t, "pool_mode = "+test.mode)
			if test.mode == "session" {
				a.send(query)
				s.answers(done, idle)
				a.gets(done, idle)
				s.server.out = nil
			}
			a.send(test.message[:test.cut])
			s.outside(func() { s.p.Drain(time.Minute, 0) })
			s.pass(time.Second)
			if a.closed {
				t.Fatal("cut in the middle of a message")
			}
			a.send(test.message[test.cut:])
			if test.asked {
				if a.closed {
					t.Fatal("cut before the answer")
				}
				if test.message[0] == wire.Parse {
					a.send(sync)
					s.answers(reply('1'), idle)
				} else {
					s.answers(done, idle)
				}
			}
			s.pass(time.Second)
			if got := a.read(); !a.closed || !strings.Contains(got[len(got)-1].body, "C57P01\x00") {
				t.Errorf("the client was told %q, closed: %v", got, a.closed)
			}
		})
	}
}
