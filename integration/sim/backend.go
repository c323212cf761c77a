package sim

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/wire"
)

// backend is one session of Postgres.
type backend struct {
	pg          *Postgres
	k           *socket
	pid         uint32
	key         []byte
	entry, user string
	walks       bool // serves replication
	owner       int  // if so: the one client that it may serve, 0 before that has asked
	up          bool // logged in

	in     []byte
	due    bool   // an event that takes a message is under way
	ended  bool   // the pooler has closed
	over   bool   // the session has ended
	onOver func() // told then, if there is any
	out    []byte // not yet flushed
	status wire.TxStatus
	skip   bool // ignores everything up to a Sync

	deaf       bool     // it is never heard of again when it is told to end
	terminated bool     // by the administrator
	hup        bool     // the server's configuration has changed
	later      [][]byte // what is to be said between two messages

	running *running
	copy    *copying

	signals int // cancel requests that were sent, and have not come yet
	meant   int // the client that they are for, 0 while it has not begun

	prepared map[string]*prepared
	portals  map[string]*portal

	gucs  gucs // as they are
	start gucs // as they were at login: what RESET means
	told  gucs // as they were reported
	saved gucs // as they were when the transaction began; nil outside of one

	reads bool // the transaction has read the shaped table: nobody alters it before its end

	temps    []temp
	channels []string
	notes    []string // channels to notify at commit
	last     tag      // executed last
}

type prepared struct {
	s     *stmt // nil: an empty query
	shape int   // of the table, then
}

// prepares makes a statement.
func (b *backend) prepares(s *stmt) *prepared {
	b.reads = b.reads || s != nil && s.verb == "shaped"
	return &prepared{s, b.pg.shape}
}

// stale is the error of a statement whose result has changed, nil if it has not.
func (b *backend) stale(p *prepared) *pgError {
	if p == nil || p.s == nil || p.s.verb != "shaped" {
		return nil
	}
	if b.reads = true; p.shape == b.pg.shape {
		return nil
	}
	return &pgError{"0A000", "cached plan must not change result type (RevalidateCachedQuery)"}
}

type portal struct {
	s    *stmt
	arg  string // $1 of a lookup
	done int    // rows so far
}

type temp struct {
	name  string
	local bool // goes at the end of the transaction
	fresh bool // made in the present transaction
}

// pgError is an ErrorResponse.
type pgError struct{ code, text string }

func tagged(code, text string, t tag) *pgError { return &pgError{code, text + " " + t.String()} }

// aborted is what a statement is told in a transaction that has failed. Those
// that name another have no tag.
func aborted(s *stmt) *pgError {
	const text = "current transaction is aborted, commands ignored until end of transaction block"
	if s.name != "" {
		return &pgError{"25P02", text}
	}
	return tagged("25P02", text, s.tag)
}

// read implements peer.
func (b *backend) read(p []byte) {
	b.in = append(b.in, p...)
	b.kick()
}

// room implements peer.
func (b *backend) room() { b.kick() }

// closed implements peer.
func (b *backend) closed(bool) {
	b.ended = true
	b.kick()
}

// crash ends the session without a word.
func (b *backend) crash() {
	if b.over {
		return
	}
	b.pg.w.books.crashes++
	b.over, b.running = true, nil
	b.pg.remove(b)
	if b.pg.w.chance(2) {
		b.k.breakOff()
	} else {
		b.k.hangUp()
	}
}

// exit ends the session in an orderly way.
func (b *backend) exit() {
	if b.over {
		return
	}
	b.over = true
	b.flush()
	b.pg.remove(b)
	b.k.hangUp()
}

// vanish is exit on a machine that is lost in this moment: nobody hears of it.
// The pooler must not wait for that for ever.
func (b *backend) vanish() {
	w := b.pg.w
	b.over = true
	b.pg.remove(b)
	w.after(wire.Linger+2*pool.TickEvery, func() {
		if !b.k.shut {
			w.failf("%v: was told to end, and nobody has given it up", b.k)
		}
	})
}

// fatal ends the session with an error.
func (b *backend) fatal(code, text string) {
	b.pg.w.books.crashes++
	b.emit(wire.AppendError(nil, wire.Fields{Severity: "FATAL", Code: code, Message: text}))
	b.exit()
}

// kick sees to it that the next message is taken.
func (b *backend) kick() {
	if b.due || b.over || !b.up || b.running != nil {
		return
	}
	b.due = true
	w := b.pg.w
	d := w.between(0, 100*time.Microsecond)
	if w.chance(10) {
		d = w.between(0, 5*time.Millisecond)
	}
	w.after(d, b.work)
}

// work takes the next message, if there is one.
func (b *backend) work() {
	b.due = false
	w := b.pg.w
	switch {
	case b.over || b.running != nil:
		return
	case b.terminated:
		b.fatal("57P01", byAdministrator)
		return
	case b.k.full():
		return // room comes back
	}
	if b.copy == nil && b.status == wire.TxIdle && b.saved == nil {
		for _, p := range b.later {
			b.emit(p)
		}
		b.later = nil
		if b.hup {
			b.hup = false
			b.reload()
		}
		b.report()
		b.flush()
	}
	typ, size, ok, err := wire.Peek(b.in, 1<<30)
	switch {
	case err != nil:
		w.failf("%v got garbage: %s", b.k, show(b.in))
	case !ok || size > len(b.in):
		if b.ended {
			b.exit()
		}
		return
	}
	body := b.in[wire.HeaderLen:size:size]
	b.in = b.in[size:]
	if w.tracing() {
		w.tracef("%v takes %q %s", b.k, typ, show(body))
	}
	if b.copy != nil {
		b.copyMessage(typ, body)
	} else {
		b.message(typ, body)
	}
	b.kick()
}

// emit says something, flushed later or at once.
func (b *backend) emit(p []byte) {
	b.out = append(b.out, p...)
	if len(b.out) > 8<<10 || b.pg.w.chance(6) {
		b.flush()
	}
}

func (b *backend) flush() {
	if len(b.out) > 0 {
		b.k.send(b.out)
		b.out = nil
	}
}

// empty says a message without a body.
func (b *backend) empty(typ byte) { b.emit([]byte{typ, 0, 0, 0, 4}) }

// message deals with a message outside of COPY.
func (b *backend) message(typ byte, body []byte) {
	if b.skip && typ != wire.Sync && typ != wire.Terminate {
		return
	}
	switch typ {
	case wire.Query:
		query := strings.TrimSuffix(string(body), "\x00")
		list, ok := parse(query)
		if !ok {
			b.failed(&pgError{"42601", "syntax error: " + query}, false)
			return
		}
		if len(list) == 0 {
			b.empty(wire.EmptyQueryResponse)
			b.ready()
			return
		}
		b.simple(list)
	case wire.FunctionCall:
		if b.status == wire.TxFailed {
			b.failed(&pgError{"25P02", "current transaction is aborted"}, false)
			return
		}
		out, at := wire.Begin(nil, wire.FunctionCallResponse)
		out = append(out, body...)
		b.emit(wire.End(out, at))
		b.ready()
	case wire.Parse, wire.Bind, wire.Describe, wire.Execute, wire.Close:
		b.extended(typ, body)
	case wire.Flush:
		b.flush()
	case wire.Sync:
		b.skip = false
		if b.status == wire.TxIdle {
			b.end(true)
		}
		b.ready()
	case wire.CopyData, wire.CopyDone, wire.CopyFail:
		// A frontend that goes on after a COPY has failed.
	case wire.Terminate:
		if b.deaf && !b.pg.w.calm {
			b.vanish()
			return
		}
		b.exit()
	default:
		b.fatal("08P01", fmt.Sprintf("invalid frontend message type %d", typ))
	}
}

// ready ends a query: changed parameters, then ReadyForQuery.
func (b *backend) ready() {
	b.report()
	b.emit(wire.AppendReadyForQuery(nil, b.status))
	b.flush()
	for _, channel := range b.notes {
		if b.status == wire.TxIdle {
			b.pg.notify(b, channel, "from "+strconv.Itoa(int(b.pid)))
		}
	}
	if b.status == wire.TxIdle {
		b.notes = nil
	}
}

// report tells the parameters that changed.
func (b *backend) report() {
	for i := range b.gucs[:b.pg.reported] {
		if b.gucs[i].value != b.told[i].value {
			b.emit(wire.AppendParameterStatus(nil, b.gucs[i].name, b.gucs[i].value))
			b.told[i].value = b.gucs[i].value
		}
	}
}

// begin begins a transaction, if none is open.
func (b *backend) begin() {
	if b.saved == nil {
		b.saved = slices.Clone(b.gucs)
	}
}

// end ends the transaction.
func (b *backend) end(commit bool) {
	if b.saved != nil && !commit {
		b.gucs = b.saved
		if b.pg.atOnce {
			b.report()
		}
	}
	b.saved = nil
	b.status, b.reads = wire.TxIdle, false
	b.temps = slices.DeleteFunc(b.temps, func(t temp) bool { return t.local || t.fresh && !commit })
	for i := range b.temps {
		b.temps[i].fresh = false
	}
	if !commit {
		b.notes = nil
	}
	clear(b.portals)
}

// failed says an error. extended tells whether one of the extended protocol's
// messages was at fault.
func (b *backend) failed(err *pgError, extended bool) {
	b.emit(wire.AppendError(nil, wire.Fields{Severity: "ERROR", Code: err.code, Message: err.text}))
	b.flush()
	if b.status == wire.TxIdle {
		b.end(false)
	} else {
		b.status, b.reads = wire.TxFailed, false
		clear(b.portals)
	}
	if extended {
		b.skip = true
	} else {
		b.ready()
	}
}

// simple executes the statements of a Query.
func (b *backend) simple(list []stmt) {
	if len(list) == 0 {
		if b.status == wire.TxIdle {
			b.end(true)
		}
		b.ready()
		return
	}
	s := &list[0]
	if target := b.target(s); target.rows() && b.status != wire.TxFailed && (target == s || b.stale(b.prepared[s.name]) == nil) {
		b.describe(target)
	}
	b.execute(s, nil, 0, func(err *pgError) {
		if err != nil {
			b.failed(err, false)
			return
		}
		b.simple(list[1:])
	})
}

// describe says what rows of s look like.
func (b *backend) describe(s *stmt) {
	if s != nil && s.verb == "lookup" {
		b.columns("name", "secret")
		return
	}
	if s == nil || !s.rows() {
		b.empty(wire.NoData)
		return
	}
	names := append([]string{s.tag.String()}, rowColumns[1:]...)
	if s.verb == "shaped" {
		names = append(names, b.shape())
	}
	b.columns(names...)
}

// columns emits a RowDescription.
func (b *backend) columns(names ...string) {
	out, at := wire.Begin(nil, wire.RowDescription)
	out = binary.BigEndian.AppendUint16(out, uint16(len(names)))
	for _, name := range names {
		out = wire.AppendString(out, name)
		out = append(out, make([]byte, 18)...)
	}
	b.emit(wire.End(out, at))
}
