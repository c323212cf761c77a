package pool_test

import (
	"strings"
	"testing"

	"github.com/pgweir/pgweir/wire"
)

// FuzzLogin lets a stranger send anything, in any pieces: it gets no further
// than to an error, causes no server to be asked for and no database to be
// made, and leaves nothing behind.
func FuzzLogin(f *testing.F) {
	for i, database := range []string{"app", "nope", "pgbouncer"} {
		first := startup(3<<16, "user", "alice", "database", database)
		f.Add(first, uint8(i), uint64(0))
		f.Add(append(first, "p\x00\x00\x00\x0awrong\x00"...), uint8(0), uint64(1<<40|1<<43))
		f.Add(append(first, "p\x00\x00\x00\x24SCRAM-SHA-256\x00\x00\x00\x00\x0en,,n=,r=abcdefp\x00\x00\x00\x0dc=biws,r="...), uint8(2), uint64(7))
		f.Add(append(first, startup(3<<16|2, "user", "admin", "_pq_.x", "")...), uint8(2), ^uint64(0))
	}
	f.Add([]byte("\x00\x00\x00\x08\x04\xd2\x16\x2f\x00\x00\x00\x08\x04\xd2\x16\x30"), uint8(0), uint64(1<<8))
	f.Add([]byte("\x00\x00\x00\x10\x04\xd2\x16\x2e12345678"), uint8(0), uint64(0))
	worlds := make([]*world, len(methods))
	for i, method := range methods {
		worlds[i] = newWorld(f, "auth_type = "+method+"\nscram_iterations = 1", "app = host=db\n* = host=db")
	}
	f.Fuzz(func(t *testing.T, in []byte, method uint8, cuts uint64) {
		w := worlds[int(method)%len(worlds)]
		w.t, w.log, w.loop.conns, w.clients = t, nil, nil, nil
		c := w.connect()
		for at := 0; at < len(in); { // a read ends behind each byte whose bit is set
			n := 1
			for at+n < len(in) && cuts>>((at+n-1)%64)&1 == 0 {
				n++
			}
			c.send(in[at : at+n])
			at += n
		}
		said := strings.TrimLeft(string(c.out), "N") // to requests for encryption
		c.out = []byte(said)
		for _, m := range c.read() {
			switch m.typ {
			case wire.Authentication:
				if m.body[:4] == "\x00\x00\x00\x00" {
					t.Error("a stranger is let in")
				}
			case wire.ErrorResponse:
				if !c.closed {
					t.Error("refused, and not closed")
				}
			case wire.NegotiateProtocolVersion:
			default:
				t.Errorf("a stranger is told a %q", m.typ)
			}
		}
		if len(w.dialer.asked) > 0 || len(w.opened) > 0 || w.log.has("registered new auto-database") {
			t.Error("a stranger makes us work")
		}
		c.leave()
		w.p.CheckEmpty()
	})
}
