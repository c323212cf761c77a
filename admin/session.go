package admin

import (
	"errors"

	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/wire"
)

// session is one console client. Its methods are called one at a time.
type session struct {
	console *Console
	pools   Pooler
	client  pool.ConsoleClient

	// status is what ReadyForQuery says. The console has no transactions, but
	// a driver that sent BEGIN expects to be told it is in one.
	status wire.TxStatus

	// skipping is set by an error in the extended protocol: everything up to
	// the next Sync is discarded (protocol manual, "Extended Query").
	skipping bool

	statements map[string]*prepared // by name, "" is the unnamed one
	portals    map[string]*portal
}

// Close ends the session.
func (s *session) Close() { s.console.opened.Add(-1) }

// Handle answers one message of type typ. body is what follows the length
// word; it is the caller's again when Handle returns. The answer is appended to
// out. end is true if the connection is to be closed once reply is written.
//
// Handle may block, in PAUSE and its like, until done is closed.
func (s *session) Handle(done <-chan struct{}, typ byte, body, out []byte) (reply []byte, end bool) {
	before := len(out)
	if typ == wire.Query || typ == wire.Execute {
		s.console.queries.Add(1) // SHOW STATS counts itself
	}
	reply, end = s.answer(done, typ, body, out)
	s.console.received.Add(uint64(wire.HeaderLen + len(body)))
	s.console.sent.Add(uint64(len(reply) - before))
	return reply, end
}

func (s *session) answer(done <-chan struct{}, typ byte, body, out []byte) (reply []byte, end bool) {
	switch typ {
	case wire.Terminate:
		return out, true
	case wire.Sync:
		s.skipping = false
		s.dropPortals()
		return wire.AppendReadyForQuery(out, s.status), false
	case wire.Query:
		if s.skipping {
			return out, false
		}
		query, rest, ok := wire.CutString(body)
		if !ok || len(rest) > 0 {
			return s.fatal(out)
		}
		return s.query(done, string(query), out)
	case wire.Parse, wire.Bind, wire.Describe, wire.Execute, wire.Close, wire.Flush:
		if s.skipping {
			return out, false
		}
		return s.extended(done, typ, body, out)
	default:
		out = s.fail(out, unsupported(typ))
		return s.fatal(wire.AppendReadyForQuery(out, s.status))
	}
}

// maxReply bounds the answer to a simple Query of several statements: no
// statement begins when this many bytes are waiting already.
const maxReply = 8 << 20

// query runs a simple Query: each of its statements in turn, up to the first
// that fails.
func (s *session) query(done <-chan struct{}, query string, out []byte) (reply []byte, end bool) {
	s.dropUnnamed()
	list := split(query)
	if len(list) == 1 {
		list[0].text = query // as PgBouncer quotes it
	}
	if len(list) == 0 {
		out = append(out, wire.EmptyQueryResponse, 0, 0, 0, 4)
	}
	for _, st := range list {
		p, err := parse(st)
		if len(out) > maxReply {
			err = &failure{code: codeTooBig, message: "the answer is too big: send the statements one by one"}
		}
		var r result
		if err == nil {
			r, err = p.run(s, done)
		}
		if err != nil {
			out = s.fail(out, err)
			break
		}
		if r.silent {
			return out, true
		}
		out = appendNotice(out, r)
		if p.columns != nil {
			out = appendRowDescription(out, p.columns, nil)
			for _, cells := range r.rows {
				out = appendDataRow(out, p.columns, cells, nil)
			}
		}
		out = wire.AppendCommandComplete(out, r.tag)
	}
	s.dropPortals()
	return wire.AppendReadyForQuery(out, s.status), false
}

// fail appends err as an ErrorResponse and logs it. PgBouncer sends S, C and M
// only; a detail or a hint comes on top where it helps.
func (s *session) fail(out []byte, err error) []byte {
	f := wire.Fields{Severity: "ERROR", Code: codeProtocol, Message: err.Error()}
	var e *failure
	if errors.As(err, &e) {
		f = wire.Fields{Severity: "ERROR", Code: e.code, Message: e.message, Detail: e.detail, Hint: e.hint}
	}
	if log := s.console.opts.Log; log != nil && log.Enabled(pool.Error) {
		log.Log(pool.Error, s.client.Prefix, f.Message)
	}
	return wire.AppendError(out, f)
}

// fatal ends the session over a message that can't be what was meant.
func (s *session) fatal(out []byte) (reply []byte, end bool) {
	return wire.AppendError(out, wire.Fields{Severity: "FATAL", Code: codeProtocol, Message: "bad packet"}), true
}

func appendNotice(out []byte, r result) []byte {
	if r.notice == "" {
		return out
	}
	return wire.AppendNotice(out, wire.Fields{
		Severity: "NOTICE", Code: "00000", Message: r.notice, Detail: r.detail,
	})
}
