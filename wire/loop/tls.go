package loop

import (
	"errors"

	"github.com/pgweir/pgweir/wire"
)

// maxReplies bounds what a TLS session may answer by itself while its peer
// takes nothing: a thousand times asked for new keys.
const maxReplies = 32 << 10

// maxScratch bounds the buffers that a loop keeps for TLS.
const maxScratch = 1 << 20

var errReplies = errors.New("the peer asks for new TLS keys and does not read")

// open hands over what the bytes in mean, which were received on a TLS session.
// The session keeps nothing but the begin of a record: all that has come whole
// is told at once. The error is why the session is over, nil if the Handler
// need not be told.
func (c *conn) open(in []byte) error {
	l, x := c.loop, c.extra
	plain, reply, err := x.stream.Open(l.plain[:0], in, l.sealed[:0])
	l.plain, l.sealed = scratch(plain), scratch(reply)
	if len(reply) > 0 && c.state == open {
		if c.transmit(reply); c.out.size > 0 {
			x.replies += len(reply)
		}
		if x.replies > maxReplies && err == nil {
			err = errReplies
		}
	}
	if len(plain) > 0 {
		c.h.Data(plain)
	}
	if c.state != open && c.state != failed {
		return nil
	}
	return err
}

// seal writes p through a TLS session.
func (c *conn) seal(s wire.Stream, p []byte) {
	sealed, err := s.Seal(c.loop.sealed[:0], p)
	c.loop.sealed = scratch(sealed)
	c.transmit(sealed)
	if err != nil {
		c.fail(err)
	}
}

// finish tells the peer that the session is over.
func (c *conn) finish(s wire.Stream) {
	sealed := s.Finish(c.loop.sealed[:0])
	c.loop.sealed = scratch(sealed)
	c.transmit(sealed)
}

// scratch is b as a buffer for next time, unless it has become too large to
// keep.
func scratch(b []byte) []byte {
	if cap(b) > maxScratch {
		return nil
	}
	return b[:0]
}
