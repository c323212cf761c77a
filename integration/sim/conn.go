package sim

import (
	"time"

	"github.com/pgweir/pgweir/wire"
)

// connState says who may still touch a Conn.
type connState uint8

const (
	open connState = iota
	lingering
	dead
)

// Conn is a wire.Conn.
type Conn struct {
	w    *World
	loop *Loop
	h    wire.Handler
	s    *socket

	stream   wire.Stream // nil in clear
	early    []byte      // read before Attach, not yet delivered; only with a stream
	fresh    bool        // early, or what stream was left with, is still to be delivered
	queue    []byte      // what the kernel did not take
	state    connState
	paused   bool
	held     bool // with paused: the peer's end waits for its last bytes to be read
	failed   bool // a write failed, and the Handler is not told yet
	flushDue bool
}

var _ wire.Conn = (*Conn)(nil)

// data hands over the bytes in, which were received, as plaintext. The error is
// why the session is over, nil if the Handler need not be told.
func (c *Conn) data(in []byte) error {
	if c.stream == nil {
		c.h.Data(in)
		poison(in)
		return nil
	}
	plain, reply, err := c.stream.Open(c.early, in, nil)
	poison(in)
	c.early, c.fresh = nil, false
	if len(reply) > 0 && c.state == open {
		c.transmit(reply)
	}
	if len(plain) > 0 {
		if c.w.tracing() {
			c.w.tracef("%v says %s", c.s, show(plain))
		}
		c.h.Data(plain)
		poison(plain)
	}
	if c.state != open {
		return nil
	}
	return err
}

// poison spoils what a Handler may not keep: whoever does sees it.
func poison(p []byte) {
	for i := range p {
		p[i] = 0xdd
	}
}

// Write implements wire.Conn.
func (c *Conn) Write(p []byte) {
	c.loop.on("Write")
	if c.state != open {
		c.w.failf("%v: Write on a closed Conn: %s", c.s, show(p))
	}
	if c.failed || len(p) == 0 {
		return
	}
	if c.stream != nil {
		sealed, err := c.stream.Seal(nil, p)
		if err != nil {
			c.w.failf("%v: Seal: %v", c.s, err)
		}
		p = sealed
	}
	c.transmit(p)
}

// transmit is Write for bytes as they go over the wire.
func (c *Conn) transmit(p []byte) {
	k := c.s
	if k.reset {
		c.failed = true
		k.kickIn()
		return
	}
	if k.eof { // the peer takes nothing any more
		return
	}
	if b, ok := k.peer.(*backend); ok && b.rests() && len(c.queue)+len(k.in) == 0 {
		k.asked = c.w.now
	}
	n := 0
	if len(c.queue) == 0 {
		n = max(0, min(len(p), k.pace.window-len(k.out)))
		if n > 0 && c.w.chance(25) {
			n = c.w.rng.IntN(n)
		}
		k.out = append(k.out, p[:n]...)
		k.kickOut()
	}
	if n < len(p) {
		c.queue = append(c.queue, p[n:]...)
		c.w.books.grown = append(c.w.books.grown, c)
		c.kickFlush()
	}
}

// kickFlush sees to it that the queue is sent as soon as there is room.
func (c *Conn) kickFlush() {
	if len(c.queue) == 0 || c.flushDue || len(c.s.out) >= c.s.pace.window && !c.s.eof {
		return
	}
	c.flushDue = true
	c.w.after(c.w.between(0, 50*time.Microsecond), c.flush)
}

// flush gives the kernel what is queued.
func (c *Conn) flush() {
	c.flushDue = false
	k := c.s
	if c.state == dead || c.failed || k.reset {
		return
	}
	c.loop.enter()
	if k.eof {
		c.queue = nil
		return // Closed is on its way
	}
	n := min(len(c.queue), k.pace.window-len(k.out))
	if n > 0 {
		k.out = append(k.out, c.queue[:n]...)
		c.queue = c.queue[n:]
		k.kickOut()
	}
	if len(c.queue) > 0 {
		c.kickFlush()
		return
	}
	if c.state == lingering {
		c.finish(false)
		return
	}
	c.h.Drained()
}

// Queued implements wire.Conn. Between two steps the pooler's own check may
// ask it too.
func (c *Conn) Queued() int {
	if c.w.current != nil {
		c.loop.on("Queued")
	}
	return len(c.queue)
}

// Pause implements wire.Conn.
func (c *Conn) Pause() {
	c.loop.on("Pause")
	c.paused, c.held = true, false
}

// Hold implements wire.Conn.
func (c *Conn) Hold() {
	c.loop.on("Hold")
	c.paused, c.held = true, true
}

// Resume implements wire.Conn.
func (c *Conn) Resume() {
	c.loop.on("Resume")
	c.paused, c.held = false, false
	if c.state == open {
		c.s.kickIn()
	}
}

// Close implements wire.Conn.
func (c *Conn) Close() {
	c.loop.on("Close")
	if c.state != open {
		return
	}
	if c.stream != nil && !c.failed {
		c.transmit(c.stream.Finish(nil))
	}
	if c.failed || c.s.reset || len(c.queue) == 0 {
		c.finish(false)
		return
	}
	c.state, c.h = lingering, nil
	c.s.left() // as far as the pooler counts
	c.w.after(wire.Linger, func() {
		if c.state == lingering {
			c.finish(true)
		}
	})
}

// Abort implements wire.Conn.
func (c *Conn) Abort() {
	c.loop.on("Abort")
	if c.state != dead {
		c.finish(true)
	}
}

// finish closes the socket.
func (c *Conn) finish(lose bool) {
	if len(c.queue) > 0 {
		c.s.hurt = true
	}
	c.state, c.h, c.queue = dead, nil, nil
	c.s.conn = nil
	c.s.closeByPooler(lose)
}

// die closes the socket and tells the Handler why.
func (c *Conn) die(err error) {
	h := c.h
	c.finish(true)
	c.w.tracef("%v: loop %d is told %v", c.s, c.loop.index, err)
	h.Closed(err)
}

// Detach implements wire.Conn.
func (c *Conn) Detach() (wire.Socket, bool) {
	c.loop.on("Detach")
	k := c.s
	if c.state != open {
		c.w.failf("%v: Detach of a closed Conn", k)
	}
	if len(c.queue) > 0 || c.failed || k.reset {
		return wire.Socket{}, false
	}
	c.state, c.h = dead, nil
	k.conn = nil
	s := socketFor(k, uint16(k.fd))
	if c.stream != nil {
		s.Early, s.TLS = c.early, c.stream
		return s, true
	}
	if len(k.in) > 0 && c.w.chance(4) {
		n := 1 + c.w.rng.IntN(len(k.in))
		s.Early, k.in = k.in[:n:n], k.in[n:]
	}
	return s, true
}
