package pool

import (
	"strconv"
	"strings"
	"testing"

	"github.com/pgweir/pgweir/wire"
)

// owedFor is what a frontend's message of a type is entered as.
var owedFor = map[byte]owed{
	wire.Query: owedQuery, wire.FunctionCall: owedFunction, wire.Sync: owedSync, wire.Parse: owedParse, wire.Bind: owedBind,
	wire.Describe: owedDescribe, wire.Execute: owedExecute, wire.Close: owedClose, wire.CopyDone: owedCopyEnd, wire.CopyFail: owedCopyEnd,
}

// TestLedger goes through conversations, most of them from the protocol
// manual's chapters "Message Flow" and "Pipelining". Each word is a step:
//
//	>X  the client sends a message of type X
//	<X  the server sends one, which must be an answer
//	.   nothing is owed, and the server may be given away
//	!   it may not
//	?X  the server sends one that can't be an answer
//	?   only a probe can tell whether the server is free
//	p   the probe is sent;  %X the server answers it, which the client must not see
func TestLedger(t *testing.T) {
	for _, c := range []struct{ name, steps string }{
		{"fresh", "."},
		{"simple query", ">Q ! <T ! <D ! <C ! <Z ."},
		{"several statements", ">Q <T <D <C <C <I ! <Z ."},
		{"an empty query", ">Q <I <Z ."},
		{"an error in a query", ">Q <T <D <E ! <Z ."},
		{"queries in a row", ">Q >Q <C <Z ! <C <Z ."},
		{"function call", ">F <V <Z ."},
		{"function call that fails", ">F <E <Z ."},
		{"extended query", ">P >B >D >E >S <1 <2 <T <D <C ! <Z ."},
		{"describe of a statement", ">P >D >S <1 <t <n <Z ."},
		{"describe of a statement with rows", ">D >S <t ! <T <Z ."},
		{"execute of nothing", ">B >E >S <2 <I <Z ."},
		{"a portal in pieces", ">B >E >E >S <2 <D <s <D <C <Z ."},
		{"close", ">C >S <3 <Z ."},
		{"bare sync", ">S ! <Z ."},
		{"pipeline", ">P >B >E >S >P >B >E >S <1 <2 <C <Z ! <1 <2 <C <Z ."},
		{"an error skips to the Sync", ">P >B >E >S >B >E >S <E ! <Z ! <2 <C <Z ."},
		{"an error before the Sync was sent", ">P >B <E ! >E >D ! >S ! <Z ."},
		{"queries are ignored before the Sync", ">P <E >Q >F >P ! >S <Z ."},
		{"flush instead of Sync", ">P >B >E <1 <2 <D <C ! >S <Z ."},
		{"no Sync yet", ">P <1 !"},
		{"a query ends what a Parse began", ">P <1 ! >Q <C <Z ."},
		{"an error in the Sync", ">P >B >E >S <1 <2 <C <E <Z ."},
		{"copy out", ">Q <H <d <d <c <C <Z ."},
		{"copy out that fails", ">Q <H <d <E <Z ."},
		{"copy out, extended", ">B >E >S <2 <H <d <c <C <Z ."},
		{"copy in", ">Q <G ! >c ! <C <Z ."},
		{"copy in, given up by the client", ">Q <G >f <E <Z ."},
		{"copy in, refused by the server", ">Q <G <E <Z . >c ."},
		{"copy in, refused while its data is on the way", ">Q <G >c <E <Z ."},
		{"copy in, sent blindly", ">Q >c <G <C <Z ."},
		{"copy in, then another statement", ">Q <G >c <C <T <D <C <Z ."},
		{"copy in, extended, Sync at the end", ">B >E <2 <G >c >S <C <Z ."},
		{"copy in, extended, Sync before the data too", ">B >E >S <2 <G >c >S <C ! <Z ."},
		{"copy in, extended, the Sync was ignored", ">B >E >S <2 <G >c <C ! >S <Z ."},
		{"copy in, extended, refused, one Sync", ">B >E <2 <G >c >S <E <Z ."},
		{"copy in, extended, refused before it reads", ">B >E >S <2 <G >c >S <E ! <Z ? p <Z %I %Z ."},
		{"copy in, extended, refused after it read the Sync", ">B >E >S <2 <G >c >S <E <Z ? p %I %Z ."},
		{"copy in, extended, refused, and no Sync behind it", ">B >E >S <2 <G <E ! <Z ? p %I %Z ."},
		{"copy in after a Sync that answers", ">Q >S <G <E <Z ? p <Z %I %Z ."},
		{"copy in after a Sync that was ignored", ">Q >S <G >c <C <Z ."},
		{"base backup", ">Q <T <D <C <H <d <c <H <d <c <T <D <C <C <Z ."},
		{"streaming, ended by the client", ">Q <W <d <d >c ! <d <c <C <C <Z ."},
		{"streaming, ended by the server", ">Q <W <d <c ! >c <T <D <C <C <Z ."},
		{"streaming that fails", ">Q <W <d <E ! <Z . >c ."},
		{"streaming that fails while the client ends it", ">Q <W >c <E <Z ."},

		{"a late CopyDone", ">c . >f ."},
		{"a late CopyDone within a query", ">Q >c <C <Z ."},

		{"rows that nobody asked for", "?D"},
		{"ready for what", "?Z"},
		{"a row for a Parse", ">P >S ?D"},
		{"ready before the Sync's turn", ">P >B >S <1 ?Z"},
		{"the wrong answer", ">P >B >S ?2"},
		{"two copies at once", ">Q <G ?G"},
		{"ready within a copy", ">Q <H ?Z"},
		{"a copy's end without a copy", ">Q ?c"},
		{"a copy's second end", ">Q <H <c ?c"},
		{"a copy that nobody ended", ">Q <G ?C"},
		{"what no server says", ">Q ?R"},
		{"a second ready", ">Q <C <Z ?Z"},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			var l ledger
			for i, step := range strings.Fields(c.steps) {
				if step == "p" {
					if l.skipping {
						t.Fatalf("step %d: a probe while the server ignores everything", i)
					}
					l.push(owedQuery | owedSwallow | owedProbe)
					continue
				}
				switch step[0] {
				case '>':
					l.push(owedFor[step[1]])
				case '.', '!':
					if l.clear() != (step == ".") {
						t.Fatalf("step %d: clear is %t, with %d replies owed", i, l.clear(), l.n)
					}
				default:
					if step == "?" {
						if !l.uncertain() {
							t.Fatalf("step %d: no doubt", i)
						}
						continue
					}
					swallow, ok := say(&l, step[1])
					if ok != (step[0] != '?') {
						t.Fatalf("step %d: %q is an answer: %t", i, step[1], ok)
					}
					if ok && swallow != (step[0] == '%') {
						t.Fatalf("step %d: %q is to be swallowed: %t", i, step[1], swallow)
					}
				}
			}
		})
	}
}

// say enters a message of the server's.
func say(l *ledger, typ byte) (swallow, ok bool) {
	if typ == wire.ReadyForQuery {
		return l.ready()
	}
	return l.answered(typ)
}

// TestLedgerGrows fills a ledger to its bound and empties it, around its ring's
// end more than once.
func TestLedgerGrows(t *testing.T) {
	var l ledger
	for round := range 3 {
		for range maxOwed + round {
			l.push(owedSync)
		}
		for i := range maxOwed + round {
			if l.clear() {
				t.Fatalf("clear with %d replies owed", maxOwed+round-i)
			}
			if _, ok := l.ready(); !ok {
				t.Fatal("a ReadyForQuery too many")
			}
		}
		if !l.clear() || len(l.ring) > len(l.small) {
			t.Fatalf("clear is %t, and the ring has %d places", l.clear(), len(l.ring))
		}
	}
}

// server is as much of Postgres as a ledger can tell: what it answers to which
// types, and what it ignores.
type server struct {
	in      []fated
	out     []byte
	skip    bool
	copy    byte   // type of the message whose COPY takes in data, 0 if none
	failsAt int    // CopyData until it fails, -1: never
	begun   bool   // messages of the extended protocol since the last Sync
	over    bool   // the session has ended
	log     string // the conversation so far
}

// fated is a frontend's message and how it fares.
type fated struct {
	typ  byte
	fate byte
}

// The fates of a statement.
const (
	fateOK = iota
	fateError
	fateCopyOut
	fateCopyIn
	fateCopyInEarly // fails before it reads anything
	fateCopyInLate  // fails at some CopyData
	fateRows
	fates
)

// take deals with the next message.
func (s *server) take() {
	m := s.in[0]
	s.in = s.in[1:]
	s.log += " (" + string(m.typ) + ")"
	switch {
	case s.copy != 0:
		s.copyMessage(m)
	case s.skip && m.typ != wire.Sync:
	case m.typ == wire.Query:
		s.execute(m)
	case m.typ == wire.FunctionCall:
		if m.fate == fateError {
			s.fail(m.typ)
		} else {
			s.out = append(s.out, wire.FunctionCallResponse, wire.ReadyForQuery)
			s.begun = false
		}
	case m.typ == wire.Sync:
		s.skip, s.begun = false, false
		s.out = append(s.out, wire.ReadyForQuery)
	case m.typ == wire.CopyData, m.typ == wire.CopyDone, m.typ == wire.CopyFail, m.typ == wire.Flush:
	case m.fate == fateError:
		s.fail(m.typ)
	default:
		s.begun = true
		switch m.typ {
		case wire.Parse:
			s.out = append(s.out, wire.ParseComplete)
		case wire.Bind:
			s.out = append(s.out, wire.BindComplete)
		case wire.Describe:
			if m.fate == fateRows {
				s.out = append(s.out, wire.ParameterDescription, wire.RowDescription)
			} else {
				s.out = append(s.out, wire.NoData)
			}
		case wire.Close:
			s.out = append(s.out, wire.CloseComplete)
		case wire.Execute:
			s.execute(m)
		}
	}
}

// execute runs the statement of a Query or an Execute.
func (s *server) execute(m fated) {
	switch m.fate {
	case fateError:
		s.fail(m.typ)
		return
	case fateCopyIn, fateCopyInEarly, fateCopyInLate:
		s.out = append(s.out, wire.CopyInResponse)
		s.copy, s.failsAt = m.typ, -1
		switch m.fate {
		case fateCopyInEarly:
			s.copy = 0
			s.fail(m.typ)
		case fateCopyInLate:
			s.failsAt = 1
		}
		return
	case fateCopyOut:
		s.out = append(s.out, wire.CopyOutResponse, wire.CopyData, wire.CopyDone)
	case fateRows:
		if m.typ == wire.Query {
			s.out = append(s.out, wire.RowDescription)
		}
		s.out = append(s.out, wire.DataRow)
	}
	s.done(m.typ)
}

// done ends a statement that succeeded.
func (s *server) done(typ byte) {
	s.out = append(s.out, wire.CommandComplete)
	if typ == wire.Query {
		s.out = append(s.out, wire.ReadyForQuery)
		s.begun = false
	}
}

// fail ends a message with an error.
func (s *server) fail(typ byte) {
	s.out = append(s.out, wire.ErrorResponse)
	if typ == wire.Query || typ == wire.FunctionCall {
		s.out = append(s.out, wire.ReadyForQuery)
		s.begun = false
	} else {
		s.skip = true
	}
}

func (s *server) copyMessage(m fated) {
	typ := s.copy
	switch m.typ {
	case wire.CopyData:
		if s.failsAt--; s.failsAt == 0 {
			s.copy = 0
			s.fail(typ)
		}
	case wire.CopyDone:
		s.copy = 0
		s.done(typ)
	case wire.CopyFail:
		s.copy = 0
		s.fail(typ)
	case wire.Sync, wire.Flush:
	default: // protocol synchronization was lost
		s.over = true
	}
}

// idle reports whether the server may be given away: what it still has to take
// is what it ignores outside of a COPY.
func (s *server) idle() bool {
	for _, m := range s.in {
		switch m.typ {
		case wire.CopyData, wire.CopyDone, wire.CopyFail, wire.Flush:
		default:
			return false
		}
	}
	return len(s.out) == 0 && !s.skip && !s.begun && s.copy == 0
}

// FuzzLedger lets a client talk to a server, with a ledger between them. Each
// byte is a step: the client sends something, the server takes a message, or
// one of its answers comes.
func FuzzLedger(f *testing.F) {
	for _, seed := range []string{"\x00\x01\x02", "0@@AAA", "\x05\x15\x25\x35\x01\x01\x01\x01\x02\x02\x02", "PCSAABBcs"} {
		f.Add([]byte(seed))
	}
	types := []byte{
		wire.Query, wire.Parse, wire.Bind, wire.Describe, wire.Execute, wire.Close, wire.Sync, wire.FunctionCall,
		wire.CopyData, wire.CopyDone, wire.CopyFail, wire.Flush,
	}
	f.Fuzz(func(t *testing.T, steps []byte) {
		var l ledger
		var s server
		closed := false // on doubt a server may be closed
		defer func() {
			if t.Failed() {
				t.Logf("the conversation:%s", s.log)
			}
		}()
		answer := func(probing bool) {
			typ := s.out[0]
			s.out = s.out[1:]
			s.log += " <" + string(typ)
			doubt := l.doubt
			swallow, ok := say(&l, typ)
			if !ok && !doubt {
				t.Fatalf("%q is no answer", typ)
			}
			closed = closed || !ok
			if swallow && !probing {
				t.Fatalf("%q is swallowed", typ)
			}
		}
		check := func() {
			if l.clear() && !s.idle() {
				t.Fatalf("clear, and the server has %d messages and %q to say (ignores: %t, COPY: %q, begun: %t)", len(s.in), s.out, s.skip, s.copy, s.begun)
			}
		}
		for _, step := range steps {
			switch step & 3 {
			case 0, 3:
				m := fated{types[int(step>>2)%len(types)], step >> 4 % fates}
				if e := owedFor[m.typ]; e != 0 {
					l.push(e)
				}
				s.in = append(s.in, m)
				s.log += " >" + string(m.typ) + strconv.Itoa(int(m.fate))
			case 1:
				if len(s.in) > 0 {
					s.take()
				}
			case 2:
				if len(s.out) > 0 {
					answer(false)
				}
			}
			if s.over || closed {
				return
			}
			check()
		}
		for len(s.in) > 0 && !s.over {
			s.take()
		}
		if s.over || s.copy != 0 {
			return
		}
		for len(s.out) > 0 && !closed {
			answer(false)
			check()
		}
		if closed {
			return
		}
		if l.skipping != s.skip && !l.doubt {
			t.Fatalf("the ledger thinks that the server ignores everything: %t, and it does: %t", l.skipping, s.skip)
		}
		if s.skip || s.begun {
			l.push(owedSync)
			s.in = append(s.in, fated{typ: wire.Sync})
			s.take()
			for len(s.out) > 0 {
				answer(false)
			}
		}
		if l.uncertain() && !l.skipping {
			l.push(owedQuery | owedSwallow | owedProbe)
			s.out = append(s.out, wire.EmptyQueryResponse, wire.ReadyForQuery)
			for len(s.out) > 0 {
				answer(true)
			}
		}
		if s.idle() && !l.clear() {
			t.Fatalf("the server is free, and the ledger has %d entries (ignores: %t, copies: %d, doubt: %t, unsynced: %t)", l.n, l.skipping, l.copying, l.doubt, l.unsynced)
		}
	})
}
