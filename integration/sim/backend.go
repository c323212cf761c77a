package sim

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

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
	out    []byte // not yet flushed
	status wire.TxStatus
	skip   bool // ignores everything up to a Sync

	terminated bool     // by the administrator
	hup        bool     // the server's configuration has changed
	later      [][]byte // what is to be said between two messages

	running *running
	copy    *copying

	prepared map[string]*prepared
	portals  map[string]*portal

	gucs  gucs // as they are
	start gucs // as they were at login: what RESET means
	told  gucs // as they were reported
	saved gucs // as they were when the transaction began; nil outside of one

	temps    []temp
	channels []string
	notes    []string // channels to notify at commit
	last     tag      // executed last
}

type prepared struct{ s *stmt } // nil: an empty query

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

// running is a statement that takes its time.
type running struct {
	tag     tag
	endless bool
	then    func(err *pgError)
}

// copying is a COPY from the client.
type copying struct {
	s         *stmt
	rows      int
	syncs     int // ignored
	cancelled bool
	then      func(err *pgError)
}

// pgError is an ErrorResponse.
type pgError struct{ code, text string }

func tagged(code, text string, t tag) *pgError { return &pgError{code, text + " " + t.String()} }

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
		b.fatal("57P01", "terminating connection due to administrator command")
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
	b.status = wire.TxIdle
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
		b.status = wire.TxFailed
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
	if s.rows() && b.status != wire.TxFailed {
		b.describe(s)
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
	b.columns(rowColumns...)
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

// lookupArg is the one parameter of a Bind, behind the names.
func lookupArg(body []byte) string {
	body = body[2+2:] // no formats, one parameter
	n := binary.BigEndian.Uint32(body)
	return string(body[4 : 4+n])
}

// lookup answers an auth_query. Whoever asks leaves no parameters of its own.
func (b *backend) lookup(name string) {
	rows := 0
	for _, a := range b.pg.w.set.accounts {
		if a.name != name {
			continue
		}
		rows++
		out, at := wire.Begin(nil, wire.DataRow)
		out = binary.BigEndian.AppendUint16(out, 2)
		for _, v := range []string{a.name, a.secret} {
			out = binary.BigEndian.AppendUint32(out, uint32(len(v)))
			out = append(out, v...)
		}
		b.emit(wire.End(out, at))
	}
	b.complete("SELECT " + strconv.Itoa(rows))
}

var rowColumns = []string{"tag", "pid", "left", "params", "filler"}

// row is what a session tells of itself.
func (b *backend) row(s *stmt) []byte {
	var left []string
	for _, t := range b.temps {
		left = append(left, "temp "+t.name)
	}
	for _, c := range b.channels {
		left = append(left, "listen "+c)
	}
	if g := b.gucs[b.gucs.find("work_mem")]; g.value != "4MB" && g.value != "7" {
		left = append(left, g.name+" "+g.value)
	}
	var params []string
	for _, g := range b.gucs[:b.pg.reported] {
		params = append(params, g.name+"="+g.value)
	}
	out, at := wire.Begin(nil, wire.DataRow)
	out = binary.BigEndian.AppendUint16(out, uint16(len(rowColumns)))
	for _, col := range []string{
		s.tag.String(), strconv.Itoa(int(b.pid)), strings.Join(left, ","), strings.Join(params, "\x1f"),
		strings.Repeat("x", s.arg(1, 0)),
	} {
		out = binary.BigEndian.AppendUint32(out, uint32(len(col)))
		out = append(out, col...)
	}
	return wire.End(out, at)
}

func (b *backend) complete(text string) { b.emit(wire.AppendCommandComplete(nil, text)) }

// execute executes s and calls then: at once, or when it is over. p is the
// portal in the extended protocol, of which at most limit rows are wanted (0:
// all).
func (b *backend) execute(s *stmt, p *portal, limit int, then func(*pgError)) {
	w := b.pg.w
	b.last = s.tag
	b.checkOwner(s)
	if b.status == wire.TxFailed && s.verb != "commit" && s.verb != "rollback" {
		then(tagged("25P02", "current transaction is aborted, commands ignored until end of transaction block", s.tag))
		return
	}
	b.begin()
	switch s.verb {
	case "select":
		b.rows(s, p, limit)
	case "slow", "hang":
		b.running = &running{tag: s.tag, endless: s.verb == "hang"}
		r := b.running
		r.then = func(err *pgError) {
			if err == nil {
				b.rows(s, p, limit)
			}
			then(err)
		}
		b.flush()
		if !r.endless {
			w.after(time.Duration(s.arg(0, 1))*time.Millisecond, func() {
				if b.running == r {
					b.finish(nil)
				}
			})
		} else if w.calm {
			w.after(0, func() {
				if b.running == r {
					b.finish(nil)
				}
			})
		}
		return
	case "lookup":
		b.lookup(p.arg)
	case "fail":
		then(tagged("P0001", "asked to fail", s.tag))
		return
	case "notice":
		b.emit(wire.AppendNotice(nil, wire.Fields{Severity: "NOTICE", Code: "00000", Message: "notice " + s.tag.String()}))
		b.complete("DO " + s.tag.String())
	case "begin":
		if b.status != wire.TxIdle {
			b.emit(wire.AppendNotice(nil, wire.Fields{Severity: "WARNING", Code: "25001", Message: "there is already a transaction in progress"}))
		}
		b.status = wire.TxOpen
		b.complete("BEGIN " + s.tag.String())
	case "commit", "rollback":
		text := strings.ToUpper(s.verb)
		if b.status == wire.TxFailed {
			text = "ROLLBACK"
		}
		b.end(text == "COMMIT")
		b.complete(text + " " + s.tag.String())
	case "set", "reset":
		if err := b.setParam(s); err != nil {
			then(err)
			return
		}
		b.complete(strings.ToUpper(s.verb))
	case "temp":
		b.temps = append(b.temps, temp{name: s.tag.String(), local: b.status != wire.TxIdle, fresh: true})
		b.complete("CREATE TABLE " + s.tag.String())
	case "listen":
		b.channels = append(b.channels, "channel_"+strconv.Itoa(s.tag.client))
		b.complete("LISTEN " + s.tag.String())
	case "notify":
		b.notes = append(b.notes, "channel_"+strconv.Itoa(s.arg(0, s.tag.client)))
		b.complete("NOTIFY " + s.tag.String())
	case "copyout":
		b.emit([]byte{wire.CopyOutResponse, 0, 0, 0, 7, 0, 0, 0})
		for i := range s.arg(0, 1) {
			out, at := wire.Begin(nil, wire.CopyData)
			out = append(out, fmt.Sprintf("%v row %d\n", s.tag, i)...)
			b.emit(wire.End(out, at))
		}
		b.empty(wire.CopyDone)
		b.complete("COPY " + s.tag.String())
	case "copyin":
		b.emit([]byte{wire.CopyInResponse, 0, 0, 0, 7, 0, 0, 0})
		b.flush()
		b.copy = &copying{s: s, then: then}
		if s.arg(0, 0) < 0 {
			b.copyEnd(tagged("23505", "duplicate key", s.tag))
		}
		return
	case "stream":
		b.stream(s, then)
		return
	case "die":
		b.fatal("57P01", "terminating connection "+s.tag.String())
		return
	case "crash":
		b.crash()
		return
	case "discard":
		if b.status != wire.TxIdle {
			then(&pgError{"25001", "DISCARD ALL cannot run inside a transaction block"})
			return
		}
		b.temps, b.channels, b.gucs = nil, nil, slices.Clone(b.start)
		clear(b.prepared)
		b.saved = slices.Clone(b.gucs)
		if b.pg.atOnce {
			b.report()
		}
		b.complete("DISCARD ALL")
	}
	then(nil)
}

// rows says the rows of s, and that they were all or not.
func (b *backend) rows(s *stmt, p *portal, limit int) {
	n := s.arg(0, 1)
	if s.verb != "select" {
		n = 1
	}
	from := 0
	if p != nil {
		from = p.done
	}
	to := n
	if limit > 0 {
		to = min(n, from+limit)
	}
	for range to - from {
		b.emit(b.row(s))
	}
	if p != nil {
		p.done = to
	}
	if limit > 0 && to == from+limit {
		b.empty(wire.PortalSuspended)
		return
	}
	b.complete("SELECT " + s.tag.String())
}

// finish ends what runs, with an error or not.
func (b *backend) finish(err *pgError) {
	r := b.running
	b.running = nil
	r.then(err)
	b.kick()
}

// reload takes over what has changed in the server's configuration.
func (b *backend) reload() {
	for i, g := range b.pg.defaults {
		for _, own := range []gucs{b.gucs, b.start} {
			if !own[i].explicit {
				own[i].value = g.value
			}
		}
	}
}

// setParam sets a parameter, or sets it back.
func (b *backend) setParam(s *stmt) *pgError {
	i := b.gucs.find(s.name)
	if i < 0 {
		return &pgError{"42704", "unrecognized configuration parameter " + s.name}
	}
	if s.verb == "reset" {
		b.gucs[i] = b.start[i]
	} else {
		v, ok := canonical(b.gucs[i].name, s.value)
		if !ok {
			return &pgError{"22023", "invalid value for parameter " + s.name}
		}
		b.gucs[i].value, b.gucs[i].explicit = v, true
	}
	if b.pg.atOnce {
		b.report()
	}
	return nil
}
