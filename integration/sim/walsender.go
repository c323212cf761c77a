package sim

import (
	"fmt"
	"time"

	"github.com/pgweir/pgweir/wire"
)

// The functions of this file are replication: clients that have a session of
// their own, which was told what they said at login, and stream both ways.

// checkOwner fails if a session for replication serves anybody but the one
// client that it was opened for, the pooler itself included, or such a client
// has got another session.
func (b *backend) checkOwner(s *stmt) {
	w := b.pg.w
	if b.walks && b.owner == 0 {
		b.owner = s.tag.client
	}
	switch asks := s.tag.client > 0 && w.clients[s.tag.client-1].walks != ""; {
	case b.walks && s.tag.client != b.owner:
		w.failf("%v is for the replication of client %d and is asked %s", b.k, b.owner, s.text)
	case asks != b.walks:
		w.failf("%v is asked %s; for replication: %t, asked by replication: %t", b.k, s.text, b.walks, asks)
	}
}

// stream sends rows until the client ends it.
func (b *backend) stream(s *stmt, then func(err *pgError)) {
	b.emit([]byte{wire.CopyBothResponse, 0, 0, 0, 7, 0, 0, 0})
	b.flush()
	c := &copying{s: s, then: then}
	b.copy = c
	w := b.pg.w
	left := s.arg(0, 1)
	var next func()
	next = func() {
		if b.over || b.copy != c || left == 0 {
			return
		}
		left--
		b.emit(message(wire.CopyData, []byte(s.tag.String()+" from the log\n")))
		b.flush()
		w.after(w.between(0, 20*time.Millisecond), next)
	}
	w.after(w.between(0, 20*time.Millisecond), next)
}

// walk begins the next batch of a client that replicates.
func (c *client) walk() {
	w := c.w
	if c.batches--; c.batches < 0 {
		c.leave()
		return
	}
	switch w.rng.IntN(4) {
	case 0:
		c.query(c.sel())
	case 1:
		t := c.tag().String()
		c.query("begin "+t, c.sel(), pick(w, "commit ", "rollback ")+t)
	default:
		c.stream()
	}
}

// stream takes in rows for a while, tells how far it has come now and then, and
// ends it.
func (c *client) stream() {
	w := c.w
	t := c.tag()
	c.query(fmt.Sprintf("stream %v %d", t, w.rng.IntN(20)))
	c.wait(func() {
		if !c.copyingIn() {
			return
		}
		c.think = true
		left := w.rng.IntN(4)
		var next func()
		next = func() {
			if c.stage != stageReady || !c.copyingIn() {
				c.think = false
				c.pump()
				return
			}
			if left--; left >= 0 {
				c.send(message(wire.CopyData, []byte(t.String()+" so far\n")), nil)
				w.after(w.between(0, 100*time.Millisecond), next)
				return
			}
			c.think = false
			c.queue[0].ended = true
			c.send(message(wire.CopyDone), nil)
			c.pump()
		}
		w.after(w.between(0, 100*time.Millisecond), next)
	})
}
