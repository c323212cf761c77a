//go:build linux && !pollloop

package loop

import (
	"testing"

	"github.com/pgweir/pgweir/wire"
)

// TestListenerSpreads lets clients come one after the other to two loops that
// have nothing else to do: each gets its share.
func TestListenerSpreads(t *testing.T) {
	fd, addr := listening(t, "tcp", "127.0.0.1:0")
	accepted := make(chan int, 1)
	for i := range 2 {
		l := start(t, Options{Spin: -1}) // two loops that spin keep the dialing from its P
		listen(t, l, fd, func(s wire.Socket) { rawClose(s.FD); accepted <- i })
	}
	const clients = 200
	var got [2]int
	for range clients {
		c := dial(t, addr)
		got[<-accepted]++
		c.Close()
	}
	if min(got[0], got[1]) < clients/10 {
		t.Errorf("the loops got %v clients", got)
	}
}

func TestAttachOfNoDescriptor(t *testing.T) {
	l := start(t, Options{})
	on(t, l, func() {
		if _, err := l.Attach(wire.Socket{FD: 1 << 20}, nil); err == nil || l.Conns() != 0 {
			t.Errorf("error %v, %d sockets", err, l.Conns())
		}
	})
	h, c := connect(t, l) // the slot was not lost, nor taken twice
	if h.conn.(*conn).slot != 0 {
		t.Errorf("slot %d, want 0", h.conn.(*conn).slot)
	}
	c.Close()
}
