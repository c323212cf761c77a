package loop

import (
	"io"
	"os"
	"syscall"

	"github.com/pgweir/pgweir/wire"
)

// connState says who may still touch a conn.
type connState uint8

const (
	// open: the Handler is told what happens. Leaves to failed (a write
	// failed, a panic), lingering (Close with bytes on the way), dead (the peer closed,
	// a read failed, Abort, Detach, or Close with nothing on the way).
	open connState = iota

	// failed: a write failed or the Handler panicked. The Handler is told at the
	// end of the turn, after the last bytes that the peer sent. Leaves to dead.
	failed

	// lingering: closed by the rules, but the peer has not taken everything.
	// There is no Handler any more. Leaves to dead.
	lingering

	// dead: the descriptor is closed or belongs to somebody else. Terminal.
	dead
)

// connFlags are the small facts about a conn.
type connFlags uint8

const (
	paused   connFlags = 1 << iota // the rules do not want to be told of bytes
	deaf                           // not watched for reading
	watching                       // watched for writability: bytes are queued
	unread                         // the kernel had more bytes when last seen
	held                           // with paused: the peer's end waits for its last bytes to be read
	blind                          // with deaf: not watched for the peer's end either
)

// conn is a socket on a loop. There may be tens of thousands that do nothing,
// so it is kept to 64 bytes: what is rare lives elsewhere.
type conn struct {
	loop  *Loop
	h     wire.Handler
	out   queue
	extra *extra // nil for most
	fd    int32
	slot  int32
	gen   uint32
	state connState
	flags connFlags
}

// extra is what few conns have.
type extra struct {
	early   []byte      // read before Attach, not yet delivered
	stream  wire.Stream // nil without TLS
	fresh   bool        // early, or what stream was left with, is still to be delivered
	replies int         // bytes that stream has answered by itself since the queue was empty
}

func (c *conn) key() key { return key{c.slot, c.gen} }

// stream is the conn's TLS session, nil if it has none.
func (c *conn) stream() wire.Stream {
	if c.extra == nil {
		return nil
	}
	return c.extra.stream
}

// fresh reports whether there are bytes from before Attach, or may be.
func (c *conn) fresh() bool { return c.extra != nil && c.extra.fresh }

// Write implements [wire.Conn].
func (c *conn) Write(p []byte) {
	if c.state != open || len(p) == 0 {
		return
	}
	if s := c.stream(); s != nil {
		c.seal(s, p)
		return
	}
	c.transmit(p)
}

// transmit is Write for bytes as they go over the wire.
func (c *conn) transmit(p []byte) {
	if c.out.size == 0 {
		n, err := c.send(p)
		if err != nil {
			c.fail(err)
			return
		}
		if p = p[n:]; len(p) == 0 {
			return
		}
	}
	c.loop.stats.Buffered += len(p)
	c.out.append(p, &c.loop.chunks)
	if c.flags&watching == 0 {
		c.flags |= watching
		c.watch()
	}
}

// send gives the kernel as much of p as it takes.
func (c *conn) send(p []byte) (sent int, err error) {
	for len(p) > 0 {
		part := p[:min(len(p), maxIO)]
		n, errno := rawSend(int(c.fd), part)
		c.loop.stats.Writes++
		switch errno {
		case 0:
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return sent, nil
		default:
			return sent, os.NewSyscallError("write", errno)
		}
		sent += n
		c.loop.stats.Written += uint64(n)
		if n < len(part) {
			break // the kernel is full
		}
		p = p[n:]
	}
	return sent, nil
}

// Queued implements [wire.Conn].
func (c *conn) Queued() int { return c.out.size }

// Pause implements [wire.Conn].
func (c *conn) Pause() { c.flags = c.flags&^held | paused }

// Hold implements [wire.Conn].
func (c *conn) Hold() { c.flags |= held | paused }

// Resume implements [wire.Conn].
func (c *conn) Resume() {
	if c.state != open || c.flags&paused == 0 {
		return
	}
	c.flags &^= paused | held
	if c.fresh() {
		c.loop.earlies = append(c.loop.earlies, c)
	}
	c.listen()
}

// listen watches for bytes again, if that was given up.
func (c *conn) listen() {
	if c.flags&deaf != 0 {
		c.flags &^= deaf | blind
		c.watch()
	}
}

// watch tells the poller what the socket waits for.
func (c *conn) watch() {
	want := hangup
	if c.flags&blind != 0 {
		want = 0
	}
	if c.flags&deaf == 0 {
		want |= readable
	}
	if c.flags&watching != 0 {
		want |= writable
	}
	c.loop.stats.Watches++
	if err := c.loop.poll.set(int(c.fd), c.key(), want); err != nil {
		c.fail(err)
	}
}

// Detach implements [wire.Conn]. It reports false also when the kernel no
// longer knows the peer: then Closed is on its way.
func (c *conn) Detach() (wire.Socket, bool) {
	if c.state != open || c.out.size > 0 {
		return wire.Socket{}, false
	}
	s, err := endsOf(int(c.fd))
	if err != nil {
		return wire.Socket{}, false
	}
	if x := c.extra; x != nil {
		s.Early, s.TLS = x.early, x.stream
	}
	c.loop.poll.remove(int(c.fd))
	c.release()
	return s, true
}

// ready does what the socket is ready for.
func (c *conn) ready(r readiness) {
	if r&writable != 0 && c.out.size > 0 {
		c.flush()
	}
	if r&(readable|hangup) == 0 {
		return
	}
	if c.flags&held != 0 && r&broken != 0 {
		c.Resume()
	}
	switch {
	case c.state == lingering:
		c.discard()
	case c.state != open:
		// settle reads what is left
	case c.flags&paused == 0:
		if !c.fresh() { // else the next turn reads it
			c.read(r&hangup != 0)
		}
	case r&hangup != 0 && c.flags&held == 0:
		c.die(c.pendingError())
	case r&hangup != 0:
		c.flags |= deaf | blind | unread
		c.watch()
	case c.flags&deaf == 0:
		c.flags |= deaf | unread
		c.watch()
	}
}

// read hands over what the socket has, a few buffers at most. With toEnd a
// read that does not fill the buffer is not the last one: the end of the
// stream stands behind it.
func (c *conn) read(toEnd bool) {
	for range readRounds {
		n, err := c.pull()
		if err != nil {
			c.die(err)
			return
		}
		if c.state != open || c.flags&paused != 0 || n < len(c.loop.buf) && !toEnd || n == 0 {
			return
		}
	}
}

// deliverEarly hands over what was read before Attach.
func (c *conn) deliverEarly() {
	x := c.extra
	p := x.early
	x.early = nil
	if x.stream == nil {
		c.extra = nil
		c.h.Data(p)
		return
	}
	if len(p) > 0 {
		c.h.Data(p)
	}
	if c.state != open && c.state != failed || c.flags&paused != 0 {
		return // Resume brings it back
	}
	x.fresh = false
	if err := c.open(nil); err != nil {
		c.die(err)
	}
}

// pull reads once and hands over the bytes. n is zero if there were none. The
// error is io.EOF at the end of the stream.
func (c *conn) pull() (n int, err error) {
	l := c.loop
	n, errno := rawRecv(int(c.fd), l.buf)
	for errno == syscall.EINTR {
		n, errno = rawRecv(int(c.fd), l.buf)
	}
	l.stats.Reads++
	switch {
	case errno == syscall.EAGAIN:
		c.flags &^= unread
		return 0, nil
	case errno != 0:
		return 0, os.NewSyscallError("read", errno)
	case n == 0:
		return 0, io.EOF
	}
	l.stats.Read += uint64(n)
	if n == len(l.buf) {
		c.flags |= unread
	} else {
		c.flags &^= unread
	}
	switch {
	case c.h == nil:
	case c.stream() != nil:
		return n, c.open(l.buf[:n])
	default:
		c.h.Data(l.buf[:n])
	}
	return n, nil
}

// flush gives the kernel what is queued, and tells when it took everything.
func (c *conn) flush() {
	l := c.loop
	for c.out.size > 0 {
		n, full, err := c.out.send(int(c.fd), &l.chunks)
		l.stats.Writes++
		l.stats.Written += uint64(n)
		l.stats.Buffered -= n
		if err != nil {
			c.fail(err)
			return
		}
		if full {
			return
		}
	}
	c.flags &^= watching
	if c.extra != nil {
		c.extra.replies = 0
	}
	c.watch()
	switch c.state {
	case open:
		c.h.Drained()
	case lingering:
		c.sendFin()
	}
}

// release takes the conn off its loop. The descriptor stays open.
func (c *conn) release() {
	l := c.loop
	l.stats.Buffered -= c.out.size
	c.out.drop(&l.chunks)
	c.state, c.extra = dead, nil
	l.slots[c.slot] = nil
	l.freed = append(l.freed, c.slot)
	l.conns.Add(-1)
}

// kill closes the socket. The Handler is not told.
func (c *conn) kill() {
	if c.state == dead {
		return
	}
	c.release()
	c.loop.poll.forget(int(c.fd))
	rawClose(int(c.fd))
}

// die closes the socket and tells the Handler why.
func (c *conn) die(err error) {
	c.kill()
	c.h.Closed(err)
}
