package pool

import (
	"bytes"
	"encoding/binary"

	"github.com/pgweir/pgweir/wire"
)

// A session's statement has one result for good: after its table was altered
// Postgres refuses it, for its client may believe what it was told of the rows
// once. A server that meets the statement only then parses it as the table is
// now, and would not refuse. So it is noted what clients were told, and how the
// statement is on each server. Where that is not known yet, and a client binds
// the statement without asking what its rows look like, the server is asked
// first, once. If it is not what clients were told they get Postgres' error.

// shape is a digest of a statement's result: the names and types of its columns.
// Zero is unknown.
type shape uint64

// shapeOf is the shape of which a NoData or a RowDescription tells. If it is not
// whole only its size counts.
func shapeOf(msg []byte) shape {
	const basis, prime = 14695981039346656037, 1099511628211 // FNV-1a
	h := uint64(basis)
	add := func(b []byte) {
		for _, c := range b {
			h = (h ^ uint64(c)) * prime
		}
	}
	add(msg[:wire.HeaderLen])
	var rest []byte
	if uint64(binary.BigEndian.Uint32(msg[1:]))+1 == uint64(len(msg)) && msg[0] == wire.RowDescription {
		rest = msg[min(len(msg), wire.HeaderLen+2):]
	}
	for len(rest) > 0 {
		// Behind the name: table, column, type (4, length 2, modifier 4), format.
		name := bytes.IndexByte(rest, 0) + 1
		if len(rest) < name+18 {
			break
		}
		add(rest[:name])
		add(rest[name+6 : name+16])
		rest = rest[name+18:]
	}
	return shape(max(h, 1))
}

// told is the shape of which clients of st were told, if any was.
func (st *statement) told() shape { return shape(st.shape.Load()) }

// tells notes that a client is told of the shape s. It reports false if others
// were told of another.
func (st *statement) tells(s shape) bool {
	return st.shape.CompareAndSwap(0, uint64(s)) || st.told() == s
}

// shape is that of st on the server, zero if that has not told.
func (p *prepared) shape(st *statement) shape {
	if e := p.of[st]; e != nil {
		return e.shape
	}
	return 0
}

// outdated reports whether st is retired, and the server lacks it or has it with
// another result than the one of which clients were told.
func (v *Server) outdated(st *statement) bool {
	e := v.prepared.of[st]
	return st.retired.Load() && !st.private && (e == nil || e.shape != st.told())
}

// bound is a portal whose statement has a shape that the server has not told.
type bound struct {
	portal, name []byte // with its zero byte; the client's name for st
	st           *statement
}

// bind notes what was bound to a portal last, if a Describe of that is of
// interest.
func (v *Server) bind(portal, name []byte, st *statement) {
	if b := &v.bound; !st.private && v.prepared.shape(st) == 0 {
		b.portal, b.name, b.st = append(b.portal[:0], portal...), append(b.name[:0], name...), st
	}
}

// describing is the ref of a Describe that is the given use of a statement.
func (v *Server) describing(used ref, name []byte) ref {
	if !used.st.private && v.prepared.shape(used.st) == 0 {
		used.name = string(name) // its answer tells something new
	}
	return used
}

// describesBound reports whether m is a Describe of the portal that was bound
// last, and its answer is of interest. It has to be there whole.
func (v *Server) describesBound(m *message) bool {
	return m.typ == wire.Describe && v.bound.st != nil && describesPortal(m.in, v.bound.portal)
}

// result is the statement whose result that of st is, which c calls name, and
// c's name for it: what a private one executes, if it does nothing else.
func (c *Client) result(name []byte, st *statement) (own []byte, of *statement) {
	if st.private && st.executes != "" {
		if of := c.names[st.executes]; of != nil && !of.private {
			if c.server.prepared.of[of] == nil {
				of = c.reread(st.executes, of)
			}
			return []byte(st.executes), of
		}
	}
	return name, st
}

// blindly returns the statement of which the server has to be asked before the
// Bind m: its client was told of its result before and asks no more, and the
// server has not told what that is there. It is nil if there is no need.
func (c *Client) blindly(m *message) *statement {
	if m.is != namesOne || c.server.ledger.skipping {
		return nil
	}
	key := significant(m.name)
	st := c.names[string(key)]
	if st == nil {
		return nil
	}
	if c.server.prepared.of[st] == nil {
		st = c.reread(string(key), st)
	}
	_, st = c.result(key, st)
	if st.private || st.told() == 0 || c.server.prepared.shape(st) != 0 || describesPortal(m.behind(), m.portal()) {
		return nil
	}
	return st
}

// askShape appends what asks the server of the shape of st, and tells it that
// before if it lacks it. The client is not read until the answer is there.
func (v *Server) askShape(out []byte, st *statement) []byte {
	out = v.tell(out, st)
	v.ledger.pushRef(owedDescribe|owedSwallow, ref{st: st})
	v.asking = true
	out = appendNaming(out, wire.Describe, st.name)
	return append(out, wire.Flush, 0, 0, 0, 4)
}

// awaitsShape reports whether the server's next answer is to tell of a shape.
func (l *ledger) awaitsShape() bool {
	const kind = owedKind | owedRef
	head := l.first()
	return head&kind == owedDescribe|owedRef && (head&owedSwallow != 0 || l.refs[l.refAt].name != "")
}

// described takes the answer to a Describe into account, the client's or
// pgweir's own. If others were told something else of the statement, another
// takes its place for who was told now.
func (v *Server) described(s shape) {
	r := v.ledger.refs[v.ledger.refAt]
	if e := v.prepared.of[r.st]; e != nil {
		e.shape = s
	}
	own := v.ledger.first()&owedSwallow != 0
	if own {
		v.asking = false
	}
	if own && r.st.told() == s || !own && r.st.tells(s) {
		return
	}
	t, c := &v.shard.w.p.statements, v.client
	t.retire(r.st)
	if own || c == nil || c.names[r.name] != r.st {
		return
	}
	next := t.like(r.st, r.st.meaning())
	for !next.tells(s) {
		t.retire(next)
		old := next
		next = t.like(old, old.meaning())
		t.release(old)
	}
	c.forget(r.name)
	c.setName(r.name, next)
}
