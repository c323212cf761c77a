package pool

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/pgweir/pgweir/wire"
)

// Named prepared statements of the extended protocol outlive a transaction,
// and so the pair of client and server. In transaction and statement mode
// pgweir therefore keeps them apart: a client has names, each for a statement
// (Client.names); a server has statements, under pgweir's names for them
// (Server.prepared). A message that names one is rewritten, and a server that
// lacks the statement is told it first.
//
// One text with its parameter types is one statement, whoever prepares it, on
// whatever loop: servers parse it once. Statements prepared under different
// values of search_path are different ones, for their tables may be.

// statement is immutable but for version.
type statement struct {
	key    string
	number uint64
	name   string // on servers
	parse  []byte // the Parse message under that name

	// version goes up when what servers have made of the statement is of no
	// use any more (a table was altered): they parse it anew.
	version atomic.Uint32

	holders int // names of clients and servers that have it; guarded by statements.mu
}

// statementPrefix begins the names of statements on servers.
const statementPrefix = "PGBOUNCER_"

// statements are all statements that any client or server has.
type statements struct {
	// mu is held for one look into byKey where a client prepares or closes a
	// statement, or a server is told one or closes. Nothing is called under it.
	mu    sync.Mutex
	byKey map[string]*statement
	last  uint64
}

// hold returns the statement of a Parse message's body behind the name, for
// clients with the given search_path, and counts a holder.
func (t *statements) hold(path string, body []byte) *statement {
	var small [512]byte
	key := append(append(append(small[:0], path...), 0), body...)
	t.mu.Lock()
	defer t.mu.Unlock()
	st := t.byKey[string(key)]
	if st == nil {
		t.last++
		st = &statement{key: string(key), number: t.last, name: statementPrefix + strconv.FormatUint(t.last, 10)}
		b, at := wire.Begin(nil, wire.Parse)
		st.parse = wire.End(append(wire.AppendString(b, st.name), body...), at)
		if t.byKey == nil {
			t.byKey = map[string]*statement{}
		}
		t.byKey[st.key] = st
	}
	st.holders++
	return st
}

// text takes the Parse message of st apart: its query, and the types of the
// parameters that it gives.
func (st *statement) text() (query string, types []uint32) {
	text, rest, ok := wire.CutString(st.parse[wire.HeaderLen+len(st.name)+1:])
	if !ok || len(rest) < 2 {
		return string(text), nil
	}
	for rest = rest[2:]; len(rest) >= 4; rest = rest[4:] {
		types = append(types, binary.BigEndian.Uint32(rest))
	}
	return string(text), types
}

// again counts one more holder of a statement that had one a moment ago.
func (t *statements) again(st *statement) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if st.holders++; t.byKey[st.key] == nil {
		t.byKey[st.key] = st
	}
}

// release counts a holder out. What nobody holds is forgotten.
func (t *statements) release(st *statement) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.releaseLocked(st)
}

func (t *statements) releaseLocked(st *statement) {
	if st.holders--; st.holders == 0 && t.byKey[st.key] == st {
		delete(t.byKey, st.key)
	}
}

// prepared are the statements that a server has, the least recently used last.
// The zero value is that of a server that has none.
type prepared struct {
	of  map[*statement]*preparation
	lru list[preparation, *preparation]
}

type preparation struct {
	links[preparation]
	st      *statement
	version uint32
}

func (p *preparation) at() *links[preparation] { return &p.links }

// has reports whether the server has st as it should be, and notes its use.
func (p *prepared) has(st *statement) bool {
	e := p.of[st]
	if e == nil || e.version != st.version.Load() {
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
	p.restore(st, st.version.Load())
	e := p.of[st]
	p.lru.remove(e)
	p.lru.pushFront(e)
}

// restore notes that the server still has a version of st, which it was
// thought to have lost.
func (p *prepared) restore(st *statement, version uint32) {
	if p.of == nil {
		p.of = map[*statement]*preparation{}
	}
	e := &preparation{st: st, version: version}
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

// tracks reports whether c's statements are pgweir's business.
func (c *Client) tracks() bool {
	return c.shard.pool.settings.Load().MaxPreparedStatements > 0 && !c.shard.pool.session() && !c.replicates()
}

// naming says whether a message names a prepared statement.
type naming uint8

const (
	namesNone   naming = iota // no: a portal, or a Parse too long to be kept
	namesOne                  // yes
	namesBare                 // the unnamed one
	namesMore                 // more of the message has to be there to tell
	namesBroken               // the message makes no sense
)

// maxNames bounds what of a Bind must be there before the name of its
// statement is known: the names of portal and statement.
const maxNames = 8 << 10

// maxBare bounds the Parse of an unnamed statement that is kept for a Bind in
// another batch.
const maxBare = 64 << 10

// statementName finds the name of the statement in a Parse, Bind, Describe or
// Close of size bytes, of which msg are here. If it is namesOne or namesBare
// the whole is here, or in a Bind all up to the end of the name, at msg[:end].
func statementName(typ byte, msg []byte, size int) (name []byte, end int, is naming) {
	body := msg[wire.HeaderLen:min(size, len(msg))]
	switch typ {
	case wire.Bind:
		portal, rest, ok := wire.CutString(body)
		if ok {
			name, _, ok = wire.CutString(rest)
		}
		switch {
		case ok && len(name) == 0:
			return nil, wire.HeaderLen + len(portal) + 1 + 1, namesBare
		case ok:
			return name, wire.HeaderLen + len(portal) + 1 + len(name) + 1, namesOne
		case len(msg) >= size || len(msg) > maxNames:
			return nil, 0, namesBroken
		}
		return nil, 0, namesMore
	case wire.Describe, wire.Close:
		if size == wire.HeaderLen {
			return nil, 0, namesBroken
		}
		if len(body) > 0 && body[0] != 'S' {
			return nil, 0, namesNone
		}
		if len(body) > 0 {
			body = body[1:]
		}
	}
	switch {
	case len(body) > 0 && body[0] == 0 && size > maxBare:
		return nil, 0, namesNone
	case len(msg) < size:
		return nil, 0, namesMore
	}
	name, _, ok := wire.CutString(body)
	switch {
	case !ok:
		return nil, 0, namesBroken
	case len(name) == 0:
		return nil, size, namesBare
	}
	return name, size, namesOne
}

// packetName is what error texts call a message.
func packetName(typ byte) string {
	switch typ {
	case wire.Parse:
		return "Parse"
	case wire.Bind:
		return "Bind"
	case wire.Describe:
		return "Describe"
	}
	return "Close"
}

// searchPath is the search_path that c is known to have, empty if the server
// does not report it.
func (c *Client) searchPath() string {
	t := c.w.p.tracked
	if i, ok := t.index["search_path"]; ok {
		return c.vars.get(t, i).text
	}
	return ""
}

// statement deals with a message that names a statement, of which msg[:end] is
// what statementName wants: it appends what the server gets in its place, and
// pushes what that is owed. The client has a server that listens.
func (c *Client) statement(out []byte, typ byte, name, msg []byte, end, size int) []byte {
	v, l, stats := c.server, &c.server.ledger, &c.shard.stats
	st := c.names[string(name)]
	switch typ {
	case wire.Parse:
		stats.ClientParses++
		body := msg[wire.HeaderLen+len(name)+1 : end]
		if st != nil {
			// Postgres says what is wrong with that: the server has a
			// statement of that name, or gets it now.
			out = v.tell(out, st)
			l.push(owedParse)
			out, at := wire.Begin(out, wire.Parse)
			return wire.End(append(wire.AppendString(out, st.name), body...), at)
		}
		st = c.w.p.statements.hold(c.searchPath(), body)
		if c.names == nil {
			c.names = map[string]*statement{}
		}
		own := string(name)
		c.names[own] = st
		if v.prepared.has(st) {
			l.pushRef(owedParse|owedLocal, ref{st, own, refRegister})
			return out
		}
		out = v.makeRoom(out, st)
		stats.ServerParses++
		l.pushRef(owedParse, ref{st, own, refBoth})
		return append(out, st.parse...)
	case wire.Bind:
		stats.Binds++
		if st == nil {
			l.push(owedBind)
			return append(out, msg[:end]...) // Postgres says that there is none
		}
		out = v.tell(out, st)
		l.pushRef(owedBind, ref{st: st})
		at := len(out)
		portal := msg[wire.HeaderLen : end-len(name)-1]
		out = append(append(out, msg[:wire.HeaderLen]...), portal...)
		out = wire.AppendString(out, st.name)
		return setSize(out, at, size-len(name)+len(st.name))
	case wire.Describe:
		if st == nil {
			l.push(owedDescribe)
			return append(out, msg[:end]...)
		}
		out = v.tell(out, st)
		l.push(owedDescribe)
		out, at := wire.Begin(out, wire.Describe)
		return wire.End(wire.AppendString(append(out, 'S'), st.name), at)
	}
	if st == nil { // to close what there is not is no error
		l.push(owedClose | owedLocal)
		return out
	}
	l.pushRef(owedClose|owedLocal, ref{st, string(name), refForget})
	c.forget(string(name))
	return out
}

// noStatement is a name that no server has.
const noStatement = statementPrefix + "0"

// bare deals with a message about the unnamed statement on a server where that
// is not c's: it appends what the server gets in its place, and pushes what
// that is owed. If c has prepared one on another server and not used it yet,
// the server is told it; else there is none, and Postgres has to say so: by no
// means may c meet somebody else's.
func (c *Client) bare(out []byte, typ byte, msg []byte, end, size int) []byte {
	v := c.server
	st := c.names[""]
	if typ == wire.Close {
		v.ledger.push(owedClose | owedLocal)
		c.forget("")
		return out
	}
	name := noStatement
	if st != nil {
		name = ""
		v.bareOf = c.id
		v.shard.stats.ServerParses++
		v.ledger.push(owedParse | owedSwallow)
		out = append(out, st.parse...)
	}
	e, _ := owes(typ)
	v.ledger.push(e)
	at := len(out)
	out = append(out, msg[:end-1]...)
	out = wire.AppendString(out, name)
	if typ == wire.Bind {
		c.forget("")
	}
	return setSize(out, at, size+len(name))
}

// keepBare keeps the Parse of c's unnamed statement, which no Bind has followed
// yet: the Bind may come when c has another server.
func (c *Client) keepBare(parse []byte) {
	if len(parse) == 0 {
		return
	}
	c.forget("")
	if c.names == nil {
		c.names = map[string]*statement{}
	}
	c.names[""] = &statement{parse: append([]byte(nil), parse...), holders: 1}
}

// bareFailed notes that an error may have cost v its unnamed statement: it has
// unless another was sent for after the Sync that ends the batch.
func (v *Server) bareFailed() {
	l := &v.ledger
	for i := range l.n {
		if e := l.get(i); e&owedKind == owedParse && e&(owedRef|owedLocal) == 0 {
			return
		}
	}
	v.bareOf = 0
	if c := v.client; c != nil {
		c.forget("")
	}
}

// setSize sets the length of the message at b[at:], the rest of which may still
// be to come.
func setSize(b []byte, at, size int) []byte {
	n := uint32(size - 1)
	b[at+1], b[at+2], b[at+3], b[at+4] = byte(n>>24), byte(n>>16), byte(n>>8), byte(n)
	return b
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

// tell appends what a server has to be told before st is used, nothing if it
// has it.
func (v *Server) tell(out []byte, st *statement) []byte {
	if v.prepared.has(st) {
		return out
	}
	out = v.makeRoom(out, st)
	v.shard.stats.ServerParses++
	v.ledger.pushRef(owedParse|owedSwallow, ref{st: st, what: refPrepare})
	return append(out, st.parse...)
}

// makeRoom notes that the server has st, and appends what closes the old one
// of that name, and others until there are not too many.
func (v *Server) makeRoom(out []byte, st *statement) []byte {
	p := v.shard.w.p
	if v.prepared.remove(st) {
		out = v.appendClose(out, st, refStale)
		p.statements.release(st)
	}
	for limit := v.shard.pool.settings.Load().MaxPreparedStatements; v.prepared.lru.n >= limit && v.prepared.lru.n > 0; {
		old := v.prepared.lru.tail.st
		v.prepared.remove(old)
		out = v.appendClose(out, old, refEvict)
		p.statements.release(old)
	}
	v.prepared.add(st)
	p.statements.again(st)
	return out
}

// appendClose appends a Close of pgweir's own.
func (v *Server) appendClose(out []byte, st *statement, what refKind) []byte {
	v.ledger.pushRef(owedClose|owedSwallow, ref{st: st, what: what})
	out, at := wire.Begin(out, wire.Close)
	return wire.End(wire.AppendString(append(out, 'S'), st.name), at)
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
// DEALLOCATE ALL), the client's names with them; but not what was sent after
// that, and is still to be answered.
func (v *Server) discardedAll() {
	t, c := &v.shard.w.p.statements, v.client
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
			if !names[name] {
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
		if (r.what == refPrepare || r.what == refBoth) && v.prepared.remove(r.st) {
			t.release(r.st)
		}
		if (r.what == refEvict || r.what == refStale) && v.prepared.of[r.st] == nil {
			version := r.st.version.Load()
			if r.what == refStale {
				version--
			}
			v.prepared.restore(r.st, version)
			t.again(r.st)
		}
		if c == nil {
			continue
		}
		switch r.what {
		case refRegister, refBoth:
			c.forget(r.name)
		case refForget:
			if c.names == nil {
				c.names = map[string]*statement{}
			}
			if c.names[r.name] == nil {
				c.names[r.name] = r.st
				t.again(r.st)
			}
		}
	}
	l.undone = l.undone[:0]
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

// discarded reports whether a CommandComplete says that the session has no
// prepared statements any more.
func discarded(msg []byte) bool {
	switch len(msg) {
	case len(tagDiscard), len(tagDeallocate):
		return string(msg) == tagDiscard || string(msg) == tagDeallocate
	}
	return false
}

const (
	tagDiscard    = "C\x00\x00\x00\x10DISCARD ALL\x00"
	tagDeallocate = "C\x00\x00\x00\x13DEALLOCATE ALL\x00"
)

// stalePlan is what Postgres says of a statement whose result has changed
// since it was prepared, in every language the same.
const stalePlan = "C0A000\x00"

// heal looks at an error that answered a Bind: if the statement is of no use any
// more, all servers parse it anew.
func (v *Server) heal(msg []byte) {
	if len(v.ledger.undone) == 0 {
		return
	}
	r := v.ledger.undone[0]
	if r.what == refUse && r.st != nil && bytes.Contains(msg, []byte(stalePlan)) &&
		bytes.Contains(msg, []byte("RevalidateCachedQuery")) {
		r.st.version.Add(1)
	}
}

// rename puts the client's own names in the place of pgweir's in an
// ErrorResponse. It returns nil if there are none.
func (v *Server) rename(msg []byte) []byte {
	c := v.client
	if c == nil || !bytes.Contains(msg, []byte(statementPrefix)) {
		return nil
	}
	own := make([]string, 0, 2*len(c.names)+2)
	own = append(own, `prepared statement "`+noStatement+`"`, "unnamed prepared statement")
	for name, st := range c.names {
		own = append(own, `"`+st.name+`"`, `"`+name+`"`)
	}
	text := strings.NewReplacer(own...).Replace(string(msg[wire.HeaderLen:]))
	out, at := wire.Begin(nil, msg[0])
	return wire.End(append(out, text...), at)
}
