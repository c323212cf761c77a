package sim

import (
	"encoding/binary"
	"strconv"
	"strings"

	"github.com/pgweir/pgweir/wire"
)

// copying is a COPY from the client.
type copying struct {
	s         *stmt
	rows      int
	syncs     int // ignored
	cancelled bool
	then      func(err *pgError)
}

// copyMessage deals with a message while a COPY takes in data.
func (b *backend) copyMessage(typ byte, body []byte) {
	c := b.copy
	switch typ {
	case wire.CopyData:
		c.rows++
		if !strings.HasPrefix(string(body), c.s.tag.String()+" ") {
			b.pg.w.failf("%v: COPY %v gets data of somebody else: %s", b.k, c.s.tag, show(body))
		}
		switch {
		case c.cancelled:
			b.copyEnd(tagged("57014", "canceling statement due to user request", c.s.tag))
		case c.rows == c.s.arg(0, 0) && c.s.verb == "copyin":
			b.copyEnd(tagged("22P02", "invalid input in row "+strconv.Itoa(c.rows), c.s.tag))
		}
	case wire.CopyDone:
		if c.s.verb == "stream" {
			b.empty(wire.CopyDone)
		}
		b.copyEnd(nil)
	case wire.CopyFail:
		b.copyEnd(tagged("57014", "COPY from stdin failed: "+strings.TrimSuffix(string(body), "\x00"), c.s.tag))
	case wire.Sync:
		c.syncs++
	case wire.Flush:
	default:
		b.emit(wire.AppendError(nil, wire.Fields{
			Severity: "ERROR", Code: "08P01", Message: "unexpected message type during COPY from stdin",
		}))
		b.fatal("08P01", "terminating connection because protocol synchronization was lost")
	}
}

// copyEnd ends the COPY.
func (b *backend) copyEnd(err *pgError) {
	c := b.copy
	b.copy = nil
	if c.syncs > 0 {
		b.pg.w.books.swallowed[c.s.tag] = c.syncs
	}
	if err == nil {
		b.complete("COPY " + c.s.tag.String())
	}
	c.then(err)
}

// extended deals with a message of the extended protocol but Sync and Flush.
func (b *backend) extended(typ byte, body []byte) {
	next := func() string {
		s, rest, ok := wire.CutString(body)
		if !ok {
			b.pg.w.failf("%v: %q without its strings", b.k, typ)
		}
		body = rest
		return string(s)
	}
	fail := func(code, text string) { b.failed(&pgError{code, text}, true) }
	switch typ {
	case wire.Parse:
		name, query := next(), next()
		list, ok := parse(query)
		switch {
		case !ok:
			fail("42601", "syntax error: "+query)
			return
		case len(list) > 1:
			fail("42601", "cannot insert multiple commands into a prepared statement")
			return
		case name != "" && b.prepared[name] != nil:
			fail("42P05", "prepared statement \""+name+"\" already exists")
			return
		}
		var s *stmt
		if len(list) == 1 {
			s = &list[0]
		}
		if s != nil && b.status == wire.TxFailed && s.verb != "commit" && s.verb != "rollback" {
			b.failed(aborted(s), true)
			return
		}
		b.begin()
		b.prepared[name] = b.prepares(s)
		b.empty(wire.ParseComplete)
	case wire.Bind:
		name, from := next(), next()
		p := b.prepared[from]
		switch {
		case p == nil:
			fail("26000", "prepared statement \""+from+"\" does not exist")
			return
		case p.s != nil && b.status == wire.TxFailed && p.s.verb != "commit" && p.s.verb != "rollback":
			b.failed(aborted(p.s), true)
			return
		}
		if err := b.stale(p); err != nil {
			b.failed(err, true)
			return
		}
		b.begin()
		b.portals[name] = &portal{s: p.s}
		if p.s != nil && p.s.verb == "lookup" {
			b.portals[name].arg = lookupArg(body)
		}
		b.empty(wire.BindComplete)
	case wire.Describe:
		what := body[0]
		body = body[1:]
		name := next()
		var s *stmt
		if what == 'S' {
			p := b.prepared[name]
			if p == nil {
				fail("26000", "prepared statement \""+name+"\" does not exist")
				return
			}
			if err := b.stale(p); err != nil {
				b.failed(err, true)
				return
			}
			s = p.s
			out, at := wire.Begin(nil, wire.ParameterDescription)
			out = binary.BigEndian.AppendUint16(out, 1)
			b.emit(wire.End(binary.BigEndian.AppendUint32(out, b.target(s).oid()), at))
		} else {
			p := b.portals[name]
			if p == nil {
				fail("34000", "portal \""+name+"\" does not exist")
				return
			}
			s = p.s
		}
		b.describe(b.target(s))
	case wire.Execute:
		name := next()
		limit := int(binary.BigEndian.Uint32(body))
		p := b.portals[name]
		if p == nil {
			fail("34000", "portal \""+name+"\" does not exist")
			return
		}
		if p.s == nil {
			b.empty(wire.EmptyQueryResponse)
			return
		}
		b.execute(p.s, p, limit, func(err *pgError) {
			if err != nil {
				b.failed(err, true)
			}
		})
	case wire.Close:
		what := body[0]
		body = body[1:]
		if name := next(); what == 'S' {
			delete(b.prepared, name)
		} else {
			delete(b.portals, name)
		}
		b.empty(wire.CloseComplete)
	}
}
