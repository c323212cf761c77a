package pool

import (
	"bytes"

	"github.com/pgweir/pgweir/wire"
)

// After a table was altered, Postgres refuses what was prepared before:
// "cached plan must not change result type". It does so for the sake of
// clients that know the old type of the result. The statement is then retired:
// another takes its place for all who prepare it from now on, or who ask what
// its result looks like with each use; the others go on being refused.
//
// A batch that was refused is asked again, without its client noticing, if that
// is safe:
//
//   - no transaction was open, and the refusal is the first answer: nothing was
//     done, and nothing of it was told;
//   - the batch itself asks what its result looks like, so that nobody reads
//     rows of another shape than the one that he was told;
//   - it came in one piece of maxAgain bytes at most, and nothing behind it.

// maxAgain bounds what is kept of a batch to be asked again.
const maxAgain = 8 << 10

// askingAgain stands in Server.pending while a batch that was refused is about
// to be asked again.
var askingAgain = new(sqlWork)

// watch follows the messages of a client's input, to find a batch that may be
// asked again. The zero watch has found none.
type watch struct {
	on   bool
	from int // where the batch begins in the input

	described []byte // the statement that the batch describes
	bound     []byte // the portal that has to be described next; nil if none
}

// follow takes the message m into account, which is at in[at:]. At the end of a
// batch that may be asked again it keeps that.
func (a *watch) follow(v *Server, m *message, in []byte, at int) {
	if !a.on {
		if !m.mayBeginAgain(v) {
			return
		}
		*a = watch{on: true, from: at}
	}
	if !m.whole() {
		a.on = false
		return
	}
	msg := m.in[:m.size]
	switch m.typ {
	case wire.Describe:
		portal := msg[wire.HeaderLen] == 'P'
		switch {
		case !portal && a.bound == nil && len(m.name) > 0:
			a.described = m.name
		case portal && a.bound != nil && bytes.Equal(msg[wire.HeaderLen+1:m.size-1], a.bound):
			a.bound = nil
		default:
			a.on = false
		}
	case wire.Bind:
		portal, _, _ := wire.CutString(msg[wire.HeaderLen:])
		switch {
		case a.bound != nil || len(m.name) == 0:
			a.on = false
		case !bytes.Equal(m.name, a.described):
			a.bound = portal
		}
	case wire.Execute:
		a.on = a.bound == nil
	case wire.Sync:
		if a.on = false; a.bound == nil && at+m.size-a.from <= maxAgain {
			v.again = append(v.again[:0], in[a.from:at+m.size]...)
		}
	default:
		a.on = false
	}
}

// mayBeginAgain reports whether m may be the first message of a batch that may be
// asked again.
func (m *message) mayBeginAgain(v *Server) bool {
	return m.is == namesOne && (m.typ == wire.Bind || m.typ == wire.Describe) &&
		!v.repeating && v.status == wire.TxIdle && v.ledger.untouched()
}

// untouched reports whether the server has nothing to answer, and no batch is
// begun.
func (l *ledger) untouched() bool {
	for i := range l.n {
		if l.get(i)&owedLocal == 0 {
			return false
		}
	}
	return !l.skipping && !l.unsynced && l.copying == copyNone && !l.doubt
}

// stalePlan is what Postgres says of a statement whose result has changed
// since it was prepared, in every language the same.
const stalePlan = "C0A000\x00"

// outdated is what a client is told that has a retired statement, and does not
// ask what its result looks like, where the statement is not what it was.
var outdated = func() []byte {
	out, at := wire.Begin(nil, wire.ErrorResponse)
	for _, field := range []string{
		"SERROR", "VERROR", "C0A000", "Mcached plan must not change result type", "RRevalidateCachedQuery", "",
	} {
		out = wire.AppendString(out, field)
	}
	return wire.End(out, at)
}()

// heal looks at an error. If it says that the result of a statement has
// changed, the statement is retired; again then tells whether the batch is to be
// asked again: the error and the ReadyForQuery behind it are not the client's.
// instead is what the client is to be told in its place, nil if the error
// itself.
func (v *Server) heal(msg []byte) (instead []byte, again bool) {
	l, t := &v.ledger, &v.shard.w.p.statements
	var used *statement
	if r := l.culprit(); r.what == refUse {
		used = r.st
	}
	if used != nil && used.retired.Load() && bytes.Contains(msg, []byte("C26000\x00")) {
		return outdated, false
	}
	if !bytes.Contains(msg, []byte(stalePlan)) || !bytes.Contains(msg, []byte("RevalidateCachedQuery")) {
		return nil, false
	}
	work := l.work()
	switch {
	case work != nil:
		for _, st := range work.executes {
			t.retire(st)
		}
	case used != nil:
		t.retire(used)
	default:
		return nil, false
	}
	c := v.client
	if len(v.again) == 0 || c == nil || c.remain > 0 || l.n != 1 || v.status != wire.TxIdle {
		return nil, false
	}
	l.ring[l.head] |= owedSwallow
	v.pending = askingAgain
	return nil, true
}

// askAgain has the server asked again what it has refused.
func (c *Client) askAgain() {
	v := c.server
	v.pending = nil
	if v.status != wire.TxIdle {
		v.close("a transaction where none was open", false)
		return
	}
	batch := v.again
	v.again, v.repeating = nil, true
	c.relay(batch)
	v.repeating = false
}
