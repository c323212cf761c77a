package pool

import (
	"github.com/pgweir/pgweir/pool/sql"
	"github.com/pgweir/pgweir/wire"
)

// message is one of a client's, or the begin of it.
type message struct {
	in   []byte // the client's input from its first byte on, with what follows it
	typ  byte
	size int  // of the whole, with its header
	owes owed // what a server owes for it; 0 if it is not answered

	// What it says of prepared statements, if those are pgweir's business.
	is   naming
	name []byte // the client's name for the one it is about; empty unless namesOne
	end  int    // of namesOne and namesBare: where in, with all that has to be there, ends
}

// whole reports whether m is there to its end.
func (m *message) whole() bool { return m.size <= len(m.in) }

// here is how many bytes of m are there.
func (m *message) here() int { return min(m.size, len(m.in)) }

// behind is what follows m, as far as it is there.
func (m *message) behind() []byte { return m.in[m.here():] }

// naming says whether a message names a prepared statement.
type naming uint8

const (
	namesNone   naming = iota // no: a portal, or a Parse too long to be kept
	namesOne                  // yes
	namesBare                 // the unnamed one
	namesMore                 // more of the message has to be there to tell
	namesBroken               // the message makes no sense
	namesSQL                  // a Query whose text may
)

// maxNames bounds what of a Bind must be there before the name of its
// statement is known: the names of portal and statement.
const maxNames = 64 << 10

// clientCloses is why c ends that says so itself.
const clientCloses = "client close request"

// peek has m be the message with which in begins, of the client c. Its size is 0
// if too little of it is there. fault, if there is one, is why c has to end.
func (m *message) peek(c *Client, in []byte) (fault string) {
	main := &c.w.p.Snapshot().Main
	typ, size, ok, err := wire.Peek(in, int(main.MaxPacketSize))
	if err != nil {
		return badHeader(in)
	}
	if !ok {
		return ""
	}
	e, known := owes(typ)
	if !known {
		return "unknown pkt"
	}
	m.in, m.typ, m.size, m.owes = in, typ, size, e
	switch typ {
	case wire.Terminate:
		return clientCloses
	case wire.Parse, wire.Bind, wire.Describe, wire.Close:
		if c.tracks() {
			m.findName()
		}
	case wire.Query:
		if main.DisablePQExec {
			return "PQexec disallowed"
		}
		if c.tracks() {
			m.is = sqlNaming(m)
		}
	}
	switch m.is {
	case namesMore:
		m.size = 0
	case namesBroken:
		return "broken " + packetName(typ) + " packet"
	}
	return ""
}

// findName says which statement m names: a Parse, Bind, Describe or Close.
func (m *message) findName() {
	body, ok := m.in[wire.HeaderLen:m.here()], false
	switch {
	case m.typ == wire.Bind:
		m.findBound(body)
		return
	case m.typ == wire.Parse:
	case m.size == wire.HeaderLen:
		m.is = namesBroken
		return
	case len(body) > 0 && body[0] != 'S':
		return
	case len(body) > 0:
		body = body[1:]
	}
	switch {
	case len(body) > 0 && body[0] == 0 && m.size > maxBare:
		return
	case !m.whole():
		m.is = namesMore
		return
	}
	if m.name, _, ok = wire.CutString(body); ok {
		m.names(m.size)
	} else {
		m.is = namesBroken
	}
}

// findBound says which statement a Bind names, of which body is there.
func (m *message) findBound(body []byte) {
	portal, rest, ok := wire.CutString(body)
	if ok {
		m.name, _, ok = wire.CutString(rest)
	}
	switch {
	case ok:
		m.names(wire.HeaderLen + len(portal) + 1 + len(m.name) + 1)
	case m.whole() || len(m.in) > maxNames:
		m.is = namesBroken
	default:
		m.is = namesMore
	}
}

// names notes that m.name was found, and with it all up to end.
func (m *message) names(end int) {
	m.is, m.end = namesOne, end
	if len(m.name) == 0 {
		m.is = namesBare
	}
}

// significant is the part of a name by which Postgres tells statements apart.
func significant(name []byte) []byte { return name[:min(len(name), sql.MaxIdentifier)] }

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

// owes is what a server owes for a message of type typ, 0 for one that is
// not answered. known is false for what no client may send.
func owes(typ byte) (e owed, known bool) {
	switch typ {
	case wire.Query:
		return owedQuery, true
	case wire.Parse:
		return owedParse, true
	case wire.Bind:
		return owedBind, true
	case wire.Describe:
		return owedDescribe, true
	case wire.Execute:
		return owedExecute, true
	case wire.Close:
		return owedClose, true
	case wire.Sync:
		return owedSync, true
	case wire.FunctionCall:
		return owedFunction, true
	case wire.CopyDone, wire.CopyFail:
		return owedCopyEnd, true
	case wire.Flush, wire.CopyData, wire.Terminate:
		return 0, true
	}
	return 0, false
}
