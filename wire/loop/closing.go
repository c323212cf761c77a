package loop

import (
	"errors"
	"io"
	"syscall"

	"github.com/pgweir/pgweir/wire"
)

// failure is a conn that cannot go on, and why.
type failure struct {
	c   *conn
	err error
}

// fail notes that the socket cannot be written to.
func (c *conn) fail(err error) {
	switch c.state {
	case open:
		c.giveUp(err)
	case lingering:
		c.kill()
	}
}

// giveUp has the Handler told at the end of the turn: no method of Conn calls
// it. Until then what it writes is dropped.
func (c *conn) giveUp(err error) {
	if c.state != open && c.state != failed {
		return
	}
	c.state = failed
	c.loop.stats.Buffered -= c.out.size
	c.out.drop(&c.loop.chunks)
	c.loop.failures = append(c.loop.failures, failure{c, err})
}

// Close implements [wire.Conn]. A descriptor that is closed while bytes of the
// peer lie unread makes the kernel reset the connection, and the peer may lose
// what was written last. So where such bytes may be, they are read away first;
// everywhere else Close is one system call.
func (c *conn) Close() {
	if s := c.stream(); s != nil && c.state == open {
		c.finish(s)
	}
	if c.state == failed || c.state == open && c.out.size == 0 && !c.fresh() && c.flags&(unread|paused) == 0 {
		c.kill()
	}
	if c.state != open {
		return
	}
	c.state, c.h, c.extra = lingering, nil, nil
	c.loop.closing = append(c.loop.closing, c)
}

// Abort implements [wire.Conn]. A TLS session that ends without a word looks
// like an attack to its peer, which complains; so that word goes out if nothing
// is queued before it.
func (c *conn) Abort() {
	if s := c.stream(); s != nil && c.state == open && c.out.size == 0 {
		c.finish(s)
	}
	c.kill()
}

// settle tells failures and looks after what was closed in this turn.
func (l *Loop) settle() {
	for len(l.failures) > 0 || len(l.closing) > 0 {
		if n := len(l.closing); n > 0 {
			c := l.closing[n-1]
			l.closing[n-1] = nil
			l.closing = l.closing[:n-1]
			c.linger()
			continue
		}
		f := l.failures[0]
		l.failures[0] = failure{}
		l.failures = l.failures[1:]
		l.current = f.c
		f.c.tellFailure(f.err)
		l.current = nil
	}
	l.failures = nil
}

// tellFailure hands over what the peer sent before it was gone, its last error
// message for one, and then tells that it is gone. A broken pipe whose other
// end had closed before is told as the io.EOF that it is.
func (c *conn) tellFailure(err error) {
	if c.flags&held != 0 {
		c.flags &^= paused | held
	}
	if c.state == failed && c.flags&paused == 0 && c.fresh() {
		c.deliverEarly()
	}
	for c.state == failed && c.flags&paused == 0 {
		n, rerr := c.pull()
		if rerr == io.EOF && errors.Is(err, syscall.EPIPE) {
			err = io.EOF
		}
		if n == 0 {
			break
		}
	}
	if c.state == failed {
		c.die(err)
	}
}

// linger waits for the peer to take what is queued, while its own bytes are
// read away; or closes the socket if nothing is on the way.
func (c *conn) linger() {
	if c.state != lingering {
		return
	}
	c.listen()
	switch {
	case c.state != lingering:
		return // listen failed
	case c.out.size == 0:
		n, err := c.pull()
		if n == 0 || err != nil {
			c.kill()
			return
		}
		c.sendFin()
	}
	if c.state == lingering {
		c.loop.After(wire.Linger, c.kill)
	}
}

// sendFin tells the peer that no more bytes follow. It answers by closing, and
// until then its bytes are read away.
func (c *conn) sendFin() {
	if err := shutdownWrite(int(c.fd)); err != nil {
		c.kill()
	}
}

// discard reads away what a peer sends to a closed conn. A peer that closes
// takes no more bytes either.
func (c *conn) discard() {
	for range readRounds {
		n, err := c.pull()
		if err != nil {
			c.kill()
			return
		}
		if n < len(c.loop.buf) {
			return
		}
	}
}
