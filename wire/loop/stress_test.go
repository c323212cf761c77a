package loop

import (
	"flag"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/pgweir/pgweir/wire"
)

var stressSeed = flag.Uint64("stress.seed", 1, "seed of TestStress")

// erratic is a relay's half that is told what to do by chance: it pauses for
// nothing, cuts its writes, and moves both ends to another loop when it can.
type erratic struct {
	s    *stress
	r    *rand.Rand
	in   wire.Conn
	peer *erratic
	gone bool
}

// stress relays between clients and servers, each of whom knows what to expect.
type stress struct {
	t     *testing.T
	loops []*Loop
	pairs sync.WaitGroup // relays that have not ended
	moves int            // under mu
	mu    sync.Mutex
}

func (e *erratic) Data(p []byte) {
	for len(p) > 0 {
		n := len(p)
		if e.r.IntN(4) == 0 {
			n = 1 + e.r.IntN(n)
		}
		e.peer.in.Write(p[:n])
		p = p[n:]
	}
	if e.peer.in.Queued() > 128<<10 {
		e.in.Pause()
		return
	}
	switch e.r.IntN(50) {
	case 0: // for no reason
		from, to := e.in, e.peer.in // dead if the relay has moved meanwhile
		from.Pause()
		from.(*conn).loop.After(time.Duration(e.r.IntN(int(2*time.Millisecond))), func() {
			if to.Queued() == 0 {
				from.Resume()
			}
		})
	case 1:
		e.in.Pause()
		e.in.Resume()
	case 2:
		e.move()
	}
}

func (e *erratic) Drained() { e.peer.in.Resume() }

func (e *erratic) Closed(err error) {
	if err != io.EOF {
		e.s.t.Errorf("closed with %v", err)
	}
	e.gone = true
	if e.peer.gone {
		e.s.t.Error("both ends closed, so one was told after Close")
	}
	e.peer.in.Close()
	e.s.pairs.Done()
}

// move takes both ends to another loop, unless one of them has to stay.
func (e *erratic) move() {
	a, ok := e.in.Detach()
	if !ok {
		return
	}
	here := e.in.(*conn).loop
	b, ok := e.peer.in.Detach()
	if !ok {
		c, err := here.Attach(a, e)
		if err != nil {
			e.s.t.Error(err)
		}
		e.in = c
		return
	}
	to := e.s.loops[e.r.IntN(len(e.s.loops))]
	e.s.mu.Lock()
	e.s.moves++
	e.s.mu.Unlock()
	to.Post(func() { e.attach(to, a, b) })
}

func (e *erratic) attach(l *Loop, a, b wire.Socket) {
	var err error
	if e.in, err = l.Attach(a, e); err != nil {
		e.s.t.Error(err)
	}
	if e.peer.in, err = l.Attach(b, e.peer); err != nil {
		e.s.t.Error(err)
	}
}

// TestStress sends streams both ways through relays that behave erratically on
// two loops, and compares every byte. The readers read erratically too.
func TestStress(t *testing.T) {
	const pairs, size = 24, 1 << 20
	s := &stress{t: t, loops: []*Loop{
		start(t, Options{Name: "a"}),
		start(t, Options{Name: "b", ReadBuffer: 3000, MaxEvents: 3, Spin: -1}),
	}}
	var ends sync.WaitGroup
	for i := range uint64(pairs) {
		near, client := socket(t)
		far, server := socket(t)
		rnd := func(k uint64) *rand.Rand { return rand.New(rand.NewPCG(*stressSeed, i*8+k)) }
		up := &erratic{s: s, r: rnd(0)}
		up.peer = &erratic{s: s, r: rnd(1), peer: up}
		s.pairs.Add(1)
		l := s.loops[i%2]
		l.Post(func() { up.attach(l, near, far) })

		request, reply := noise(i, size), noise(i+pairs, size)
		received := make(chan struct{}, 2)
		for k, end := range []struct {
			c          *net.TCPConn
			send, want []byte
		}{{client, request, reply}, {server, reply, request}} {
			ends.Add(2)
			go func() {
				defer ends.Done()
				send(t, end.c, end.send, rnd(2+uint64(k)))
			}()
			go func() {
				defer ends.Done()
				receive(t, end.c, end.want, rnd(4+uint64(k)))
				received <- struct{}{}
			}()
		}
		ends.Add(1)
		go func() {
			defer ends.Done()
			<-received
			<-received
			client.Close() // the relay passes it on
			if n, err := server.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Errorf("read %d bytes, %v after the end", n, err)
			}
			server.Close()
		}()
	}
	ends.Wait()
	s.pairs.Wait()
	for _, l := range s.loops {
		eventually(t, "all sockets closed", func() bool { return l.Conns() == 0 })
	}
	if s.moves == 0 {
		t.Error("no relay ever moved")
	}
	t.Logf("seed %d: %d moves", *stressSeed, s.moves)
}

// send writes p in pieces of any size.
func send(t *testing.T, c net.Conn, p []byte, r *rand.Rand) {
	for len(p) > 0 {
		n := min(len(p), 1+r.IntN(1<<r.IntN(18)))
		if _, err := c.Write(p[:n]); err != nil {
			t.Error(err)
			return
		}
		p = p[n:]
	}
}

// receive reads want in pieces of any size.
func receive(t *testing.T, c net.Conn, want []byte, r *rand.Rand) {
	buf := make([]byte, 1<<18)
	for at := 0; at < len(want); {
		n, err := c.Read(buf[:1+r.IntN(1<<r.IntN(18))])
		if err != nil {
			t.Errorf("after %d of %d bytes: %v", at, len(want), err)
			return
		}
		if string(buf[:n]) != string(want[at:at+n]) {
			t.Errorf("wrong bytes after %d", at)
			return
		}
		at += n
	}
}
