package pool

import (
	"cmp"
	"slices"

	"github.com/pgweir/pgweir/wire"
)

// prepared are the statements that a server has, the least recently used last.
// The zero value is that of a server that has none.
type prepared struct {
	of  map[*statement]*preparation
	lru list[preparation, *preparation]
}

type preparation struct {
	links[preparation]
	st    *statement
	shape shape // zero: the server has not told
}

func (p *preparation) at() *links[preparation] { return &p.links }

// has reports whether the server has st, and notes its use.
func (p *prepared) has(st *statement) bool {
	e := p.of[st]
	if e == nil {
		return false
	}
	if p.lru.head != e {
		p.lru.remove(e)
		p.lru.pushFront(e)
	}
	return true
}

// add notes that the server has st, which it had not.
func (p *prepared) add(st *statement) {
	p.restore(st)
	e := p.of[st]
	p.lru.remove(e)
	p.lru.pushFront(e)
}

// restore notes that the server still has st, which it was thought to have lost.
func (p *prepared) restore(st *statement) {
	if p.of == nil {
		p.of = map[*statement]*preparation{}
	}
	e := &preparation{st: st}
	p.of[st] = e
	p.lru.pushBack(e)
}

// remove notes that the server has st no more. It reports whether it had.
func (p *prepared) remove(st *statement) bool {
	e := p.of[st]
	if e == nil {
		return false
	}
	delete(p.of, st)
	p.lru.remove(e)
	return true
}

// tell appends what a server has to be told before st is used, nothing if it
// has it.
func (v *Server) tell(out []byte, st *statement) []byte {
	if !st.private && v.prepared.has(st) {
		return out
	}
	if st.private {
		return v.client.tellOwn(out, st, owedParse|owedSwallow, ref{st: st, what: refPrepare})
	}
	out = v.makeRoom(out, st)
	v.shard.stats.ServerParses++
	if r := (ref{st: st, what: refPrepare}); st.tail != "" {
		v.ledger.pushTelling(r)
	} else {
		v.ledger.pushRef(owedParse|owedSwallow, r)
	}
	return append(out, st.parse...)
}

// makeRoom notes that the server is told st now, and appends what closes the old one
// of that name, and others until there are not too many.
func (v *Server) makeRoom(out []byte, st *statement) []byte {
	p := v.shard.w.p
	if v.prepared.remove(st) {
		out = v.appendClose(out, st, refEvict)
		p.statements.release(st)
	}
	limit := v.shard.pool.settings.Load().MaxPreparedStatements
	if st.private {
		limit = max(limit, 2) // what its text names, and the server was told before, stays
	}
	for v.prepared.lru.n >= limit && v.prepared.lru.n > 0 {
		out = v.evict(out, v.prepared.lru.tail.st)
	}
	v.prepared.add(st)
	p.statements.again(st)
	v.readsNow(st)
	return out
}

// evict notes that the server loses st for want of room, and appends the Close.
func (v *Server) evict(out []byte, st *statement) []byte {
	v.prepared.remove(st)
	out = v.appendClose(out, st, refEvict)
	v.shard.w.p.statements.release(st)
	return out
}

// tellOwn appends what tells the server the client's private statement st, by a
// Parse for which the entry e with r is pushed.
func (c *Client) tellOwn(out []byte, st *statement, e owed, r ref) []byte {
	c.server.shard.stats.ServerParses++
	return c.sqlParse(out, st.name, st.parse, e, &r)
}

// appendClose appends a Close of pgweir's own.
func (v *Server) appendClose(out []byte, st *statement, what refKind) []byte {
	v.ledger.pushRef(owedClose|owedSwallow, ref{st: st, what: what})
	return appendNaming(out, wire.Close, st.name)
}

// forgetStatements notes that the server has no statement any more.
func (v *Server) forgetStatements() {
	t := &v.shard.w.p.statements
	for st := range v.prepared.of {
		t.release(st)
	}
	v.prepared = prepared{}
}

// discardedAll notes that the session has lost its statements (DISCARD ALL,
// DEALLOCATE ALL), the client's names with them; but neither the unnamed one nor
// what was sent after that, and is still to be answered.
func (v *Server) discardedAll() {
	t, c := &v.shard.w.p.statements, v.client
	v.strays, v.common = false, false
	names := map[string]bool{}
	later := map[*statement]bool{}
	for _, r := range v.ledger.refs[v.ledger.refAt:] {
		if r.what == refRegister || r.what == refBoth {
			names[r.name] = true
		}
		if r.what == refPrepare || r.what == refBoth {
			later[r.st] = true
		}
	}
	for st := range v.prepared.of {
		if !later[st] {
			v.prepared.remove(st)
			t.release(st)
		}
	}
	if c != nil && v.job == jobNone {
		for name := range c.names {
			if name != "" && !names[name] {
				c.forget(name)
			}
		}
	}
}

// undo takes back what was taken for granted by messages that the server has
// ignored: the newest first, for one name may occur more than once.
func (v *Server) undo() {
	l, t, c := &v.ledger, &v.shard.w.p.statements, v.client
	for i := len(l.undone) - 1; i >= 0; i-- {
		r := l.undone[i]
		l.undone[i] = ref{}
		if r.sql != nil && r.sql == v.pending {
			v.pending = nil
		}
		if (r.what == refPrepare || r.what == refBoth) && v.prepared.remove(r.st) {
			t.release(r.st)
		}
		if (r.what == refEvict || r.what == refDrop) && v.prepared.of[r.st] == nil {
			v.prepared.restore(r.st)
			t.again(r.st)
		}
		if r.what == refAll && r.sql != nil {
			for _, st := range slices.Backward(r.sql.there) { // restore puts each last
				v.prepared.restore(st)
				t.again(st)
			}
		}
		if c == nil {
			continue
		}
		if r.was != nil && c.names[r.name] == r.st {
			c.forget(r.name)
			c.setName(r.name, r.was)
			t.again(r.was)
		}
		switch r.what {
		case refAll:
			if r.sql != nil {
				for name, st := range r.sql.names {
					c.setName(name, st)
					t.again(st)
				}
			}
		case refRegister, refBoth:
			c.forget(r.name)
		case refForget, refDrop:
			if c.names[r.name] == nil {
				st := cmp.Or(r.was, r.st)
				c.setName(r.name, st)
				t.again(st)
			}
		}
	}
	l.undone = l.undone[:0]
}
