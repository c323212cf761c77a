package pool

import "github.com/pgweir/pgweir/wire"

// relay sends on what c asks, and holds what can't be sent yet.
func (c *Client) relay(b []byte) {
	limit := int(c.w.p.Snapshot().Main.MaxPacketSize)
	start, i := 0, 0 // b[start:i] is to be sent as it is,
	var out []byte   // and before it this, which is not as it was
	var bare []byte  // a Parse of the unnamed statement, not used yet
	var again watch
input:
	for i < len(b) {
		if c.remain > 0 {
			n := min(c.remain, len(b)-i)
			c.remain -= n
			i += n
			if c.server == nil {
				start = i
			}
			continue
		}
		typ, size, ok, err := wire.Peek(b[i:], limit)
		if err != nil {
			c.sendBoth(out, b[start:i])
			c.disconnect(true, badHeader(b[i:]))
			return
		}
		if !ok {
			break
		}
		e, known := owes(typ)
		switch {
		case typ == wire.Terminate:
			c.sendBoth(out, b[start:i])
			c.disconnect(false, "client close request")
			return
		case !known:
			c.sendBoth(out, b[start:i])
			c.disconnect(true, "unknown pkt")
			return
		case typ == wire.Query && c.w.p.Snapshot().Main.DisablePQExec:
			c.sendBoth(out, b[start:i])
			c.disconnect(true, "PQexec disallowed")
			return
		}
		name, end, naming := c.naming(typ, b[i:], size)
		switch naming {
		case namesMore:
			break input
		case namesOne:
			if typ == wire.Parse && c.names[string(significant(name))] == nil && c.crowded(1) {
				return
			}
		case namesBroken:
			c.sendBoth(out, b[start:i])
			c.disconnect(true, "broken "+packetName(typ)+" packet")
			return
		}
		if v := c.server; v != nil && typ == wire.Describe && size > len(b)-i && v.bound.st != nil && size <= maxNames {
			break input // see describesBound
		}
		if c.server == nil {
			if e != 0 && c.tooFull() {
				c.keepInput(b[i:])
				return
			}
			switch {
			case c.alone(typ, name, naming):
				e = 0
			case e != 0:
				c.begin()
				if !c.shard.acquire(c) {
					if c.state != ClientClosed {
						c.keepInput(b[i:])
					}
					return
				}
			}
		}
		n := min(size, len(b)-i)
		if v := c.server; v != nil {
			if c.awaits(typ, e, naming, b[i:]) {
				c.throttled = true
				c.conn.Pause()
				break input
			}
			if e != 0 && e != owedCopyEnd && !c.busy {
				c.begin()
			}
			if typ == wire.Bind {
				v.bound.st = nil
				if naming == namesOne && !v.ledger.skipping {
					if st := c.blindly(name, b[i:], end, size); st != nil {
						out = v.askShape(c.gather(out, b[start:i]), st)
						start = i
						c.throttled = true
						c.conn.Pause()
						break input
					}
				}
			}
			if !again.on && again.first(v, typ, naming) {
				again = watch{on: true, from: i}
			}
			if again.on {
				again.see(v, typ, name, b, i, size)
			}
			switch {
			case naming == namesOne && !v.ledger.skipping:
				out = c.statement(c.gather(out, b[start:i]), typ, name, b[i:], end, size)
				n, start = end, i+end
			case naming == namesBare && typ != wire.Parse && v.bareOf != c.id && !v.ledger.skipping:
				out = c.bare(c.gather(out, b[start:i]), typ, b[i:], end, size)
				n, start = end, i+end
			case c.changesSQL(typ, naming, b[i:]):
				if size > len(b)-i {
					break input
				}
				out = c.sql(c.gather(out, b[start:i]), typ, b[i:i+size])
				start = i + size
				switch typ {
				case wire.Parse:
					bare = b[i : i+size]
				case wire.Query:
					bare = nil
				}
			case v.describesBound(typ, b[i:]):
				v.ledger.pushRef(e, v.describing(ref{st: v.bound.st}, v.bound.name))
			case e != 0:
				if !v.ledger.skipping {
					bare = c.passBare(bare, typ, naming, b[i:], size)
				}
				v.ledger.push(e)
			case typ == wire.Flush && v.ledger.local():
				v.answerLocal()
				v.forward(nil)
			}
			if c.state == ClientClosed { // it has too many names
				return
			}
		}
		c.remain = size - n
		i += n
		if c.server == nil {
			start = i
		}
	}
	c.keepBare(bare)
	c.sendBoth(out, b[start:i])
	c.keepInput(b[i:])
	if v := c.server; v != nil && c.remain == 0 {
		v.rest()
	}
}

// naming says whether a message of size bytes, of which msg are here, names
// prepared statements, as statementName and sqlNaming do.
func (c *Client) naming(typ byte, msg []byte, size int) (name []byte, end int, is naming) {
	switch typ {
	case wire.Parse, wire.Bind, wire.Describe, wire.Close:
		if c.tracks() {
			return statementName(typ, msg, size)
		}
	case wire.Query:
		if c.tracks() {
			is = sqlNaming(msg, size)
		}
	}
	return nil, 0, is
}

// awaits reports whether a message may be sent only when the server has
// answered more of what it was sent before. c is not read until then.
func (c *Client) awaits(typ byte, e owed, is naming, msg []byte) bool {
	v := c.server
	return v.ledger.n >= maxOwed || v.asking && e != 0 || v.pending != nil && e != 0 && e != owedCopyEnd ||
		v.ledger.settling > 0 && (is == namesOne || c.changesSQL(typ, is, msg))
}

// owes is what a server owes for a message of type typ, 0 for one that is
// not answered. known is false for what no client may send.
func owes(typ byte) (e owed, known bool) {
	switch typ {
	case wire.Query:
		return owedQuery, true
	case wire.Parse:
		return owedParse, true
	case wire.Bind:
		return owedBind, true
	case wire.Describe:
		return owedDescribe, true
	case wire.Execute:
		return owedExecute, true
	case wire.Close:
		return owedClose, true
	case wire.Sync:
		return owedSync, true
	case wire.FunctionCall:
		return owedFunction, true
	case wire.CopyDone, wire.CopyFail:
		return owedCopyEnd, true
	case wire.Flush, wire.CopyData, wire.Terminate:
		return 0, true
	}
	return 0, false
}

// alone deals with a message of a client without a server that needs none. It
// reports false for one that does.
func (c *Client) alone(typ byte, name []byte, is naming) bool {
	switch {
	case c.discard: // up to the Sync of a request that was cancelled
		if typ == wire.Parse && is != namesOne {
			c.forget("")
		}
		if typ == wire.Sync {
			c.discard = false
			c.conn.Write(wire.AppendReadyForQuery(c.w.scratch[:0], wire.TxIdle))
		}
		return true
	case typ == wire.CopyDone || typ == wire.CopyFail:
		return true // the COPY is over, and its server gone
	case typ == wire.Close && is == namesOne:
		c.forget(string(significant(name)))
		c.conn.Write(append(c.w.scratch[:0], wire.CloseComplete, 0, 0, 0, 4))
		return true
	case typ == wire.Sync && c.tracks(): // of Closes only: no transaction is open
		c.conn.Write(wire.AppendReadyForQuery(c.w.scratch[:0], wire.TxIdle))
		return true
	}
	return false
}

// maxGather is the longest piece that is copied to go out together with
// others.
const maxGather = 16 << 10

// gather puts b behind out, which may be nil, or sends both if that is much to
// copy.
func (c *Client) gather(out, b []byte) []byte {
	if out == nil {
		out = c.w.gather[:0]
	}
	if len(b) <= maxGather && len(out) <= maxGather {
		return append(out, b...)
	}
	c.send(out)
	c.send(b)
	return out[:0]
}

// sendBoth passes out and b on to the server, and keeps out's memory.
func (c *Client) sendBoth(out, b []byte) {
	if out == nil {
		c.send(b)
		return
	}
	out = c.gather(out, b)
	c.send(out)
	if cap(out) <= 4*maxGather {
		c.w.gather = out[:0]
	}
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
