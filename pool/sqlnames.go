package pool

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pgweir/pgweir/pool/sql"
	"github.com/pgweir/pgweir/wire"
)

// PREPARE, EXECUTE and DEALLOCATE are kept apart by client as the statements of
// the protocol are, and share their names. The name in the text is replaced by
// that of the statement on servers. A server that lacks the statement is told
// it within the same Query, right before it is used.
//
// What a Query does to names is noted when the tags of its statements come;
// until it is answered nothing else is read from its client. Within a batch of
// the extended protocol it is noted when the Execute is sent, and undone with
// the batch.

// maxSQL bounds the Query that is searched for prepared statements. Longer ones
// pass through as they come.
const maxSQL = 64 << 10

// sqlNaming says whether a Query may name prepared statements.
func sqlNaming(m *message) naming {
	switch {
	case m.size > maxSQL || m.size <= wire.HeaderLen:
		return namesNone
	case !m.whole():
		return namesMore
	case sql.MayNameStatements(m.in[wire.HeaderLen : m.size-1]):
		return namesSQL
	}
	return namesNone
}

// rewriting is a Query on its way from a client's names to those of a server.
type rewriting struct {
	c *Client
	v *Server

	names map[string]*statement // those the text has changed so far; nil: gone
	none  bool                  // it has deallocated all others
	there map[*statement]bool   // what it has told the server, or deallocated there
	used  map[*statement]bool   // what must stay on the server

	text  []byte
	count int // the characters of text[:seen]
	seen  int
	sqlWork
}

// sqlWork is what a Query that was rewritten does, and has been.
type sqlWork struct {
	due   []ref  // what its PREPAREs and DEALLOCATEs mean, those that are to come
	edits []edit // where its text is another than the client's, in order

	executes []*statement

	// What an Execute of DEALLOCATE ALL has taken from the client and from the
	// server.
	names map[string]*statement
	there []*statement
}

// edit is a part of a text that was replaced. All counts are of characters.
type edit struct{ at, was, is int }

// sqlQuery deals with a Query that may name prepared statements: it appends what
// the server gets in its place, and pushes what that is owed. The client has a
// server that listens.
func (c *Client) sqlQuery(out, msg []byte) []byte {
	v := c.server
	text := msg[wire.HeaderLen : len(msg)-1]
	list, all := c.sqlStatements(text)
	if list == nil {
		v.ledger.push(owedQuery)
		return append(out, msg...)
	}
	if more := prepares(list); more > 0 && c.crowded(more) {
		return out
	}
	r := rewriting{
		c: c, v: v, names: map[string]*statement{}, there: map[*statement]bool{}, used: map[*statement]bool{},
	}
	at := 0
	for _, s := range list {
		r.text = append(r.text, text[at:s.At]...)
		at = s.At
		target, mean := r.resolve(s, text)
		if target != "" {
			r.text = append(r.text, text[at:s.NameAt]...)
			r.replace(text[s.NameAt:s.After], target)
			at = s.After
		}
		if mean.what != refUse {
			r.due = append(r.due, mean)
		}
	}
	r.text = append(r.text, text[at:]...)
	out = r.makeRoom(out)
	if all == 1 && list[0].Verb == sql.Execute && len(msg) <= maxAgain && !v.repeating && v.status == wire.TxIdle && v.ledger.untouched() {
		v.again = append(v.again[:0], msg...)
	}
	if len(r.due) > 0 {
		v.pending = &r.sqlWork
	}
	v.ledger.pushRef(owedQuery, ref{sql: &r.sqlWork})
	out, start := wire.Begin(out, wire.Query)
	return wire.End(append(append(out, r.text...), 0), start)
}

// prepares counts the PREPAREs among statements.
func prepares(list []sql.Statement) (n int) {
	for _, s := range list {
		if s.Verb == sql.Prepare {
			n++
		}
	}
	return n
}

// resolve says what stands on servers for the name in s, and what s means when
// it is done. target is empty if the name stays.
func (r *rewriting) resolve(s sql.Statement, text []byte) (target string, mean ref) {
	if s.Verb == sql.DeallocateAll {
		clear(r.names)
		clear(r.there)
		r.none = true
		return "", ref{what: refAll}
	}
	st, known := r.names[s.Name]
	if !known && !r.none {
		st = r.c.names[s.Name]
		if st != nil && s.Verb != sql.Deallocate && !r.has(st) {
			st = r.c.reread(s.Name, st)
		}
	}
	switch {
	case s.Verb == sql.Prepare && st == nil:
		st = r.c.w.p.statements.findSQL(r.c.meaning(text[s.After:s.End]), text[s.After:s.End])
		r.v.readsNow(st)
		if r.has(st) {
			r.inject("DEALLOCATE "+sql.QuoteName(st.name), ref{st: st, what: refEvict})
		}
		r.names[s.Name], r.there[st] = st, true
		mean = ref{st: st, name: s.Name, what: refBoth}
	case st == nil:
		return r.v.nobody(s.Name), mean
	case s.Verb == sql.Deallocate:
		if !r.has(st) {
			// It is of no use any more, and its text might fail by now.
			r.inject(prepareNothing(sql.QuoteName(st.name)), ref{})
		}
		r.names[s.Name], r.there[st] = nil, false
		mean = ref{st: st, name: s.Name, what: refDrop}
	default: // EXECUTE, or PREPARE of a name that is taken, which Postgres refuses
		var drop func()
		replaced := st.retired.Load() // the error would tell another name than the client's
		st, drop = r.c.inPlaceOf(st)
		defer drop()
		if s.Verb == sql.Execute {
			r.executes = append(r.executes, st)
		}
		if s.Verb == sql.Prepare && replaced || !r.tell(st) {
			target = r.v.nobody(s.Name)
			if s.Verb == sql.Prepare {
				r.inject(prepareNothing(target), ref{what: refStray})
			}
			return target, mean
		}
	}
	return sql.QuoteName(st.name), mean
}

// prepareNothing is a PREPARE that can't fail but for the name.
func prepareNothing(name string) string { return "PREPARE " + name + " AS SELECT" }

// has reports whether the server will have st, which has to be as it is until the
// text gets to it.
func (r *rewriting) has(st *statement) bool {
	r.used[st] = true
	if there, known := r.there[st]; known || r.none {
		return there
	}
	return r.v.prepared.has(st)
}

// tell has the server told st if it lacks it. It reports false if that can't be
// said in SQL.
func (r *rewriting) tell(st *statement) bool {
	if r.has(st) {
		return true
	}
	text, ok := st.inSQL()
	if !ok {
		return false
	}
	r.v.shard.stats.ServerParses++
	r.v.readsNow(st)
	r.inject(text, ref{st: st, what: refPrepare})
	r.there[st] = true
	return true
}

// inject puts a statement of pgweir's own before what follows.
func (r *rewriting) inject(text string, mean ref) {
	mean.own = true
	r.due = append(r.due, mean)
	r.replace(nil, text+";")
}

// replace appends text in the place of what the client wrote.
func (r *rewriting) replace(was []byte, text string) {
	r.count += r.c.characters(r.text[r.seen:])
	e := edit{r.count, r.c.characters(was), r.c.characters([]byte(text))}
	r.edits = append(r.edits, e)
	r.text = append(r.text, text...)
	r.count, r.seen = r.count+e.is, len(r.text)
}

// characters counts the characters of a part of a text of c's as Postgres counts
// positions.
func (c *Client) characters(text []byte) int {
	if strings.EqualFold(c.parameter("client_encoding"), "UTF8") {
		return utf8.RuneCount(text)
	}
	return len(text)
}

// makeRoom appends what closes the statements for which there will be no room.
func (r *rewriting) makeRoom(out []byte) []byte {
	v := r.v
	more := 0
	for st, there := range r.there {
		if there && v.prepared.of[st] == nil {
			more++
		}
	}
	limit := v.shard.pool.settings.Load().MaxPreparedStatements
	for tail := v.prepared.lru.tail; tail != nil && v.prepared.lru.n+more > limit && !r.used[tail.st]; tail = v.prepared.lru.tail {
		out = v.evict(out, tail.st)
	}
	return out
}

// nobody is what stands on a server for a name that its client has not: a name
// that no server has, with the client's for the error; or the name itself if
// the server may have it all the same.
func (v *Server) nobody(name string) string {
	if v.common || v.strays {
		return sql.QuoteName(name)
	}
	if most := sql.MaxIdentifier - len(noName); len(name) > most {
		for most > 0 && !utf8.RuneStart(name[most]) {
			most--
		}
		name = name[:most]
	}
	return sql.QuoteName(noName + name)
}

// noName begins the names that no server has, and is left out where Postgres
// mentions them.
const noName = noStatement + " "

// sqlDone takes a CommandComplete into account that tells of a PREPARE or
// DEALLOCATE. own says that it was pgweir's.
func (v *Server) sqlDone(msg []byte) (own bool) {
	switch string(msg[wire.HeaderLen:]) {
	case "PREPARE\x00", "DEALLOCATE\x00":
	case "DEALLOCATE ALL\x00", "DISCARD ALL\x00":
		v.discardedAll()
		if work := v.ledger.work(); work != nil && len(work.due) > 0 {
			work.due = work.due[1:]
		}
		return false
	default:
		return false
	}
	c, l, t := v.client, &v.ledger, &v.shard.w.p.statements
	switch {
	case v.job == jobConnect:
		v.common = true
		return false
	case c == nil || !c.tracks():
		return false
	case l.first()&owedRef == 0:
		v.strays = true
		return false
	case l.first()&owedKind == owedExecute:
		return false
	}
	work := l.work()
	if work == nil || len(work.due) == 0 {
		v.strays = true
		return false
	}
	r := work.due[0]
	work.due = work.due[1:]
	if r.what == refBoth || r.what == refPrepare {
		if v.prepared.of[r.st] == nil {
			v.prepared.add(r.st)
			t.again(r.st)
		}
	}
	if r.what == refBoth && c.names[r.name] == nil {
		c.setName(r.name, r.st)
		t.again(r.st)
	}
	if r.what == refStray {
		v.strays = true
	}
	if (r.what == refDrop || r.what == refEvict) && v.prepared.remove(r.st) {
		t.release(r.st)
	}
	if r.what == refDrop && c.names[r.name] == r.st {
		c.forget(r.name)
	}
	return r.own
}

// findSQL returns the statement of a PREPARE, of which tail is what follows the
// name, for clients for whom it has the given meaning. It counts no holder.
func (t *statements) findSQL(meaning string, tail []byte) *statement {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := meaning + "\x01" + string(tail)
	st := t.byKey[key]
	if st == nil {
		st = t.newLocked(key, string(tail), nil)
	}
	return st
}

// inSQL is the PREPARE that tells a server st. ok is false if the types of its
// parameters have no names here.
func (st *statement) inSQL() (text string, ok bool) {
	if st.private {
		return "", false
	}
	text = "PREPARE " + sql.QuoteName(st.name)
	if st.tail != "" {
		return text + st.tail, true
	}
	query, types := st.text()
	var names []string
	for _, oid := range types {
		name, ok := typeNames[oid]
		if !ok {
			return "", false
		}
		names = append(names, "pg_catalog."+name)
	}
	if names != nil {
		text += " (" + strings.Join(names, ",") + ")"
	}
	// The text may end with a semicolon or a comment of its own.
	return text + " AS " + strings.TrimRight(query, "; \t\r\n\f") + "\n", true
}

// typeNames are the types of parameters that drivers give, by OID: those of
// pg_type that are built in.
var typeNames = map[uint32]string{
	0: "unknown", 16: "bool", 17: "bytea", 18: `"char"`, 19: "name", 20: "int8", 21: "int2", 23: "int4", 25: "text",
	26: "oid", 114: "json", 142: "xml", 600: "point", 650: "cidr", 700: "float4", 701: "float8", 705: "unknown",
	790: "money", 829: "macaddr", 869: "inet", 1000: "bool[]", 1001: "bytea[]", 1005: "int2[]", 1007: "int4[]",
	1009: "text[]", 1015: "varchar[]", 1016: "int8[]", 1021: "float4[]", 1022: "float8[]", 1042: "bpchar",
	1043: "varchar", 1082: "date", 1083: "time", 1114: "timestamp", 1115: "timestamp[]", 1182: "date[]",
	1184: "timestamptz", 1185: "timestamptz[]", 1186: "interval", 1231: "numeric[]", 1266: "timetz", 1560: "bit",
	1562: "varbit", 1700: "numeric", 2950: "uuid", 2951: "uuid[]", 3802: "jsonb",
}

// sqlStatements finds the statements of a text of c's that name prepared
// statements. In encodings whose characters may hold bytes that mean something
// in SQL a text that is not ASCII passes as it is.
func (c *Client) sqlStatements(text []byte) (found []sql.Statement, all int) {
	switch strings.ToUpper(c.parameter("client_encoding")) {
	case "SJIS", "SHIFT_JIS_2004", "BIG5", "GBK", "UHC", "GB18030", "JOHAB":
		if !isASCII(text) {
			return nil, 0
		}
	}
	if bytes.IndexByte(text, 0) >= 0 {
		return nil, 0
	}
	return sql.Statements(text, c.conforming())
}

// position is the place in the client's text that p is in the rewritten one,
// both counted from 1.
func (w *sqlWork) position(p int) int {
	shift := 0
	for _, e := range w.edits {
		switch {
		case p > e.at+e.is:
			shift += e.was - e.is
		case p > e.at:
			return e.at + 1 + shift
		}
	}
	return p + shift
}

// positions replaces the position among an error's fields by that in the
// client's text.
func (w *sqlWork) positions(fields string) string {
	var b strings.Builder
	for rest := fields; rest != ""; {
		field, more, ok := strings.Cut(rest, "\x00")
		if !ok {
			b.WriteString(rest)
			break
		}
		rest = more
		if p, err := strconv.Atoi(strings.TrimPrefix(field, "P")); err == nil && field[0] == 'P' {
			field = "P" + strconv.Itoa(w.position(p))
		}
		b.WriteString(field)
		b.WriteByte(0)
	}
	return b.String()
}

// changesSQL reports whether m is dealt with by sql: a text that may name prepared
// statements, or what executes one.
func (c *Client) changesSQL(m *message) bool {
	v := c.server
	switch {
	case v.ledger.skipping:
	case m.typ == wire.Query:
		return m.is == namesSQL
	case m.typ == wire.Parse:
		return m.is == namesBare && parsesSQL(m.in[wire.HeaderLen+1:])
	case m.typ == wire.Execute:
		return v.executesSQL(m.in) != nil || len(v.portals) > 0 && bytes.IndexByte(m.in[wire.HeaderLen:], 0) < 0
	}
	return false
}

// sql appends what the server gets in the place of m, which is there whole and for
// which changesSQL holds, and pushes what that is owed.
func (c *Client) sql(out []byte, m *message) []byte {
	v, msg := c.server, m.in[:m.size]
	switch m.typ {
	case wire.Query:
		v.bareOf = 0
		v.bindSQL(nil, nil)
		c.forget("")
		return c.sqlQuery(out, msg)
	case wire.Parse:
		out = c.sqlParse(out, "", msg[wire.HeaderLen+1:], owedParse, nil)
		v.bareOf, v.bareSQL = c.id, v.toldSQL
		return out
	}
	if r := v.executesSQL(msg); r != nil {
		return append(c.sqlExecute(out, *r), msg...)
	}
	v.ledger.push(owedExecute)
	return append(out, msg...)
}
