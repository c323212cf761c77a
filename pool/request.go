package pool

import "github.com/pgweir/pgweir/wire"

// passage is a piece of a client's input on its way to the server. What is to be
// sent is out, which is not as it came, and behind it in[from:at], which is.
type passage struct {
	c        *Client
	in       []byte
	from, at int
	out      []byte // nil as long as all is as it came

	bare  []byte // a Parse of the unnamed statement, not used yet
	again watch
}

// relay sends on what c asks, and holds what can't be sent yet.
func (c *Client) relay(in []byte) {
	p := passage{c: c, in: in}
	for p.at < len(in) && p.step() {
	}
	if c.state == ClientClosed {
		return
	}
	c.keepBare(p.bare)
	p.flush()
	c.keepInput(in[p.at:])
	if v := c.server; v != nil && c.remain == 0 {
		v.rest()
	}
}

// step deals with the next message, or with what is here of it. It reports false
// if that has to wait, or c has ended.
func (p *passage) step() bool {
	c := p.c
	if c.remain > 0 {
		n := min(c.remain, len(p.in)-p.at)
		c.remain -= n
		p.advance(n)
		return true
	}
	var m message
	fault := m.peek(c, p.in[p.at:])
	switch {
	case fault != "":
		p.flush()
		c.disconnect(fault != clientCloses, fault)
		return false
	case m.size == 0 || c.server == nil && !c.accept(&m):
		return false
	}
	n := m.here()
	if c.server != nil {
		n = p.pass(&m)
		if n == 0 || c.state == ClientClosed { // it has too many names
			return false
		}
	}
	c.remain = m.size - n
	p.advance(n)
	return true
}

// advance goes n bytes on. They are the server's; without one they are dealt
// with.
func (p *passage) advance(n int) {
	if p.at += n; p.c.server == nil {
		p.from = p.at
	}
}

// accept deals with m if it needs no server, and gives c one if it does. It
// reports false if m has to wait, or c has ended.
func (c *Client) accept(m *message) bool {
	switch {
	case m.owes != 0 && c.tooFull():
		return false
	case c.alone(m) || m.owes == 0:
		return true
	}
	c.begin()
	return c.shard.acquire(c)
}

// pass notes in the server's ledger what m is owed, and what it does to prepared
// statements, and has the server get it, or something else in its place. It
// returns with how many bytes of m that is done, 0 if m has to wait.
func (p *passage) pass(m *message) int {
	c, v := p.c, p.c.server
	switch {
	case !m.whole() && c.needsWhole(m):
		return 0
	case c.awaits(m):
		c.throttle()
		return 0
	}
	if m.owes != 0 && m.owes != owedCopyEnd && !c.busy {
		c.begin()
	}
	if m.typ == wire.Bind {
		v.bound.st = nil
		if st := c.blindly(m); st != nil {
			p.instead(0, v.askShape(p.sofar(), st))
			c.throttle()
			return 0
		}
	}
	p.again.follow(v, m, p.in, p.at)
	switch {
	case v.ledger.skipping:
		if m.owes != 0 {
			v.ledger.push(m.owes)
		}
	case m.is == namesOne:
		return p.instead(m.end, c.statement(p.sofar(), m))
	case m.is == namesBare && m.typ != wire.Parse && v.bareOf != c.id:
		return p.instead(m.end, c.bare(p.sofar(), m))
	case c.changesSQL(m):
		switch m.typ {
		case wire.Parse:
			p.bare = m.in[:m.size]
		case wire.Query:
			p.bare = nil
		}
		return p.instead(m.size, c.sql(p.sofar(), m))
	case v.describesBound(m):
		v.ledger.pushRef(m.owes, v.describing(ref{st: v.bound.st}, v.bound.name))
	case m.owes != 0:
		p.bare = c.passBare(p.bare, m)
		v.ledger.push(m.owes)
	case m.typ == wire.Flush && v.ledger.local():
		v.answerLocal()
		v.forward(nil)
	}
	return m.here()
}

// maxGather is the longest piece that is copied to go out together with
// others.
const maxGather = 16 << 10

// sofar is all that is to be sent before in[at:], for more to be put behind it,
// and is given back to instead. What is much to copy is sent at once.
func (p *passage) sofar() []byte {
	c, out, as := p.c, p.out, p.in[p.from:p.at]
	if out == nil {
		out = c.w.gather[:0]
	}
	if len(as) <= maxGather && len(out) <= maxGather {
		return append(out, as...)
	}
	c.send(out)
	c.send(as)
	return out[:0]
}

// instead has out sent in the place of all up to in[at+n]. It returns n.
func (p *passage) instead(n int, out []byte) int {
	p.out, p.from = out, p.at+n
	return n
}

// flush sends what is to be sent, and keeps out's memory.
func (p *passage) flush() {
	c := p.c
	if p.out == nil {
		c.send(p.in[p.from:p.at])
		return
	}
	out := p.sofar()
	c.send(out)
	if cap(out) <= 4*maxGather {
		c.w.gather = out[:0]
	}
}

// needsWhole reports whether m has to be there whole before it is passed on.
func (c *Client) needsWhole(m *message) bool {
	return m.typ == wire.Describe && c.server.bound.st != nil && m.size <= maxNames || c.changesSQL(m)
}

// awaits reports whether m may be sent only when the server has answered more of
// what it was sent before.
func (c *Client) awaits(m *message) bool {
	v := c.server
	return v.ledger.n >= maxOwed || v.asking && m.owes != 0 || v.pending != nil && m.owes != 0 && m.owes != owedCopyEnd ||
		v.ledger.settling > 0 && (m.is == namesOne || c.changesSQL(m))
}

// throttle stops reading c until the server has answered something.
func (c *Client) throttle() {
	c.throttled = true
	c.conn.Pause()
}

// alone deals with a message of a client without a server that needs none. It
// reports false for one that does.
func (c *Client) alone(m *message) bool {
	switch {
	case c.discard: // up to the Sync of a request that was cancelled
		if m.typ == wire.Parse && m.is != namesOne {
			c.forget("")
		}
		if m.typ == wire.Sync {
			c.discard = false
			c.conn.Write(wire.AppendReadyForQuery(c.w.scratch[:0], wire.TxIdle))
		}
		return true
	case m.typ == wire.CopyDone || m.typ == wire.CopyFail:
		return true // the COPY is over, and its server gone
	case m.typ == wire.Close && m.is == namesOne:
		c.forget(string(significant(m.name)))
		c.conn.Write(append(c.w.scratch[:0], wire.CloseComplete, 0, 0, 0, 4))
		return true
	case m.typ == wire.Sync && c.tracks(): // of Closes only: no transaction is open
		c.conn.Write(wire.AppendReadyForQuery(c.w.scratch[:0], wire.TxIdle))
		return true
	}
	return false
}

// begin notes that a query begins, and a transaction if none is open.
func (c *Client) begin() {
	now := c.w.now()
	c.busy, c.queryStart = true, now
	if !c.inXact {
		c.inXact, c.xactStart = true, now
	}
}

// maxQueued is how much may be queued for a server before its client is not
// read any more.
const maxQueued = 64 << 10

// send passes b on to the server.
func (c *Client) send(b []byte) {
	v := c.server
	if len(b) == 0 || v == nil {
		return
	}
	c.shard.stats.Received += uint64(len(b))
	v.conn.Write(b)
	if v.conn.Queued() > maxQueued {
		c.stalled = true
		c.conn.Pause()
	}
}

// unstall goes on reading after the server took what was queued for it.
func (c *Client) unstall() {
	if c.stalled {
		c.stalled = false
		c.readOn()
	}
}

// tooFull reports whether c has more replies in hand than it may have before
// it asks for others. It is not read from then until they are taken.
func (c *Client) tooFull() bool {
	if c.conn.Queued() <= c.w.p.Snapshot().Main.ClientBuffer {
		return false
	}
	c.full = true
	c.conn.Pause()
	return true
}
