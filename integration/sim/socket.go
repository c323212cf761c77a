package sim

import (
	"fmt"
	"io"
	"syscall"
	"time"

	"github.com/pgweir/pgweir/wire"
	"github.com/pgweir/pgweir/wire/secure"
)

// peer is the program at the other end of a socket of the pooler's.
type peer interface {
	// read takes bytes that arrived.
	read(p []byte)
	// room tells that fewer than the window's bytes are on their way to the
	// pooler.
	room()
	// closed tells that the pooler closed the connection; reset, that bytes
	// may have been lost.
	closed(reset bool)
}

// socket is a connection as the kernel has it: bytes in flight both ways. It
// outlives the Conns that stand for it, one after the other.
type socket struct {
	w    *World
	fd   int
	name string
	peer peer
	conn *Conn // who owns it; nil between two owners
	pace pace

	secret bool           // TLS: what goes over the wire is drawn from no seed
	shake  *shake         // the peer's handshake; nil before and after
	far    *secure.Stream // the peer's end of the session; nil in clear
	deaf   bool           // the peer has given up on a handshake

	asked wire.Time // when the pooler has last written to a peer to which nothing was owed

	in     []byte // from the peer, not yet read by the pooler
	out    []byte // from the pooler, not yet read by the peer
	eof    bool   // the peer has closed
	reset  bool   // the peer has gone without a word
	shut   bool   // the pooler has closed
	rude   bool   // without caring for what the peer has not read
	lost   bool   // because no descriptor was left
	hurt   bool   // and the peer may miss bytes
	gone   bool   // the peer was told so
	inDue  bool   // an event that reads is under way
	outDue bool
	onGone func() // told once, when either side has closed
}

// pace is how fast bytes move.
type pace struct {
	near, far time.Duration // each chunk takes so long
	chunk     int           // at most so many bytes at once, 0: any number
	window    int           // the kernel takes so many from the pooler
}

// drawPace draws a pace. slow is that of a client that reads slowly.
func (w *World) drawPace(slow bool) pace {
	p := pace{far: pick(w, 50*time.Microsecond, 300*time.Microsecond, 2*time.Millisecond), window: 64 << 10}
	if w.chance(3) {
		p.near, p.far = 0, 20*time.Millisecond
	}
	if w.chance(3) {
		p.window = pick(w, 50, 500, 3000, 20_000)
	}
	if w.chance(8) {
		p.chunk = pick(w, 1, 7, 100)
	}
	if slow {
		p.near, p.far = time.Millisecond, 100*time.Millisecond
		p.window = pick(w, 200, 2000)
		p.chunk = 500
	}
	return p
}

// dial makes a connection between the pooler and p.
func (w *World) dial(name string, p peer, pace pace) *socket {
	w.lastFD++
	k := &socket{w: w, fd: w.lastFD, name: name, peer: p, pace: pace}
	w.sockets[k.fd] = k
	return k
}

func (k *socket) String() string { return k.name }

// maxRead is the most that a loop reads at once.
const maxRead = 64 << 10

// chunk draws how many of n bytes move at once.
func (k *socket) chunk(n int) int {
	w := k.w
	n = min(n, maxRead)
	m := n
	switch w.rng.IntN(6) {
	case 0:
		m = 1 + w.rng.IntN(n)
	case 1:
		m = min(n, 1+w.rng.IntN(8))
	}
	if k.pace.chunk > 0 && n < 4<<10 && !w.calm {
		m = min(m, k.pace.chunk)
	}
	return m
}

// send is the peer's write. The bytes are copied.
func (k *socket) send(p []byte) {
	if k.shut || k.eof || k.reset {
		return
	}
	if k.far != nil {
		k.in = k.seal(k.in, p)
	} else {
		k.in = append(k.in, p...)
	}
	k.kickIn()
}

// full reports whether a peer that blocks would wait before it sends more.
func (k *socket) full() bool { return len(k.in) >= k.pace.window+4<<10 }

// hangUp is the peer's close. What it sent before arrives.
func (k *socket) hangUp() {
	if k.eof || k.reset {
		return
	}
	k.w.tracef("%v: closes", k)
	if k.far != nil && !k.shut && k.w.chance(2) {
		k.in = k.far.Finish(k.in)
	}
	k.eof = true
	k.out = nil
	k.breakShake()
	k.left()
	k.kickIn()
}

// breakOff ends the connection without a word from the peer.
func (k *socket) breakOff() {
	if k.eof || k.reset {
		return
	}
	k.w.tracef("%v: breaks off", k)
	k.reset = true
	k.in, k.out = nil, nil
	k.breakShake()
	k.left()
	k.kickIn()
}

// left is called whenever one side has closed.
func (k *socket) left() {
	if f := k.onGone; f != nil {
		k.onGone = nil
		f()
	}
	if k.shut && (k.eof || k.reset || k.gone) {
		delete(k.w.sockets, k.fd)
	}
}

// kickIn sees to it that what arrived is read.
func (k *socket) kickIn() {
	c := k.conn
	if c == nil || k.inDue || len(k.in) == 0 && !k.eof && !k.reset && !c.failed && !c.fresh {
		return
	}
	if c.state == lingering && len(k.in) == 0 {
		return
	}
	if c.paused && (!k.eof || c.held) && !k.reset && !c.failed && c.state == open {
		return
	}
	k.inDue = true
	k.w.after(k.w.between(k.pace.near, k.pace.far), k.deliverIn)
}

// deliverIn is the pooler's read.
func (k *socket) deliverIn() {
	k.inDue = false
	c := k.conn
	if c == nil {
		return // on its way to another loop
	}
	if c.state == lingering {
		k.in = nil
		return
	}
	c.loop.enter()
	if c.failed && c.held {
		c.paused, c.held = false, false
	}
	switch {
	case k.reset:
		c.die(syscall.ECONNRESET)
		return
	case c.paused && k.eof && !c.held:
		c.die(io.EOF)
		return
	case c.failed && (c.paused || len(k.in) == 0):
		c.die(syscall.EPIPE)
		return
	case c.paused:
		return
	case c.fresh: // what the last owner had read comes by itself
		if err := c.data(nil); err != nil {
			c.die(err)
			return
		}
		k.kickIn()
		return
	case len(k.in) == 0 && k.eof:
		c.die(io.EOF)
		return
	case len(k.in) == 0:
		return
	}
	n := k.chunk(len(k.in))
	was := k.full()
	buf := append([]byte(nil), k.in[:n]...)
	k.in = k.in[n:]
	if k.w.tracing() {
		k.w.tracef("%v -> loop %d: %s", k, c.loop.index, k.show(buf))
	}
	if err := c.data(buf); err != nil {
		c.die(err)
		return
	}
	if was && !k.full() {
		k.peer.room()
	}
	k.kickIn()
}

// kickOut sees to it that the peer reads.
func (k *socket) kickOut() {
	if k.outDue || k.eof || k.reset || k.gone || len(k.out) == 0 && !k.shut {
		return
	}
	k.outDue = true
	k.w.after(k.w.between(k.pace.near, k.pace.far), k.deliverOut)
}

// deliverOut is the peer's read.
func (k *socket) deliverOut() {
	k.outDue = false
	if k.eof || k.reset || k.gone {
		return
	}
	if len(k.out) == 0 {
		if k.shut {
			k.gone = true
			k.left()
			k.peer.closed(k.hurt)
		}
		return
	}
	n := k.chunk(len(k.out))
	p := k.out[:n:n]
	k.out = k.out[n:]
	if k.w.tracing() {
		k.w.tracef("%v <- %s", k, k.show(p))
	}
	if c := k.conn; c != nil {
		c.kickFlush()
	}
	k.hear(p)
	k.kickOut()
}

// closeByPooler ends the pooler's part. With lose the peer may miss what it has
// not read.
func (k *socket) closeByPooler(lose bool) {
	if k.shut {
		return
	}
	k.shut, k.rude = true, lose
	if lose && k.w.chance(2) {
		k.out, k.hurt = nil, true
	}
	k.in = nil
	k.left()
	k.kickOut()
}

// show writes bytes of k as a trace line does.
func (k *socket) show(p []byte) string {
	if k.secret {
		return fmt.Sprintf("%d bytes of TLS", len(p))
	}
	return show(p)
}

// show writes bytes as a trace line does.
func show(p []byte) string {
	const most = 160
	if len(p) > most {
		return fmt.Sprintf("%q... %d bytes", p[:most], len(p))
	}
	return fmt.Sprintf("%q", p)
}
