package pool_test

import (
	"slices"
	"testing"

	"github.com/pgweir/pgweir/wire"
)

// rows is a RowDescription of columns with these names.
func rows(names ...string) []byte {
	fields := []any{[]byte{0, byte(len(names))}}
	for i, name := range names {
		fields = append(fields, name, []byte{0, 0, 0, byte(i), 0, 1, 0, 0, 0, 23, 0, 4, 255, 255, 255, 255, 0, 0})
	}
	return request('T', fields...)
}

// stale is the error of a client that reads rows of another shape than it was
// told.
func (c *client) wantStale() {
	c.w.t.Helper()
	if all := c.read(); len(all) == 0 || all[0].typ != 'E' || wire.ParseFields([]byte(all[0].body)).Code != "0A000" {
		c.w.t.Errorf("the client is told %q", all)
	}
}

// A client that was told what the rows look like, and does not ask again, must
// not get others from a server that has not told.
func TestShapeIsAskedFor(t *testing.T) {
	blindly := join(bind("mine"), execute, sync)
	for name, first := range map[string]struct{ asks, answer []byte }{
		"statement": {join(parse("mine", "select 1"), describe("mine"), sync), join(reply('1', 't'), rows("a"), idle)},
		"portal":    {join(parse("mine", "select 1"), bind("mine"), describePortal, sync), join(reply('1', '2'), rows("a"), idle)},
		"nothing":   {join(parse("mine", "select 1"), describe("mine"), sync), join(reply('1', 't', 'n'), idle)},
	} {
		t.Run(name, func(t *testing.T) {
			s, a := newStage(t, "")
			for piece := range slices.Chunk(first.asks, 1) { // in the worst of ways
				a.send(piece)
			}
			s.answers(first.answer)
			a.gets(first.answer)
			s.server.out = nil
			a.send(blindly) // the server is known
			s.asked(join(bind(one), execute, sync))
			s.answers(reply('2'), done, idle)
			a.out = nil

			// One that has not told is asked, once.
			told := rows("a")
			if name == "nothing" {
				told = reply('n')
			}
			arrives := s.another()
			a.send(blindly)
			arrives()
			s.asked(join(parse(one, "select 1"), describe(one), flush))
			s.answers(reply('1'))
			s.asked(nil)
			s.answers(reply('t'), told)
			s.asked(join(bind(one), execute, sync))
			s.answers(reply('2'), done, idle)
			a.gets(reply('2'), done, idle)
			a.send(blindly)
			s.asked(join(bind(one), execute, sync))
			s.answers(reply('2'), done, idle)
			a.out = nil

			// If the rows are others the statement is not for this client.
			arrives = s.another()
			a.send(blindly)
			arrives()
			s.asked(join(parse(one, "select 1"), describe(one), flush))
			s.answers(reply('1', 't'), rows("a", "b"))
			s.asked(join(bind("PGBOUNCER_0"), execute, sync))
			s.answers(sqlError("26000", `prepared statement "PGBOUNCER_0" does not exist`, "1"), idle)
			a.wantStale()

			// Who prepares it anew, or asks with each use, gets another.
			b := s.join()
			b.send(join(parse("yours", "select 1"), describe("yours"), sync))
			s.asked(join(parse(two, "select 1"), describe(two), sync))
			s.answers(reply('1', 't'), rows("a", "b"), idle)
			b.gets(reply('1', 't'), rows("a", "b"), idle)
			b.send(join(bind("yours"), execute, sync))
			s.asked(join(bind(two), execute, sync))
			s.answers(reply('2'), done, idle)
			a.send(join(bind("mine"), describePortal, execute, sync))
			s.asked(join(bind(two), describePortal, execute, sync))
		})
	}
}

// A client that is told another shape than others were has another statement
// from then on.
func TestShapeThatOthersWereNotTold(t *testing.T) {
	s, a := newStage(t, "")
	prepares := join(parse("mine", "select 1"), describe("mine"), sync)
	a.send(prepares)
	s.answers(reply('1', 't'), rows("a"), idle)
	b := s.join()
	arrives := s.another()
	b.send(prepares)
	arrives()
	s.asked(join(parse(one, "select 1"), describe(one), sync))
	s.answers(reply('1', 't'), rows("b"), idle)
	b.gets(reply('1', 't'), rows("b"), idle)
	b.send(join(bind("mine"), execute, sync))
	s.asked(join(parse(two, "select 1"), describe(two), flush))
	s.answers(reply('1', 't'), rows("b"))
	s.asked(join(bind(two), execute, sync))
	s.answers(reply('2'), done, idle)
	b.gets(reply('2'), done, idle)
	a.out = nil
	a.send(join(bind("mine"), execute, sync))
	s.asked(join(bind("PGBOUNCER_0"), execute, sync))
	s.answers(sqlError("26000", `prepared statement "PGBOUNCER_0" does not exist`, "1"), idle)
	a.wantStale()
}

// Which table a column is of, and in which format it comes, is no matter.
func TestShapeOfAnotherTable(t *testing.T) {
	s, a := newStage(t, "")
	a.send(join(parse("mine", "select 1"), bind("mine"), describePortal, sync))
	told := rows("a")
	told[len(told)-1] = 1
	s.answers(reply('1', '2'), told, idle)
	arrives := s.another()
	a.send(join(bind("mine"), sync))
	arrives()
	s.server.out = nil
	told = rows("a")
	told[wire.HeaderLen+2+len("a")+1+3] = 77
	s.answers(reply('1', 't'), told)
	s.asked(join(bind(one), sync))
}

// Only a Describe of the portal tells of what was bound to it.
func TestShapeOfThePortal(t *testing.T) {
	s, a := newStage(t, "")
	other := join(parse("", "select 2"), describe(""), request('D', byte('P'), "other"), describe("nobody"), sync)
	a.send(join(parse("mine", "select 1"), bind("mine"), execute, other))
	s.answers(reply('1', '2'), done, reply('1', 't'), rows("b"), failed, idle)
	arrives := s.another()
	a.send(join(bind("mine"), execute, sync))
	arrives()
	s.server.out = s.server.out[:0:0]
	s.answers(reply('1', '2'), done, idle) // nothing was told of it, so nothing is asked
	a.out = nil
	a.send(join(bind("mine"), execute, sync))
	s.asked(join(bind(one), execute, sync))
}

// An error before the answer is the client's, and nothing more is asked.
func TestShapeThatIsNotTold(t *testing.T) {
	s, a := newStage(t, "")
	a.send(join(parse("mine", "select 1"), describe("mine"), sync))
	s.answers(reply('1', 't'), rows("a"), idle)
	arrives := s.another()
	a.out = nil
	a.send(join(bind("mine"), execute, sync))
	arrives()
	s.asked(join(parse(one, "select 1"), describe(one), flush))
	s.answers(failed)
	s.asked(join(bind("mine"), execute, sync)) // which it ignores
	s.answers(idle)
	a.gets(failed, idle)
}

// A text that does nothing but execute a statement has that one's result:
// what a client was told of either holds for both.
func TestShapeOfWhatIsExecuted(t *testing.T) {
	for name, first := range map[string]struct{ asks, answer []byte }{
		"the text":      {join(describe("e"), sync), join(reply('3', '1', 't'), rows("a"), idle)},
		"its portal":    {join(bind("e"), describePortal, sync), join(reply('3', '1', '2'), rows("a"), idle)},
		"the statement": {join(describe("mine"), sync), join(reply('t'), rows("a"), idle)},
	} {
		t.Run(name, func(t *testing.T) {
			s, a := newStage(t, "")
			a.send(join(parse("mine", "select 1"), parse("e", "execute mine"), sync))
			s.answers(reply('1', '1'), idle)
			a.send(first.asks)
			s.answers(first.answer)
			s.server.out = nil
			blindly := join(bind("e"), execute, sync)
			a.send(blindly) // the server is known
			s.asked(join(closing(two), parse(two, `execute "PGBOUNCER_1"`), bind(two), execute, sync))
			s.answers(reply('3', '1', '2'), done, idle)
			a.out = nil

			arrives := s.another()
			a.send(blindly)
			arrives()
			s.asked(join(parse(one, "select 1"), describe(one), flush))
			s.answers(reply('1', 't'), rows("a"))
			s.asked(join(parse(two, `execute "PGBOUNCER_1"`), bind(two), execute, sync))
			s.answers(reply('1', '2'), done, idle)
			a.gets(reply('2'), done, idle)

			// If the rows are others it is not for this client.
			arrives = s.another()
			a.send(blindly)
			arrives()
			s.asked(join(parse(one, "select 1"), describe(one), flush))
			s.answers(reply('1', 't'), rows("a", "b"))
			s.asked(join(bind("PGBOUNCER_0"), execute, sync))
			s.answers(sqlError("26000", `prepared statement "PGBOUNCER_0" does not exist`, "1"), idle)
			a.wantStale()
			a.out = nil

			// Nor is it where that was found by another, but who asks is told.
			arrives = s.another()
			a.send(join(bind("e"), describePortal, execute, sync))
			arrives()
			const three = "PGBOUNCER_3"
			s.asked(join(parse(three, "select 1"), parse(two, `execute "PGBOUNCER_3"`), bind(two), describePortal, execute, sync))
			s.answers(reply('1', '1', '2'), rows("a", "b"), done, idle)
			a.gets(reply('2'), rows("a", "b"), done, idle)
			a.send(blindly)
			s.asked(join(closing(two), parse(two, `execute "PGBOUNCER_3"`), bind(two), execute, sync))
		})
	}
}

// What explains a statement has another result than that.
func TestShapeOfWhatIsExplained(t *testing.T) {
	s, a := newStage(t, "")
	a.send(join(parse("mine", "select 1"), parse("e", "explain execute mine"), describe("e"), sync))
	s.answers(reply('1', '1', '3', '1', 't'), rows("QUERY PLAN"), idle)
	a.send(join(describe("mine"), sync))
	s.answers(reply('t'), rows("a"), idle)
	arrives := s.another()
	s.server.out, a.out = nil, nil
	a.send(join(bind("e"), execute, sync))
	arrives()
	s.asked(join(parse(one, "select 1"), parse(two, `explain execute "PGBOUNCER_1"`), bind(two), execute, sync))
	s.answers(reply('1', '1', '2'), done, idle)
	a.gets(reply('2'), done, idle)
}

// Where a server may have no more than one statement, what is executed still
// stays as it was when it was asked for.
func TestShapeOfWhatIsExecutedAlone(t *testing.T) {
	s, a := newStage(t, "max_prepared_statements = 1")
	a.send(join(parse("mine", "select 1"), parse("e", "execute mine"), describe("e"), sync))
	s.server.out = nil
	s.answers(reply('1', '1', '3', '1', 't'), rows("a"), idle)
	a.send(join(bind("e"), execute, sync))
	s.asked(join(closing(two), parse(two, `execute "PGBOUNCER_1"`), bind(two), execute, sync))
}
