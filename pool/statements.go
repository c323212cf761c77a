package pool

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/pgweir/pgweir/pool/sql"
	"github.com/pgweir/pgweir/wire"
)

// Named prepared statements of the extended protocol outlive a transaction,
// and so the pair of client and server. In transaction and statement mode
// pgweir therefore keeps them apart: a client has names, each for a statement
// (Client.names); a server has statements, under pgweir's names for them
// (Server.prepared). A message that names one is rewritten, and a server that
// lacks the statement is told it first.
//
// One text with its parameter types is one statement for all clients of a pool,
// on whatever loop: servers parse it once. Where the text may mean something else
// it is another statement: see meaning.

// statement is immutable but for retired, shape and holders.
type statement struct {
	key    string
	number uint64
	name   string // on servers
	parse  []byte // what tells a server of it: the Parse message under that name, or for PREPARE see sqlTelling
	tail   string // of one that SQL's PREPARE made: what follows the name

	// private is set if the text itself names prepared statements. It then is
	// one client's alone, parse is the body of its Parse behind the name, and
	// servers are told it anew before each use.
	private bool

	// alone is set if it is one client's for another reason, and never found by
	// its key: see apart.
	alone bool

	// executes is the client's name for the statement that a private one
	// executes, and does nothing else; empty if it does. Its result is that of
	// this.
	executes string

	// retired is set when a server has said that the result of the statement is
	// not what it was. Another then takes its place; who still has this one was
	// told of the old result, if of any, and no server is told it again.
	retired atomic.Bool

	shape atomic.Uint64 // see told; of a private one it is not noted

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
// clients for whom it has the given meaning, and counts a holder.
func (t *statements) hold(meaning string, body []byte) *statement {
	var small [512]byte
	key := append(append(append(small[:0], meaning...), 0), body...)
	t.mu.Lock()
	defer t.mu.Unlock()
	st := t.byKey[string(key)]
	if st == nil {
		st = t.newLocked(string(key), "", body)
		t.keep(st)
	}
	st.holders++
	return st
}

// newLocked returns a statement that nobody holds, of a Parse's body or of a
// PREPARE's tail.
func (t *statements) newLocked(key, tail string, body []byte) *statement {
	t.last++
	st := &statement{key: key, number: t.last, name: statementPrefix + strconv.FormatUint(t.last, 10), tail: tail}
	if tail != "" {
		st.parse = sqlTelling("PREPARE " + sql.QuoteName(st.name) + tail)
	} else {
		b, at := wire.Begin(nil, wire.Parse)
		st.parse = wire.End(append(wire.AppendString(b, st.name), body...), at)
	}
	return st
}

// text takes the Parse message of st apart: its query, and the types of the
// parameters that it gives.
func (st *statement) text() (query string, types []uint32) {
	if st.tail != "" {
		query, _ = st.inSQL()
		return query, nil
	}
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
	if st.holders++; t.byKey[st.key] == nil && !st.private && !st.alone && !st.retired.Load() {
		t.keep(st)
	}
}

// keep has st found by its key.
func (t *statements) keep(st *statement) {
	if t.byKey == nil {
		t.byKey = map[string]*statement{}
	}
	t.byKey[st.key] = st
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

// own makes a private statement, with a client as its holder. body is that of
// its Parse behind the name.
func (t *statements) own(body []byte, executes string) *statement {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last++
	return &statement{
		number: t.last, name: statementPrefix + strconv.FormatUint(t.last, 10), parse: bytes.Clone(body),
		private: true, executes: executes, holders: 1,
	}
}

// rest is what st was prepared from: the body of a Parse behind the name, or what
// follows the name in a PREPARE.
func (st *statement) rest() []byte {
	if st.tail != "" {
		return []byte(st.tail)
	}
	return st.parse[wire.HeaderLen+len(st.name)+1:]
}

// meaning is that of st, which is one of statements.byKey or was.
func (st *statement) meaning() string { return st.key[:len(st.key)-len(st.rest())-1] }

// like returns the statement that was prepared from the same as st and has the
// given meaning, and counts a holder.
func (t *statements) like(st *statement, meaning string) *statement {
	if st.tail != "" {
		next := t.findSQL(meaning, []byte(st.tail))
		t.again(next)
		return next
	}
	return t.hold(meaning, st.rest())
}

// apart is like, but for a statement that nobody else gets: those who have the
// other were told of another result than the clients of st. It is told as st is.
func (t *statements) apart(st *statement, meaning string) *statement {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := t.newLocked(meaning+st.key[len(st.meaning()):], st.tail, st.rest())
	next.alone, next.holders = true, 1
	next.shape.Store(uint64(st.told()))
	return next
}

// retire has the next who prepares what st is get another statement.
func (t *statements) retire(st *statement) {
	if st.private {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	st.retired.Store(true)
	if t.byKey[st.key] == st {
		delete(t.byKey, st.key)
	}
}
