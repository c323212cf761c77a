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

// running is a statement that takes its time.
type running struct {
	tag     tag
	endless bool
	then    func(err *pgError)
}

// lookupArg is the one parameter of a Bind, behind the names.
func lookupArg(body []byte) string {
	body = body[2+2:] // no formats, one parameter
	n := binary.BigEndian.Uint32(body)
	return string(body[4 : 4+n])
}

// limits answers the question how many connections there may be.
func (b *backend) limits() {
	p := b.pg
	text := fmt.Sprintf("%d %d -1", p.maxConn, p.roleLimit)
	b.columns("concat_ws")
	out, at := wire.Begin(nil, wire.DataRow)
	out = binary.BigEndian.AppendUint16(out, 1)
	out = binary.BigEndian.AppendUint32(out, uint32(len(text)))
	b.emit(wire.End(append(out, text...), at))
	b.complete("SELECT 1")
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
	cols := []string{
		s.tag.String(), strconv.Itoa(int(b.pid)), strings.Join(left, ","), strings.Join(params, "\x1f"),
		strings.Repeat("x", s.arg(1, 0)),
	}
	if s.verb == "shaped" {
		cols = append(cols, b.shape())
	}
	out, at := wire.Begin(nil, wire.DataRow)
	out = binary.BigEndian.AppendUint16(out, uint16(len(cols)))
	for _, col := range cols {
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
	b.checkMeant(s.tag)
	if b.status == wire.TxFailed && s.verb != "commit" && s.verb != "rollback" {
		then(aborted(s))
		return
	}
	b.begin()
	if target := b.target(s); target != s {
		if err := b.stale(b.prepared[s.name]); err != nil {
			then(err)
			return
		}
		b.execute(target, p, limit, then)
		return
	}
	switch s.verb {
	case "select", "shaped":
		b.rows(s, p, limit)
	case "alter":
		b.alter(s, then)
		return
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
	case "limits":
		if !w.calm && w.chance(10) {
			then(&pgError{"42501", "permission denied for view pg_roles"})
			return
		}
		b.limits()
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
		if s.asRow {
			b.columns("set_config")
			out, at := wire.Begin(nil, wire.DataRow)
			out = binary.BigEndian.AppendUint16(out, 1)
			out = binary.BigEndian.AppendUint32(out, uint32(len(s.value)))
			b.emit(wire.End(append(out, s.value...), at))
			b.complete("SELECT 1")
		} else {
			b.complete(strings.ToUpper(s.verb))
		}
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
	case "prepare", "execute", "deallocate":
		if err := b.prepare(s); err != nil {
			then(err)
			return
		}
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

// shape is what the table is like, which stays so until the transaction is over.
func (b *backend) shape() string {
	b.reads = true
	return "shape" + strconv.Itoa(b.pg.shape)
}

// alter gives the table another shape, when no other session's transaction reads
// it any more.
func (b *backend) alter(s *stmt, then func(*pgError)) {
	r := &running{tag: s.tag, then: func(err *pgError) {
		if err == nil {
			b.pg.shape++
			b.complete("ALTER " + s.tag.String())
		}
		then(err)
	}}
	b.running = r
	var try func()
	try = func() {
		switch {
		case b.running != r:
		case b.pg.reads(b):
			b.pg.w.after(time.Millisecond, try)
		default:
			b.finish(nil)
		}
	}
	try()
}

// finish ends what runs, with an error or not.
func (b *backend) finish(err *pgError) {
	r := b.running
	b.running = nil
	r.then(err)
	b.kick()
}
