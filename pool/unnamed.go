package pool

import "github.com/pgweir/pgweir/wire"

// The unnamed statement belongs to its session, and a simple query takes it away.
// Drivers that parse and bind in one batch need nothing for it. Others do that in
// two (lib/pq), and may have another server for the second: so a Parse that no
// Bind has followed yet is kept by the client, under the name "", and a server
// knows whose its unnamed statement is.

// maxBare bounds the Parse of an unnamed statement that is kept for a Bind in
// another batch.
const maxBare = 1 << 20

// bare deals with a message about the unnamed statement on a server where that
// is not c's: it appends what the server gets in its place, and pushes what
// that is owed. If c has prepared one on another server and not used it yet,
// the server is told it; else there is none, and Postgres has to say so: by no
// means may c meet somebody else's.
func (c *Client) bare(out []byte, m *message) []byte {
	v := c.server
	st := c.names[""]
	if m.typ == wire.Close {
		v.ledger.push(owedClose | owedLocal)
		c.forget("")
		return out
	}
	name := noStatement
	if st != nil {
		name = ""
		v.bareOf, v.bare = c.id, st
		v.shard.stats.ServerParses++
		if body := st.parse[wire.HeaderLen+1:]; parsesSQL(body) {
			out = c.sqlParse(out, "", body, owedParse|owedSwallow, nil)
			v.bareSQL = v.toldSQL
		} else {
			v.bareSQL = nil
			v.ledger.push(owedParse | owedSwallow)
			out = append(out, st.parse...)
		}
	}
	v.ledger.push(m.owes)
	at := len(out)
	out = append(out, m.in[:m.end-1]...)
	out = wire.AppendString(out, name)
	if m.typ == wire.Bind {
		v.bindBare(m)
		c.forget("")
	}
	return setSize(out, at, m.size+len(name))
}

// passBare notes what m, which goes to the server as it came, does to the
// unnamed statement. kept is the Parse of one that no Bind has followed yet, nil
// for none; passBare returns what that is then.
func (c *Client) passBare(kept []byte, m *message) []byte {
	v := c.server
	switch {
	case m.typ == wire.Query: // it takes the unnamed ones away
		v.bareOf = 0
		v.bindSQL(nil, nil)
		c.forget("")
		return nil
	case m.typ == wire.Parse: // also of a name that is not tracked: a reload may change that within a batch
		v.bareOf, v.bareSQL = c.id, nil
		c.forget("")
		if m.is == namesBare {
			return m.in[:m.size]
		}
		return nil
	case m.typ == wire.Bind && m.is == namesBare:
		v.bindBare(m)
		c.forget("")
		return nil
	case m.typ == wire.Close && m.is == namesBare:
		v.bareOf = 0
		c.forget("")
		return nil
	}
	return kept
}

// keepBare keeps the Parse of c's unnamed statement, which no Bind has followed
// yet: the Bind may come when c has another server.
func (c *Client) keepBare(parse []byte) {
	if len(parse) == 0 {
		return
	}
	st := &statement{parse: append([]byte(nil), parse...), holders: 1}
	c.forget("")
	c.setName("", st)
	if v := c.server; v != nil && v.bareOf == c.id {
		v.bare = st
	}
}

// checkBare looks whether v, which c is given, has c's unnamed statement: c may
// have prepared another elsewhere since.
func (v *Server) checkBare(c *Client) {
	if v.bareOf != 0 && (v.bareOf != c.id || v.bare == nil || v.bare != c.names[""]) {
		v.bareOf, v.bare = 0, nil
	}
}

// bindBare notes that the Bind m binds the unnamed statement.
func (v *Server) bindBare(m *message) {
	portal := m.portal()
	v.bindSQL(portal[:len(portal)-1], v.bareSQL)
}

// bareFailed notes that an error has cost v its unnamed statement, or c the one
// that was sent for, unless another was sent for after the Sync that ends the
// batch.
func (v *Server) bareFailed() {
	l := &v.ledger
	if !l.lostBare {
		return
	}
	for i := range l.n {
		if l.get(i).bareParse() {
			return
		}
	}
	v.bareOf = 0
	if c := v.client; c != nil {
		c.forget("")
	}
}
