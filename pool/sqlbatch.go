package pool

import (
	"cmp"

	"github.com/pgweir/pgweir/pool/sql"
	"github.com/pgweir/pgweir/wire"
)

// PREPARE, EXECUTE and DEALLOCATE in the extended protocol. A Parse is rewritten
// as a Query is, and what its Execute will mean is noted with the portals that
// it is bound to.

// sqlParse appends a Parse of a text that may name prepared statements, called
// name on the server and with body as the client has it, and pushes the entry e
// for it, with r if that is there: of a private statement, for which it makes
// room. v.toldSQL is then what an Execute of it means.
func (c *Client) sqlParse(out []byte, name string, body []byte, e owed, r *ref) []byte {
	v := c.server
	v.toldSQL = nil
	query, types, _ := wire.CutString(body)
	text := query
	if list, _ := c.sqlStatements(query); len(list) == 1 {
		if more := prepares(list); more > 0 && c.crowded(more) {
			return out
		}
		var target string
		s := list[0]
		st := c.names[s.Name]
		if st != nil && v.prepared.of[st] == nil {
			st = c.reread(s.Name, st)
		}
		switch {
		case s.Verb == sql.DeallocateAll:
			v.toldSQL = &ref{what: refAll}
		case s.Verb == sql.Prepare && st == nil:
			st = c.w.p.statements.findSQL(c.meaning(query[s.After:s.End]), query[s.After:s.End])
			target = sql.QuoteName(st.name)
			v.toldSQL = &ref{st: st, name: s.Name, what: refBoth}
		case st != nil && st.private && s.Verb == sql.Deallocate:
			target = sql.QuoteName(st.name)
			if !v.prepared.has(st) {
				out = v.makeRoom(out, st)
				v.ledger.pushTelling(ref{st: st, what: refPrepare})
				out = append(out, sqlTelling(prepareNothing(target))...)
			}
			v.toldSQL = &ref{st: st, name: s.Name, what: refDrop}
		case st == nil || st.private || s.Verb == sql.Prepare && st.retired.Load():
			target = v.nobody(s.Name)
			if s.Verb == sql.Prepare { // the name is taken
				v.strays = true
				v.ledger.pushTelling(ref{})
				out = append(out, sqlTelling(prepareNothing(target))...)
			}
		case s.Verb == sql.Deallocate:
			there, drop := c.inPlaceOf(st)
			defer drop()
			out = v.tell(out, there)
			target = sql.QuoteName(there.name)
			v.toldSQL = &ref{st: there, name: s.Name, what: refDrop}
			if there != st {
				v.toldSQL.was = st
			}
		case v.blind && st.retired.Load():
			target = sql.QuoteName(st.name) // to be refused
			v.prepared.has(st)              // and so to stay
		default:
			st, drop := c.inPlaceOf(st)
			defer drop()
			out = v.tell(out, st)
			target = sql.QuoteName(st.name)
			v.toldSQL = &ref{st: st, name: s.Name}
		}
		if target != "" {
			text = append(append(append([]byte(nil), query[:s.NameAt]...), target...), query[s.After:]...)
			if v.toldSQL != nil {
				v.toldSQL.sql = &sqlWork{edits: []edit{{
					c.characters(query[:s.NameAt]), c.characters(query[s.NameAt:s.After]), c.characters([]byte(target)),
				}}}
			}
		}
	}
	if r != nil {
		out = v.makeRoom(out, r.st)
		v.ledger.pushRef(e, *r)
	} else {
		v.ledger.push(e)
	}
	out, at := wire.Begin(out, wire.Parse)
	out = wire.AppendString(out, name)
	out = append(append(append(out, text...), 0), types...)
	return wire.End(out, at)
}

// parsesSQL reports whether the text of a Parse, whose body behind the name is
// given, may name prepared statements.
func parsesSQL(body []byte) bool {
	query, _, ok := wire.CutString(body)
	return ok && sql.MayNameStatements(query)
}

// usesNames reports whether the text of such a Parse does name prepared
// statements, and which it executes if it does nothing else.
func (c *Client) usesNames(body []byte) (executes string, ok bool) {
	query, _, _ := wire.CutString(body)
	list, all := c.sqlStatements(query)
	if all == 1 && len(list) == 1 && list[0].OnlyExecutes(query) {
		executes = list[0].Name
	}
	return executes, len(list) > 0
}

// sqlExecute deals with an Execute that means r: it notes that, pushes what is
// owed, and appends what has to come before.
func (c *Client) sqlExecute(out []byte, r ref) []byte {
	v, t := c.server, &c.w.p.statements
	switch have := c.names[r.name]; {
	case r.what == refUse:
	case r.what == refAll:
		r.sql = c.loseAll()
	case r.what == refBoth && have == nil:
		out = v.makeRoom(out, r.st)
		c.setName(r.name, r.st)
		t.again(r.st)
	case r.what == refDrop && have != nil && have == cmp.Or(r.was, r.st):
		c.forget(r.name)
		if v.prepared.remove(r.st) {
			t.release(r.st)
		}
	default: // the names have changed since the Parse
		v.ledger.push(owedExecute)
		return out
	}
	v.ledger.pushRef(owedExecute, r)
	return out
}

// loseAll notes that all statements go with the DEALLOCATE ALL that is about to
// be sent, for what follows it in the batch, and returns what undoes that. The
// unnamed one stays.
func (c *Client) loseAll() *sqlWork {
	v, t := c.server, &c.w.p.statements
	lost := &sqlWork{names: map[string]*statement{}}
	for name, st := range c.names {
		if name != "" {
			lost.names[name] = st
			c.forget(name)
		}
	}
	for e := v.prepared.lru.tail; e != nil; e = v.prepared.lru.tail {
		lost.there = append(lost.there, e.st)
		v.prepared.remove(e.st)
		t.release(e.st)
	}
	return lost
}

// maxPortals is of how many portals it is noted what they mean for names. Who
// binds more at a time loses track, and the server forgets all names afterwards.
const maxPortals = 1 << 10

// bindSQL notes what an Execute of the portal will mean, nil if it changes or
// uses no names.
func (v *Server) bindSQL(portal []byte, r *ref) {
	switch {
	case r != nil && len(v.portals) >= maxPortals:
		v.strays = true
	case r == nil && len(v.portals) > 0:
		delete(v.portals, string(portal))
	case r != nil && v.portals == nil:
		v.portals = map[string]*ref{string(portal): r}
	case r != nil:
		v.portals[string(portal)] = r
	}
}

// executesSQL is what an Execute means, nil if it changes or uses no names.
func (v *Server) executesSQL(msg []byte) *ref {
	if len(v.portals) == 0 {
		return nil
	}
	portal, _, _ := wire.CutString(msg[wire.HeaderLen:])
	return v.portals[string(portal)]
}

// sqlTeller is the name of the statement, and the portal, by which a server is
// told a PREPARE within a batch of the extended protocol.
const sqlTeller = statementPrefix + "PREPARE"

// sqlTelling are the messages that have a server execute text: two Closes, for
// an error may have left the last one's, Parse, Bind and Execute.
func sqlTelling(text string) []byte {
	var b []byte
	add := func(typ byte, body ...string) {
		out, at := wire.Begin(b, typ)
		for _, s := range body {
			out = append(out, s...)
		}
		b = wire.End(out, at)
	}
	add(wire.Close, "S", sqlTeller, "\x00")
	add(wire.Close, "P", sqlTeller, "\x00")
	add(wire.Parse, sqlTeller, "\x00", text, "\x00", "\x00\x00")
	add(wire.Bind, sqlTeller, "\x00", sqlTeller, "\x00", "\x00\x00\x00\x00\x00\x00")
	add(wire.Execute, sqlTeller, "\x00", "\x00\x00\x00\x00")
	return b
}

// pushTelling pushes what a server owes for sqlTelling's messages.
func (l *ledger) pushTelling(r ref) {
	l.push(owedClose | owedSwallow)
	l.push(owedClose | owedSwallow)
	l.push(owedParse | owedSwallow)
	l.push(owedBind | owedSwallow)
	l.pushRef(owedExecute|owedSwallow, r)
}
