package pool_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pgweir/pgweir/wire"
)

// request makes one message from its type and the strings and bytes of its
// body.
func request(typ byte, fields ...any) []byte {
	b, at := wire.Begin(nil, typ)
	for _, f := range fields {
		switch f := f.(type) {
		case string:
			b = wire.AppendString(b, f)
		case byte:
			b = append(b, f)
		case []byte:
			b = append(b, f...)
		}
	}
	return wire.End(b, at)
}

func join(all ...[]byte) (b []byte) {
	for _, one := range all {
		b = append(b, one...)
	}
	return b
}

var noTypes = []byte{0, 0}

func parse(name, sql string) []byte { return request('P', name, sql, noTypes) }
func bind(name string) []byte       { return request('B', "", name, []byte{0, 0, 0, 0, 0, 0}) }
func describe(name string) []byte   { return request('D', byte('S'), name) }
func closing(name string) []byte    { return request('C', byte('S'), name) }

var (
	execute = request('E', "", []byte{0, 0, 0, 0})
	sync    = request('S')
	flush   = request('H')
	idle    = wire.AppendReadyForQuery(nil, wire.TxIdle)
	failed  = wire.AppendError(nil, wire.Fields{Severity: "ERROR", Code: "42601", Message: "no such thing"})
	done    = wire.AppendCommandComplete(nil, "SELECT 1")
)

func reply(types ...byte) (b []byte) {
	for _, t := range types {
		b = append(b, t, 0, 0, 0, 4)
	}
	return b
}

// stage is a world with one server, which a test plays.
type stage struct {
	*world
	server *fakeConn
}

func newStage(t *testing.T, main string) (*stage, *client) {
	w := newWorld(t, "auth_type = trust\npool_mode = transaction\ndefault_pool_size = 1\n"+main, "")
	c := w.connect().startup("user", "alice", "database", "app")
	n := len(w.loop.conns)
	w.serve()
	c.wantWelcome()
	return &stage{w, w.loop.conns[n]}, c
}

func (s *stage) join() *client {
	c := s.connect().startup("user", "alice", "database", "app")
	c.wantWelcome()
	return c
}

// asked is what the server was sent since the last call.
func (s *stage) asked(want []byte) {
	s.t.Helper()
	got := string(s.server.out)
	s.server.out = nil
	if got != string(want) {
		s.t.Fatalf("the server was sent\n%q, want\n%q", got, want)
	}
}

// answers sends what the server says.
func (s *stage) answers(b ...[]byte) {
	s.server.in = append(s.server.in, join(b...)...)
	s.settle()
}

func (c *client) gets(want ...[]byte) {
	c.w.t.Helper()
	got := string(c.out)
	c.out = nil
	if got != string(join(want...)) {
		c.w.t.Fatalf("the client got\n%q, want\n%q", got, join(want...))
	}
}

// Names of statements on servers. nobody begins those that there are not.
const one, two, nobody = "PGBOUNCER_1", "PGBOUNCER_2", "PGBOUNCER_0 "

func TestStatementIsShared(t *testing.T) {
	s, a := newStage(t, "")
	b := s.join()
	a.send(join(parse("mine", "select 1"), sync))
	s.asked(join(parse(one, "select 1"), sync))
	s.answers(reply('1'), idle)
	a.gets(reply('1'), idle)

	// The server has it: nobody asks it again.
	b.send(join(parse("yours", "select 1"), describe("yours"), bind("yours"), execute, sync))
	s.asked(join(describe(one), bind(one), execute, sync))
	s.answers(reply('t', 'n', '2'), done, idle)
	b.gets(reply('1', 't', 'n', '2'), done, idle)

	// Other types of parameters make another statement.
	b.send(join(request('P', "typed", "select 1", []byte{0, 1, 0, 0, 0, 23}), sync))
	s.asked(join(request('P', two, "select 1", []byte{0, 1, 0, 0, 0, 23}), sync))
	s.answers(reply('1'), idle)
	b.gets(reply('1'), idle)
}

func TestStatementIsToldToServersThatLackIt(t *testing.T) {
	s, a := newStage(t, "")
	a.send(join(parse("mine", "select 1"), sync))
	s.answers(reply('1'), idle)
	a.out = nil
	s.server.handler.Closed(nil) // and another server comes
	s.settle()
	n := len(s.loop.conns)
	a.send(join(bind("mine"), execute, sync))
	s.serve()
	s.server = s.loop.conns[n]
	s.asked(join(parse(one, "select 1"), bind(one), execute, sync))
	s.answers(reply('1', '2'), done, idle)
	a.gets(reply('2'), done, idle)
}

// A client may cut its messages anywhere.
func TestStatementBytewise(t *testing.T) {
	s, a := newStage(t, "")
	a.bytewise = true
	a.send(join(parse("mine", "select 1"), describe("mine"), bind("mine"), execute, closing("mine"), sync))
	s.asked(join(parse(one, "select 1"), describe(one), bind(one), execute, sync))
	s.server.bytewise = true
	s.answers(reply('1', 't', 'n', '2'), done, idle)
	a.gets(reply('1', 't', 'n', '2'), done, reply('3'), idle)
}

func TestStatementIsClosedHere(t *testing.T) {
	s, a := newStage(t, "")
	a.send(join(parse("mine", "select 1"), sync))
	s.answers(reply('1'), idle)
	a.out, s.server.out = nil, nil
	a.send(join(closing("mine"), closing("never"), sync))
	s.asked(nil)
	a.gets(reply('3', '3'), idle)

	// The name is free, and the server still has the statement.
	a.send(join(parse("mine", "select 1"), flush))
	a.gets(reply('1'))
	s.asked(flush)
	a.send(join(bind("mine"), execute, sync))
	s.asked(join(bind(one), execute, sync))
	s.answers(reply('2'), done, idle)
	a.gets(reply('2'), done, idle)
}

// What Postgres would refuse, Postgres refuses, and the session goes on.
func TestStatementNamesThatAreWrong(t *testing.T) {
	s, a := newStage(t, "")
	a.send(join(bind("never"), execute, sync))
	s.asked(join(bind(nobody+"never"), execute, sync))
	s.answers(failed, idle)
	a.gets(failed, idle)
	a.send(join(describe("never"), sync))
	s.asked(join(describe(nobody+"never"), sync))
	none := func(name string) []byte {
		return wire.AppendError(nil, wire.Fields{
			Severity: "ERROR", Code: "26000", Message: fmt.Sprintf("prepared statement %q does not exist", name),
		})
	}
	s.answers(none(nobody+"never"), idle)
	a.gets(none("never"), idle)

	a.send(join(parse("mine", "select 1"), sync))
	s.answers(reply('1'), idle)
	a.out, s.server.out = nil, nil
	a.send(join(parse("mine", "select 2"), sync))
	s.asked(join(parse(one, "select 2"), sync))
	exists := func(name string) []byte {
		return wire.AppendError(nil, wire.Fields{
			Severity: "ERROR", Code: "42P05", Message: fmt.Sprintf("prepared statement %q already exists", name),
		})
	}
	s.answers(exists(one), idle)
	a.gets(exists("mine"), idle)

	a.send(join(bind("mine"), execute, sync))
	s.asked(join(bind(one), execute, sync))
	s.answers(reply('2'), done, idle)
	a.gets(reply('2'), done, idle)
}

// Postgres compares 63 bytes of a name.
func TestStatementNamesThatAreLong(t *testing.T) {
	s, a := newStage(t, "")
	long := strings.Repeat("x", 63)
	a.send(join(parse(long+"one", "select 1"), bind(long+"two"), execute, sync))
	s.asked(join(parse(one, "select 1"), bind(one), execute, sync))
	s.answers(reply('1', '2'), done, idle)
	a.gets(reply('1', '2'), done, idle)
	a.send(ask("execute " + long + "three"))
	s.asked(ask(`execute "PGBOUNCER_1"`))
	s.answers(done, idle)
	a.send(join(closing(long+"four"), bind(long+"one"), sync))
	s.asked(join(bind(nobody+long+"one"), sync))
	s.answers(failed, idle)
}

// What was prepared before RELOAD is nobody's afterwards, or somebody could meet
// another's of the same name.
func TestStatementsOfAnotherMode(t *testing.T) {
	s, a := newStage(t, "max_prepared_statements = 0")
	b := s.join()
	a.send(join(parse("mine", "select 1"), sync))
	s.answers(reply('1'), idle)
	s.server.out = nil
	if err := s.p.Set("max_prepared_statements", "200"); err != nil {
		t.Fatal(err)
	}
	s.settle()
	b.send(join(bind("mine"), execute, sync))
	s.asked(join(bind(nobody+"mine"), execute, sync))
}

// After an error nothing that the server ignored may be thought of as done.
func TestStatementsOfAFailedBatch(t *testing.T) {
	s, a := newStage(t, "")
	a.send(join(parse("kept", "select 1"), sync))
	s.answers(reply('1'), idle)
	a.out, s.server.out = nil, nil

	a.send(join(parse("bad", "selct"), parse("lost", "select 2"), closing("kept"), parse("kept", "select 3"), sync))
	s.answers(failed, idle)
	a.gets(failed, idle)
	s.server.out = nil

	for i, c := range []struct {
		name string
		want []byte
	}{
		{"bad", bind(nobody + "bad")},
		{"lost", bind(nobody + "lost")},
		{"kept", bind(one)},
	} {
		a.send(join(bind(c.name), sync))
		s.asked(join(c.want, sync))
		if i < 2 {
			s.answers(failed, idle)
			a.gets(failed, idle)
		} else {
			s.answers(reply('2'), idle)
			a.gets(reply('2'), idle)
		}
	}

	// And the server is told what it has ignored.
	a.send(join(parse("lost", "select 2"), sync))
	s.asked(join(parse("PGBOUNCER_5", "select 2"), sync))
	s.answers(reply('1'), idle)
	a.gets(reply('1'), idle)
}

func TestStatementsAreEvicted(t *testing.T) {
	s, a := newStage(t, "max_prepared_statements = 2")
	for i := 1; i <= 2; i++ {
		a.send(join(parse(fmt.Sprint("s", i), fmt.Sprint("select ", i)), sync))
		s.answers(reply('1'), idle)
	}
	a.send(join(bind("s1"), execute, sync)) // used last
	s.answers(reply('2'), done, idle)
	a.out, s.server.out = nil, nil

	a.send(join(parse("s3", "select 3"), sync))
	s.asked(join(closing(two), parse("PGBOUNCER_3", "select 3"), sync))
	s.answers(reply('3', '1'), idle)
	a.gets(reply('1'), idle)

	// What was closed for others is told again, and a refused batch closes
	// nothing.
	a.send(join(bind("never"), bind("s2"), sync))
	s.asked(join(bind(nobody+"never"), closing(one), parse(two, "select 2"), bind(two), sync))
	s.answers(failed, idle)
	a.gets(failed, idle)
	a.send(join(bind("s1"), sync))
	s.asked(join(bind(one), sync))
	s.answers(reply('2'), idle)
	a.gets(reply('2'), idle)
}

func TestStatementsAreDiscarded(t *testing.T) {
	for _, tag := range []string{"DISCARD ALL", "DEALLOCATE ALL"} {
		s, a := newStage(t, "")
		b := s.join()
		for _, c := range []*client{a, b} {
			c.send(join(parse("mine", "select 1"), sync))
			if c == a {
				s.answers(reply('1'), idle)
			} else {
				s.answers(idle)
			}
			c.out = nil
		}
		a.send(request('Q', tag))
		s.answers(wire.AppendCommandComplete(nil, tag), idle)
		a.out, s.server.out = nil, nil

		// The client that asked for it has none; the other still has its own,
		// which the server is told again.
		a.send(join(bind("mine"), sync))
		s.asked(join(bind(nobody+"mine"), sync))
		s.answers(failed, idle)
		b.send(join(bind("mine"), sync))
		s.asked(join(parse(one, "select 1"), bind(one), sync))
		s.answers(reply('1', '2'), idle)
		b.gets(reply('2'), idle)
	}
}

// In session mode, and without max_prepared_statements, nothing is looked at.
func TestStatementsPassThrough(t *testing.T) {
	for _, main := range []string{"pool_mode = session\nserver_reset_query =", "max_prepared_statements = 0"} {
		s, a := newStage(t, main)
		all := join(parse("mine", "select 1"), bind("mine"), execute, closing("mine"), sync)
		a.send(all)
		s.asked(all)
		s.answers(reply('1', '2'), done, reply('3'), idle)
		a.gets(reply('1', '2'), done, reply('3'), idle)
	}
}

func TestBrokenStatementMessages(t *testing.T) {
	for _, b := range [][]byte{request('P', []byte("x")), request('B', []byte("x")), request('D'), request('C', []byte("Sx"))} {
		_, a := newStage(t, "")
		a.send(b)
		a.wantError("broken " + map[byte]string{'P': "Parse", 'B': "Bind", 'D': "Describe", 'C': "Close"}[b[0]] + " packet")
	}
}

// Using a statement that the server has costs no allocation.
func TestBindAllocatesNothing(t *testing.T) {
	s, a := newStage(t, "")
	a.send(join(parse("mine", "select 1"), sync))
	s.answers(reply('1'), idle)
	input, output := join(bind("mine"), execute, sync), join(reply('2'), done, idle)
	a.out, s.server.out = make([]byte, 0, 4<<10), make([]byte, 0, 4<<10)
	transaction := func() {
		a.out, s.server.out = a.out[:0], s.server.out[:0]
		a.handler.Data(input)
		s.server.handler.Data(output)
		if len(a.out) != len(output) {
			t.Fatalf("the client got %q", a.out)
		}
	}
	transaction()
	if n := testing.AllocsPerRun(1000, transaction); n != 0 {
		t.Errorf("%v allocations for each transaction", n)
	}
}

// The unnamed statement belongs to the client that prepared it, also when a Bind
// comes in a batch of its own (lib/pq) and the server has served others.
func TestUnnamedStatement(t *testing.T) {
	s, a := newStage(t, "")
	b := s.join()
	a.send(join(parse("", "select 'a'"), describe(""), sync))
	s.asked(join(parse("", "select 'a'"), describe(""), sync))
	s.answers(reply('1', 't', 'n'), idle)
	a.gets(reply('1', 't', 'n'), idle)

	// Somebody else's is not met by who has none ...
	b.send(join(bind(""), execute, sync))
	s.asked(join(bind("PGBOUNCER_0"), execute, sync))
	none := func(what string) []byte {
		return wire.AppendError(nil, wire.Fields{Severity: "ERROR", Code: "26000", Message: what + " does not exist"})
	}
	s.answers(none(`prepared statement "PGBOUNCER_0"`), idle)
	b.gets(none("unnamed prepared statement"), idle)

	// ... and one's own is told again where it is another's.
	b.send(join(parse("", "select 'b'"), bind(""), execute, sync))
	s.asked(join(parse("", "select 'b'"), bind(""), execute, sync))
	s.answers(reply('1', '2'), done, idle)
	b.gets(reply('1', '2'), done, idle)
	a.send(join(bind(""), execute, sync))
	s.asked(join(parse("", "select 'a'"), bind(""), execute, sync))
	s.answers(reply('1', '2'), done, idle)
	a.gets(reply('2'), done, idle)

	// Once it was used it is not kept, and a simple query takes it away.
	gone := func() {
		a.send(join(closing(""), bind(""), sync))
		s.asked(join(bind("PGBOUNCER_0"), sync))
		s.answers(none(`prepared statement "PGBOUNCER_0"`), idle)
		a.gets(reply('3'), none("unnamed prepared statement"), idle)
	}
	gone()
	a.send(join(parse("", "select 'a'"), sync))
	s.answers(reply('1'), idle)
	a.send(request('Q', "select 1"))
	s.answers(done, idle)
	s.server.out, a.out = nil, nil
	gone()
}

// TestUnnamedStatementOnce: what a batch has left prepared is told to one server
// more at most, wherever its Bind comes first. It is not kept for a second one.
func TestUnnamedStatementOnce(t *testing.T) {
	for name, elsewhere := range map[string]bool{"here": false, "elsewhere": true} {
		t.Run(name, func(t *testing.T) {
			s, a := newStage(t, "")
			b := s.join()
			others := func() {
				b.send(join(parse("", "select 'b'"), bind(""), execute, sync))
				s.answers(reply('1', '2'), done, idle)
				s.server.out = nil
			}
			a.send(join(parse("", "select 'a'"), sync))
			s.answers(reply('1'), idle)
			if s.server.out = nil; elsewhere {
				others()
			}
			a.send(join(bind(""), execute, sync))
			if elsewhere {
				s.asked(join(parse("", "select 'a'"), bind(""), execute, sync))
				s.answers(reply('1', '2'), done, idle)
			} else {
				s.asked(join(bind(""), execute, sync))
				s.answers(reply('2'), done, idle)
			}
			others()
			a.send(join(bind(""), execute, sync))
			s.asked(join(bind("PGBOUNCER_0"), execute, sync))
		})
	}
}

// TestUnnamedStatementOutlivesErrors: an error costs the unnamed statement only if
// that was to be replaced in the same batch.
func TestUnnamedStatementOutlivesErrors(t *testing.T) {
	for name, test := range map[string]struct {
		asks []byte
		kept bool
	}{
		"Bind of another":      {join(bind("never"), sync), true},
		"Parse of a name":      {join(parse("mine", "nonsense"), sync), true},
		"Parse":                {join(parse("", "nonsense"), sync), false},
		"Parse that is passed": {join(bind("never"), parse("", "select 2"), sync), false},
	} {
		t.Run(name, func(t *testing.T) {
			s, a := newStage(t, "")
			b := s.join()
			a.send(join(parse("", "select 'a'"), sync))
			s.answers(reply('1'), idle)
			a.send(test.asks)
			s.answers(failed, idle)
			b.send(join(parse("", "select 'b'"), bind(""), execute, sync))
			s.answers(reply('1', '2'), done, idle)
			s.server.out = nil
			a.send(join(bind(""), execute, sync))
			if test.kept {
				s.asked(join(parse("", "select 'a'"), bind(""), execute, sync))
			} else {
				s.asked(join(bind("PGBOUNCER_0"), execute, sync))
			}
		})
	}
}

// TestUnnamedStatementOfBefore: a server that has what its client prepared there
// once does not pass it off as what the client has prepared elsewhere since.
func TestUnnamedStatementOfBefore(t *testing.T) {
	s, a := newStage(t, "default_pool_size = 2")
	b := s.join()
	first := s.server
	a.send(join(parse("", "select 'old'"), sync))
	s.answers(reply('1'), idle)
	b.send(join(parse("named", "select 1"), sync))
	n := len(s.loop.conns)
	a.send(join(parse("", "select 'new'"), sync))
	s.serve()
	s.server = s.loop.conns[n]
	s.asked(join(parse("", "select 'new'"), sync))
	s.answers(reply('1'), idle)
	s.server = first
	s.answers(reply('1'), idle)
	s.server.out, a.out = nil, nil
	a.send(join(bind(""), execute, sync))
	s.asked(join(parse("", "select 'new'"), bind(""), execute, sync))
	s.answers(reply('1', '2'), done, idle)
	a.gets(reply('2'), done, idle)
}

func TestStatementsOfAClientAreBounded(t *testing.T) {
	s, a := newStage(t, "max_client_prepared_statements = 1")
	a.send(join(parse("first", "select 1"), sync))
	s.answers(reply('1'), idle)
	a.out = nil
	a.send(join(parse("first", "select 2"), sync)) // which is no more
	s.answers(failed, idle)
	a.gets(failed, idle)
	a.send(parse("second", "select 2"))
	a.wantError("too many prepared statements (max_client_prepared_statements)")
}

// Drivers that parse and bind in two batches insert many rows at a time.
func TestUnnamedStatementThatIsLong(t *testing.T) {
	s, a := newStage(t, "")
	long := parse("", "insert into t values "+strings.Repeat("($1)", 100_000))
	a.send(join(long, sync))
	s.answers(reply('1'), idle)
	arrives := s.another()
	a.out = nil
	a.send(join(bind(""), execute, sync))
	arrives()
	s.asked(join(long, bind(""), execute, sync))
	s.answers(reply('1', '2'), done, idle)
	a.gets(reply('2'), done, idle)
}

// What pgweir itself tells a server takes the unnamed statement away, too.
func TestUnnamedStatementAfterSets(t *testing.T) {
	s, a := newStage(t, "")
	b := s.connect().startup("user", "alice", "database", "app", "application_name", "other")
	b.wantWelcome()
	a.send(join(parse("", "select 'a'"), sync))
	s.answers(reply('1'), idle)
	set := func(name string) {
		s.asked(wire.AppendQuery(nil, "SET application_name='"+name+"';"))
		s.answers(wire.AppendCommandComplete(nil, "SET"), wire.AppendParameterStatus(nil, "application_name", name), idle)
	}
	s.server.out = nil
	b.send(join(parse("named", "select 1"), sync))
	set("other")
	s.answers(reply('1'), idle)
	s.server.out, a.out = nil, nil
	a.send(join(bind(""), execute, sync))
	set("")
	s.asked(join(parse("", "select 'a'"), bind(""), execute, sync))
	s.answers(reply('1', '2'), done, idle)
	a.gets(reply('2'), done, idle)
}
