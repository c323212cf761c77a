package pool

import (
	"bytes"
	"cmp"
	"strings"

	"github.com/pgweir/pgweir/wire"
)

// tracks reports whether c's statements are pgweir's business.
func (c *Client) tracks() bool {
	return c.shard.pool.settings.Load().MaxPreparedStatements > 0 && !c.shard.pool.session() && !c.replicates()
}

// statement deals with a message that names a statement: it appends what the
// server gets in the place of m.in[:m.end], and pushes what that is owed. The
// client has a server that listens.
func (c *Client) statement(out []byte, m *message) []byte {
	key := significant(m.name)
	st := c.names[string(key)]
	if st != nil && m.typ != wire.Close && c.server.prepared.of[st] == nil {
		st = c.reread(string(key), st)
	}
	switch m.typ {
	case wire.Parse:
		return c.parse(out, m, string(key), st)
	case wire.Bind:
		return c.bind(out, m, key, st)
	case wire.Describe:
		return c.describe(out, m, key, st)
	}
	if st == nil { // to close what there is not is no error
		c.server.ledger.push(owedClose | owedLocal)
		return out
	}
	c.server.ledger.pushRef(owedClose|owedLocal, ref{st: st, name: string(key), what: refForget})
	c.forget(string(key))
	return out
}

// parse is statement for a Parse, of a name with which c calls st.
func (c *Client) parse(out []byte, m *message, name string, st *statement) []byte {
	v := c.server
	c.shard.stats.ClientParses++
	body := m.in[wire.HeaderLen+len(m.name)+1 : m.end]
	if st != nil {
		// Postgres says what is wrong with that: the server has a
		// statement of that name, or gets it now.
		st, drop := c.inPlaceOf(st)
		out = v.tell(out, st)
		drop()
		v.ledger.pushRef(owedParse, ref{st: st, name: name})
		out, at := wire.Begin(out, wire.Parse)
		return wire.End(append(wire.AppendString(out, st.name), body...), at)
	}
	if c.crowded(1) {
		return out
	}
	if parsesSQL(body) {
		if executes, ok := c.usesNames(body); ok {
			st = c.w.p.statements.own(body, executes)
			c.setName(name, st)
			return c.tellOwn(out, st, owedParse, ref{st: st, name: name, what: refBoth})
		}
	}
	st = c.w.p.statements.hold(c.meaning(body), body)
	c.setName(name, st)
	if v.prepared.has(st) && v.parses() {
		v.ledger.pushRef(owedParse|owedLocal, ref{st: st, name: name, what: refRegister})
		return out
	}
	out = v.makeRoom(out, st)
	c.shard.stats.ServerParses++
	v.ledger.pushRef(owedParse, ref{st: st, name: name, what: refBoth})
	return append(out, st.parse...)
}

// bind is statement for a Bind to what c calls key, nil if it calls nothing so.
func (c *Client) bind(out []byte, m *message, key []byte, st *statement) []byte {
	v := c.server
	c.shard.stats.Binds++
	portal := m.portal()
	v.toldSQL = nil
	if st == nil {
		v.ledger.push(owedBind)
		return appendBind(out, m, v.unknown(m.name))
	}
	own, result := c.result(key, st)
	used := ref{st: result}
	told := result.retired.Load() && describesPortal(m.behind(), portal) // no matter else
	if told {
		used = c.renew(string(own), result)
	}
	if !st.private {
		st = used.st
	}
	target := st.name
	if v.outdated(used.st) {
		target = noStatement
	} else {
		v.blind = st != used.st && !told
		out = v.tell(out, st)
		v.blind = false
		v.bind(portal, own, used.st)
	}
	v.bindSQL(portal[:len(portal)-1], v.toldSQL)
	v.ledger.pushRef(owedBind, used)
	return appendBind(out, m, target)
}

// describe is statement for a Describe of what c calls key, nil if it calls nothing
// so.
func (c *Client) describe(out []byte, m *message, key []byte, st *statement) []byte {
	v := c.server
	if st == nil {
		v.ledger.push(owedDescribe)
		return appendNaming(out, wire.Describe, v.unknown(m.name))
	}
	own, result := c.result(key, st)
	used := c.renew(string(own), result)
	if !st.private {
		st = used.st
	}
	out = v.tell(out, st)
	v.ledger.pushRef(owedDescribe, v.describing(used, own))
	return appendNaming(out, wire.Describe, st.name)
}

// portal is the portal of a Bind that is namesOne or namesBare, with its zero byte.
func (m *message) portal() []byte { return m.in[wire.HeaderLen : m.end-len(m.name)-1] }

// appendBind appends the begin of a Bind, up to the name of the statement, which
// is another now.
func appendBind(out []byte, m *message, name string) []byte {
	at := len(out)
	out = append(append(out, m.in[:wire.HeaderLen]...), m.portal()...)
	return setSize(wire.AppendString(out, name), at, m.size-len(m.name)+len(name))
}

// appendNaming appends a Describe or Close of a statement.
func appendNaming(out []byte, typ byte, name string) []byte {
	out, at := wire.Begin(out, typ)
	return wire.End(wire.AppendString(append(out, 'S'), name), at)
}

// unknown is what stands on a server for a name that its client has not: one that
// no server has, with the client's for the error; or the name itself if the
// server may have it all the same.
func (v *Server) unknown(name []byte) string {
	if v.common || v.strays {
		return string(name)
	}
	return noName + string(name)
}

// parses reports whether a Parse of what the server has will be no error. In a
// failed transaction it may be.
func (v *Server) parses() bool {
	l := &v.ledger
	if v.status == wire.TxFailed || l.n > 64 {
		return false
	}
	for i := range l.n { // what may fail a transaction
		if k := l.get(i) & owedKind; k == owedSync || k == owedQuery || k == owedFunction {
			return false
		}
	}
	return true
}

// describesPortal reports whether input begins with a Describe of the portal,
// given with its zero byte.
func describesPortal(in, portal []byte) bool {
	typ, size, ok, err := wire.Peek(in, maxNames)
	return ok && err == nil && typ == wire.Describe && size <= len(in) && in[wire.HeaderLen] == 'P' &&
		bytes.Equal(in[wire.HeaderLen+1:size], portal)
}

// renew returns the use of st, which c calls name, or of what takes its place if
// it was retired: from now on c means that, for it is told what its result looks
// like, unless the server ignores the message.
func (c *Client) renew(name string, st *statement) ref {
	if !st.retired.Load() {
		return ref{st: st}
	}
	next := c.like(st)
	c.forget(name)
	c.setName(name, next)
	return ref{st: next, name: name, was: st}
}

// reread returns st, which c calls name and its server lacks, or what takes its
// place if c's session reads the text otherwise by now: what the server is told
// then is nothing for those who mean st. c does not get to know, so what it was
// told of the result holds for the other, too.
func (c *Client) reread(name string, st *statement) *statement {
	if name == "" || st.private || st.alone || st.retired.Load() { // nobody else's, or to be renewed
		return st
	}
	next, t := c.like(st), &c.w.p.statements
	if next == st {
		t.release(next)
		return st
	}
	if told := st.told(); told != 0 && !next.tells(told) {
		t.release(next)
		next = t.apart(st, next.meaning())
	}
	c.forget(name)
	c.setName(name, next)
	return next
}

// like returns what c would get if it prepared now what st was prepared from, and
// counts a holder.
func (c *Client) like(st *statement) *statement {
	return c.w.p.statements.like(st, c.meaning(st.rest()))
}

// inPlaceOf returns what takes the place of st for one use, if it was retired.
// It is held until drop is called.
func (c *Client) inPlaceOf(st *statement) (_ *statement, drop func()) {
	if !st.retired.Load() {
		return st, func() {}
	}
	t := &c.w.p.statements
	next := c.like(st)
	return next, func() { t.release(next) }
}

// noStatement is a name that no server has.
const noStatement = statementPrefix + "0"

// setSize sets the length of the message at b[at:], the rest of which may still
// be to come.
func setSize(b []byte, at, size int) []byte {
	n := uint32(size - 1)
	b[at+1], b[at+2], b[at+3], b[at+4] = byte(n>>24), byte(n>>16), byte(n>>8), byte(n)
	return b
}

// crowded ends c if it has no room for so many names more. It reports whether it
// did.
func (c *Client) crowded(more int) bool {
	limit := c.w.p.Snapshot().Main.MaxClientPreparedStatements
	if limit == 0 || len(c.names)+more <= limit {
		return false
	}
	c.disconnect(true, "too many prepared statements (max_client_prepared_statements)")
	return true
}

// setName gives c a name, for which the caller counts a holder.
func (c *Client) setName(name string, st *statement) {
	if c.names == nil {
		c.names = map[string]*statement{}
	}
	c.names[name] = st
}

// forget takes a name from c.
func (c *Client) forget(name string) {
	if st := c.names[name]; st != nil {
		delete(c.names, name)
		c.w.p.statements.release(st)
	}
}

// forgetAll takes all names from c.
func (c *Client) forgetAll() {
	for name := range c.names {
		c.forget(name)
	}
	c.names = nil
}

// answerLocal gives the answers that no server has to give and whose turn it
// is. They go out with what follows.
func (v *Server) answerLocal() {
	for v.ledger.local() && !v.torn() {
		typ := byte(wire.ParseComplete)
		if v.ledger.first()&owedKind == owedClose {
			typ = wire.CloseComplete
		}
		v.ledger.pop()
		v.local = append(v.local, typ, 0, 0, 0, 4)
	}
}

// rename puts the client's own names in the place of pgweir's in an
// ErrorResponse, and the place in the client's text in that of the place in
// what the server got. failed is what the error blames: its name may be the
// client's no more. It returns nil if there is nothing to change.
func (v *Server) rename(msg []byte, failed ref) []byte {
	c, work := v.client, cmp.Or(failed.sql, v.ledger.work())
	if c == nil {
		return nil
	}
	if work == nil && !bytes.Contains(msg, []byte(statementPrefix)) {
		return nil
	}
	own := make([]string, 0, 2*len(c.names)+4)
	own = append(own, `prepared statement "`+noStatement+`"`, "unnamed prepared statement", `"`+noName, `"`)
	if failed.st != nil && failed.name != "" {
		own = append(own, `"`+failed.st.name+`"`, `"`+failed.name+`"`)
	}
	for _, name := range sortedKeys(c.names) { // two may have one statement
		st := c.names[name]
		own = append(own, `"`+st.name+`"`, `"`+name+`"`)
	}
	for _, r := range v.ledger.refs[v.ledger.refAt:] { // names that c has given up since
		if r.st != nil && r.name != "" {
			own = append(own, `"`+r.st.name+`"`, `"`+r.name+`"`)
		}
	}
	text := strings.NewReplacer(own...).Replace(string(msg[wire.HeaderLen:]))
	if work != nil {
		text = work.positions(text)
	}
	out, at := wire.Begin(nil, msg[0])
	return wire.End(append(out, text...), at)
}
