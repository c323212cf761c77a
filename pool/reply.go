package pool

import (
	"cmp"

	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool/latency"
	"github.com/pgweir/pgweir/wire"
)

// maxMessage is the longest message that a server may send: what Postgres
// itself can make.
const maxMessage = 1<<30 + 8<<10

// maxWhole is the longest message of a server that is put together before it
// is looked at: a ParameterStatus, or an error.
const maxWhole = 64 << 10

// Data implements wire.Handler. Nobody is given a server before the read is
// over: afterwards v may be another loop's.
func (v *Server) Data(b []byte) {
	w := v.shard.w
	w.reading = true
	v.read(b)
	w.reading = false
	w.serve()
}

// replies is a piece of what a server says, on its way to the client:
// in[from:at] is to be sent.
type replies struct {
	v        *Server
	in       []byte
	from, at int

	// loosened is set if v may be free by now though no ReadyForQuery says so:
	// the client has got the end of a message, or an answer of pgweir's.
	loosened bool
}

// read passes on what a server says to its client, in one piece as far as it
// goes. The ledger says when it is over.
func (v *Server) read(in []byte) {
	if v.part != nil {
		in, v.part = v.shard.w.join(v.part, in), nil
	}
	r := replies{v: v, in: in, loosened: v.torn()}
	for r.at < len(in) && r.step() {
	}
	if v.state == ServerClosed {
		return
	}
	r.flush()
	if v.ledger.local() {
		r.answerLocal()
		v.forward(nil)
	}
	if r.at < len(in) {
		v.part = v.shard.w.hold(nil, in[r.at:])
	}
	v.unthrottle()
	c := v.client
	switch {
	case v.leaving:
		v.leaving = false
		v.settle()
	case r.loosened && c != nil:
		v.rest()
	}
	if c != nil {
		c.leave()
	}
}

// step deals with the next message, or with what is here of it. It reports false
// if that has to wait for more, or v has ended.
func (r *replies) step() bool {
	v := r.v
	if v.remain > 0 {
		n := min(v.remain, len(r.in)-r.at)
		v.remain -= n
		r.advance(n)
		return true
	}
	typ, size, ok, err := wire.Peek(r.in[r.at:], maxMessage)
	if err != nil {
		r.flush()
		v.close("bad pkt header", false)
		return false
	}
	if !ok {
		return false
	}
	if v.ledger.local() {
		r.flush()
		r.answerLocal()
	}
	if size > len(r.in)-r.at && v.wantsWhole(typ, size) {
		return false
	}
	msg := r.in[r.at:min(r.at+size, len(r.in))]
	swallow, ok := v.look(typ, msg)
	if !ok {
		r.flush()
		v.unexpected(typ)
		return false
	}
	if typ == wire.ErrorResponse {
		swallow = r.failed(msg, size, swallow)
	} else if !swallow && v.pending != askingAgain { // whose ReadyForQuery only remarks can precede
		v.again = v.again[:0] // an answer is told
	}
	if swallow && r.from < r.at {
		r.flush()
	}
	v.remain, v.swallow = size-len(msg), swallow
	r.advance(len(msg))
	if typ == wire.ReadyForQuery {
		r.flush()
		v.ready(swallow)
	}
	return v.state != ServerClosed
}

// advance goes n bytes on. They are the client's, unless they are swallowed.
func (r *replies) advance(n int) {
	if r.at += n; r.v.swallow {
		r.from = r.at
	}
}

// flush sends what is to be sent.
func (r *replies) flush() {
	r.v.forward(r.in[r.from:r.at])
	r.from = r.at
}

// answerLocal is that of the server, which may be free then.
func (r *replies) answerLocal() {
	r.v.answerLocal()
	r.loosened = true
}

// failed takes an ErrorResponse of size bytes, of which msg are here, into
// account. It reports whether its bytes are not to be sent: swallow says that the
// error is pgweir's own; of another the client may be told something else, or
// nothing, for what has failed is asked again.
func (r *replies) failed(msg []byte, size int, swallow bool) bool {
	v := r.v
	instead, again := v.heal(msg)
	culprit := v.ledger.culprit()
	v.asking = false
	v.undo()
	v.bareFailed()
	if swallow || again {
		return true
	}
	v.again = v.again[:0]
	if instead == nil && len(msg) == size {
		instead = v.rename(msg, culprit)
	}
	if instead == nil {
		return false
	}
	r.flush()
	v.forward(instead)
	return true
}

// unthrottle goes on reading the client if enough was answered for that.
func (v *Server) unthrottle() {
	c := v.client
	if c != nil && c.throttled && v.ledger.n <= maxOwed/2 && v.ledger.settling == 0 && v.pending == nil && !v.asking {
		c.throttled = false
		c.proceed()
	}
}

// torn reports whether v's client has the begin of a message and not its end.
func (v *Server) torn() bool { return v.remain > 0 && !v.swallow }

// wantsWhole reports whether look has to see a message of that type whole.
func (v *Server) wantsWhole(typ byte, size int) bool {
	switch typ {
	case wire.ReadyForQuery, wire.ParameterStatus, wire.ErrorResponse: // which may tell one of pgweir's names
		return size <= maxWhole
	case wire.CommandComplete:
		return size <= longTag
	case wire.RowDescription:
		return size <= maxWhole && v.ledger.awaitsShape()
	case wire.DataRow:
		return size <= maxWhole && (v.job == jobRole || v.job == jobLive)
	}
	return false
}

// look takes a message into account: what it means for the server, and whose
// it is. msg is the whole of it if wantsWhole said so. ok is false for what
// can't come from a server now.
func (v *Server) look(typ byte, msg []byte) (swallow, ok bool) {
	c := v.client
	switch typ {
	case wire.ReadyForQuery:
		if len(msg) != 6 || !wire.TxStatus(msg[5]).Valid() {
			return false, false
		}
		v.status = wire.TxStatus(msg[5])
		if v.pending != nil && v.ledger.work() == v.pending {
			v.pending = nil
		}
		swallow, ok = v.ledger.ready()
		return swallow || c == nil, ok
	case wire.ParameterStatus:
		if len(msg) > maxWhole || !v.setParameter(msg[wire.HeaderLen:]) {
			return false, false
		}
		return c == nil || v.job == jobSets, true
	case wire.NoticeResponse:
		return c == nil || v.job == jobSets, true
	case wire.NotificationResponse:
		if c == nil {
			v.log(Warning, "got packet 'A' from server when not linked")
		}
		return c == nil, true
	case wire.ErrorResponse:
		swallow, ok = v.ledger.answered(typ)
		if c == nil || v.job == jobSets {
			v.jobError = cmp.Or(wire.ParseFields(msg[wire.HeaderLen:]).Message, "an error that does not say which")
			if c == nil && v.job == jobNone {
				v.log(Warning, "server said: "+v.jobError)
			}
			return true, ok && (c != nil || v.job != jobNone)
		}
		return swallow, ok
	}
	own := false
	switch {
	case typ == wire.CommandComplete && len(msg) <= longTag:
		v.told(msg)
		own = v.sqlDone(msg)
	case (typ == wire.RowDescription || typ == wire.NoData) && v.ledger.awaitsShape():
		v.described(shapeOf(msg))
	case typ == wire.DataRow && v.job == jobRole && len(msg) <= maxWhole:
		v.readRole(msg[wire.HeaderLen:])
	case typ == wire.DataRow && v.job == jobLive && len(msg) <= maxWhole:
		v.readLive(msg[wire.HeaderLen:])
	}
	swallow, ok = v.ledger.answered(typ)
	return swallow || own || c == nil, ok && (c != nil || v.job != jobNone)
}

// setParameter takes over a ParameterStatus. ok is false if it is none.
func (v *Server) setParameter(body []byte) (ok bool) {
	name, rest, ok := wire.CutString(body)
	if !ok {
		return false
	}
	value, _, ok := wire.CutString(rest)
	if !ok {
		return false
	}
	t := v.shard.w.p.tracked
	if i, known := t.Lookup(string(name)); known {
		v.vars = v.vars.With(t, i, string(value))
		if c := v.client; c != nil && v.job != jobSets {
			c.vars = c.vars.With(t, i, string(value))
		}
	}
	return true
}

// forward sends b to the client, after what pgweir itself has to say.
func (v *Server) forward(b []byte) {
	c := v.client
	if len(v.local) > 0 {
		w := v.shard.w
		if len(b) <= maxGather {
			w.scratch = append(append(w.scratch[:0], v.local...), b...)
			b = w.scratch
		} else if c != nil {
			c.conn.Write(v.local)
		}
		v.local = v.local[:0]
	}
	if len(b) == 0 || c == nil {
		return
	}
	v.shard.stats.Sent += uint64(len(b))
	c.conn.Write(b)
	if c.conn.Queued() > v.shard.w.p.Snapshot().Main.ClientBuffer {
		v.stalled = true
		v.conn.Hold()
	}
}

// unexpected ends v after a message that nobody asked for.
func (v *Server) unexpected(typ byte) {
	switch {
	case v.client == nil && v.job == jobNone:
		v.close("idle server got dirty", false)
	case typ == wire.ParameterStatus:
		v.close("broken ParameterStatus packet", false)
	default:
		v.log(Error, "message '"+string(rune(typ))+"' from the server answers nothing that was asked")
		v.close("unknown pkt from server", false)
	}
}

// ready does what follows from a ReadyForQuery. own says that it ended a query
// of pgweir's own.
func (v *Server) ready(own bool) {
	if own {
		v.jobDone()
	}
	c := v.client
	if c == nil || v.state == ServerClosed {
		return
	}
	v.settleReading()
	if !own {
		v.account(c)
		if v.status != wire.TxIdle && v.replication == replicatesNot && v.shard.pool.settings.Load().PoolMode == configs.PoolStatement {
			v.close("transaction blocks not allowed in statement pooling mode", false)
			return
		}
	}
	if v.pending == askingAgain {
		c.askAgain()
		if v.state == ServerClosed {
			return
		}
	}
	if c.remain == 0 {
		v.restDuringRead()
	}
}

// account counts the query, and the transaction, that a ReadyForQuery ended.
// Those of replication are not counted: a stream that takes days says nothing
// of queries.
func (v *Server) account(c *Client) {
	if v.ledger.n > 0 {
		return // a pipeline counts once
	}
	now := v.shard.w.now()
	if v.replication != replicatesNot {
		c.busy, c.inXact, v.since = false, false, now
		return
	}
	s := &v.shard.stats
	if c.busy {
		c.busy = false
		s.Queries++
		s.QueryTime += now.Sub(c.queryStart)
		v.shard.latencies[latency.Query].Record(now.Sub(max(c.queryStart, v.since)))
	}
	if v.status == wire.TxIdle && c.inXact {
		c.inXact = false
		s.Xacts++
		s.XactTime += now.Sub(c.xactStart)
		v.shard.latencies[latency.Transaction].Record(now.Sub(c.xactStart))
	}
	v.since = now
}

// free reports whether v may be given to another client: the one place that
// decides it.
func (v *Server) free() bool {
	c := v.client
	return c != nil && v.ledger.clear() && v.status == wire.TxIdle && c.remain == 0 && !c.throttled && !v.torn() &&
		v.conn.Queued() == 0 && v.job == jobNone && !v.shard.pool.session() &&
		v.replication == replicatesNot
}

// restDuringRead is rest for a server whose input is being read: it goes to
// the next client when that is through.
func (v *Server) restDuringRead() {
	if v.askProbe() || !v.free() {
		return
	}
	c := v.client
	v.unpair()
	v.leaving = true
	c.leave()
}

// rest releases v if it is free. It is called when the last thing that kept it
// may be gone.
func (v *Server) rest() {
	if v.leaving || v.askProbe() || !v.free() {
		return
	}
	c := v.client
	v.unpair()
	c.leave()
	v.settle()
}

// askProbe sends the probe of a ledger in doubt, if it is time for it.
func (v *Server) askProbe() bool {
	if !v.ledger.uncertain() || v.ledger.skipping || v.job != jobNone || v.client.remain > 0 {
		return false
	}
	v.run(jobProbe, "")
	return true
}
