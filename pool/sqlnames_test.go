package pool_test

import (
	"strings"
	"testing"

	"github.com/pgweir/pgweir/wire"
)

func ask(text string) []byte { return wire.AppendQuery(nil, text) }

func tag(text string) []byte { return wire.AppendCommandComplete(nil, text) }

// sqlError is an ErrorResponse with a position.
func sqlError(code, text, position string) []byte {
	return request('E', "SERROR", "C"+code, "M"+text, "P"+position, byte(0))
}

// another replaces the stage's server by a new one, which comes when it is
// needed.
func (s *stage) another() (arrives func()) {
	s.server.handler.Closed(nil)
	s.settle()
	n := len(s.loop.conns)
	return func() {
		s.serve()
		s.server = s.loop.conns[n]
	}
}

func TestSQLStatementsAreTheirClients(t *testing.T) {
	s, a := newStage(t, "")
	b := s.join()
	exchange := func(c *client, sends, asked string, answers ...[]byte) {
		t.Helper()
		c.send(ask(sends))
		s.asked(ask(asked))
		s.answers(append(answers, idle)...)
		c.gets(append(answers, idle)...)
	}
	exchange(a, "prepare x as select 1", `prepare "PGBOUNCER_1" as select 1`, tag("PREPARE"))
	exchange(b, "prepare x as select 2", `prepare "PGBOUNCER_2" as select 2`, tag("PREPARE"))
	exchange(a, "execute x", `execute "PGBOUNCER_1"`, done)
	exchange(b, "execute X -- mine", `execute "PGBOUNCER_2" -- mine`, done)
	exchange(b, "deallocate x", `deallocate "PGBOUNCER_2"`, tag("DEALLOCATE"))

	// Nobody finds another's.
	b.send(ask("execute x"))
	s.asked(ask(`execute "PGBOUNCER_0 x"`))
	s.answers(sqlError("26000", `prepared statement "PGBOUNCER_0 x" does not exist`, "9"), idle)
	b.gets(sqlError("26000", `prepared statement "x" does not exist`, "9"), idle)

	// One and the same is shared, and yet prepared when it is asked for.
	b.send(ask("prepare mine as select 1"))
	s.asked(ask(`DEALLOCATE "PGBOUNCER_1";prepare "PGBOUNCER_1" as select 1`))
	s.answers(tag("DEALLOCATE"), tag("PREPARE"), idle)
	b.gets(tag("PREPARE"), idle)

	// Another server is told what it lacks.
	arrives := s.another()
	a.send(ask("select 0; execute x"))
	arrives()
	s.asked(ask(`select 0; PREPARE "PGBOUNCER_1" as select 1;execute "PGBOUNCER_1"`))
	s.answers(done, tag("PREPARE"), done, idle)
	a.gets(done, done, idle)
	exchange(b, "execute mine", `execute "PGBOUNCER_1"`, done)

	// If that fails, that is the client's error.
	arrives = s.another()
	a.send(ask("execute x"))
	arrives()
	s.asked(ask(`PREPARE "PGBOUNCER_1" as select 1;execute "PGBOUNCER_1"`))
	s.answers(sqlError("42P01", "no table", "25"), idle)
	a.gets(sqlError("42P01", "no table", "1"), idle)
	b.send(ask("deallocate mine"))
	s.asked(ask(`PREPARE "PGBOUNCER_1" AS SELECT;deallocate "PGBOUNCER_1"`))
	s.answers(tag("PREPARE"), tag("DEALLOCATE"), idle)
	b.gets(tag("DEALLOCATE"), idle)
	a.send(ask("deallocate all"))
	s.asked(ask("deallocate all"))
	s.answers(tag("DEALLOCATE ALL"), idle)
	a.gets(tag("DEALLOCATE ALL"), idle)
}

func TestSQLStatementsAndTheProtocols(t *testing.T) {
	s, a := newStage(t, "")
	a.send(ask("prepare x as select 1"))
	s.answers(tag("PREPARE"), idle)
	a.out, s.server.out = nil, nil
	a.send(join(bind("x"), execute, sync))
	s.asked(join(bind(one), execute, sync))
	s.answers(reply('2'), done, idle)
	a.gets(reply('2'), done, idle)

	// Within a batch a server is told what it lacks so that nothing of the
	// client's is lost.
	arrives := s.another()
	a.send(join(bind("x"), execute, sync))
	arrives()
	const own = "PGBOUNCER_PREPARE"
	telling := join(closing(own), request('C', byte('P'), own), parse(own, `PREPARE "PGBOUNCER_1" as select 1`),
		request('B', own, own, []byte{0, 0, 0, 0, 0, 0}), request('E', own, []byte{0, 0, 0, 0}))
	s.asked(join(telling, bind(one), execute, sync))
	s.answers(reply('3', '3', '1', '2'), tag("PREPARE"), reply('2'), done, idle)
	a.gets(reply('2'), done, idle)

	// A statement of the protocol can be executed by SQL, where the types have
	// names.
	a.send(join(request('P', "y", "select $1", []byte{0, 1, 0, 0, 0, 23}), request('P', "z", "select $1", []byte{0, 1, 0, 0, 0x80, 0}), sync))
	s.answers(reply('1', '1'), idle)
	arrives = s.another()
	a.out = nil
	a.send(ask("execute y(1)"))
	arrives()
	s.asked(ask("PREPARE \"PGBOUNCER_2\" (pg_catalog.int4) AS select $1\n;execute \"PGBOUNCER_2\"(1)"))
	s.answers(tag("PREPARE"), done, idle)
	a.gets(done, idle)
	a.send(ask("execute z(1)"))
	s.asked(ask(`execute "PGBOUNCER_0 z"(1)`))
	s.answers(idle)
}

func TestSQLStatementsInTheExtendedProtocol(t *testing.T) {
	s, a := newStage(t, "")
	a.send(join(parse("", "prepare x as select 1"), bind(""), execute, sync))
	s.asked(join(parse("", `prepare "PGBOUNCER_1" as select 1`), bind(""), execute, sync))
	s.answers(reply('1', '2'), tag("PREPARE"), idle)
	a.gets(reply('1', '2'), tag("PREPARE"), idle)

	// One with a name follows what the name it uses means now.
	a.send(join(parse("named", "execute x"), bind("named"), execute, sync))
	s.asked(join(parse(two, `execute "PGBOUNCER_1"`), closing(two), parse(two, `execute "PGBOUNCER_1"`), bind(two), execute, sync))
	s.answers(reply('1', '3', '1', '2'), done, idle)
	a.gets(reply('1', '2'), done, idle)
	a.send(join(parse("", "deallocate x"), bind(""), execute, parse("", "prepare x as select 2"), bind(""), execute, sync))
	s.asked(join(parse("", `deallocate "PGBOUNCER_1"`), bind(""), execute, parse("", `prepare "PGBOUNCER_3" as select 2`), bind(""), execute, sync))
	s.answers(reply('1', '2'), tag("DEALLOCATE"), reply('1', '2'), tag("PREPARE"), idle)
	a.out = nil
	a.send(join(bind("named"), execute, sync))
	s.asked(join(closing(two), parse(two, `execute "PGBOUNCER_3"`), bind(two), execute, sync))
	s.answers(reply('3', '1', '2'), done, idle)
	a.gets(reply('2'), done, idle)

	// What a failed batch would have done is undone.
	a.send(join(parse("", "deallocate x"), bind(""), execute, sync))
	s.answers(reply('1', '2'), failed, idle)
	s.server.out, a.out = nil, nil
	a.send(join(parse("", "prepare y as select 3"), bind(""), execute, sync))
	s.answers(failed, idle)
	s.server.out, a.out = nil, nil
	a.send(ask("execute x"))
	s.asked(ask(`execute "PGBOUNCER_3"`))
	s.answers(done, idle)
	a.send(ask("execute y"))
	s.asked(ask(`execute "PGBOUNCER_0 y"`))
	s.answers(failed, idle)
}

// While it is not known what a Query has done to names, nothing else is read.
func TestSQLNamesAreWaitedFor(t *testing.T) {
	s, a := newStage(t, "")
	a.send(join(ask("prepare x as nonsense"), ask("prepare x as select 1"), ask("execute x")))
	s.asked(ask(`prepare "PGBOUNCER_1" as nonsense`))
	s.answers(failed, idle)
	s.asked(ask(`prepare "PGBOUNCER_2" as select 1`))
	s.answers(tag("PREPARE"), idle)
	s.asked(ask(`execute "PGBOUNCER_2"`))
	s.answers(done, idle)
	a.gets(failed, idle, tag("PREPARE"), idle, done, idle)

	// The data of a COPY is not kept from it.
	a.send(join(ask("copy t from stdin; prepare y as select 1"), request('d', []byte("line\n")), request('c')))
	s.asked(join(ask(`copy t from stdin; DEALLOCATE "PGBOUNCER_2";prepare "PGBOUNCER_2" as select 1`), request('d', []byte("line\n")), request('c')))
	s.answers(request('G', []byte{0, 0, 0}), tag("COPY 1"), tag("DEALLOCATE"), tag("PREPARE"), idle)
}

// What pgweir did not see being prepared is gone before anybody else comes.
func TestStraySQLStatements(t *testing.T) {
	s, a := newStage(t, "")
	long := "prepare x as select 1 -- " + strings.Repeat("x", 1<<16)
	a.send(ask("begin"))
	s.answers(tag("BEGIN"), wire.AppendReadyForQuery(nil, wire.TxOpen))
	s.server.out = nil
	a.send(ask(long))
	s.asked(ask(long))
	s.answers(tag("PREPARE"), wire.AppendReadyForQuery(nil, wire.TxOpen))
	a.send(ask("execute x")) // it may be that
	s.asked(ask(`execute "x"`))
	s.answers(done, wire.AppendReadyForQuery(nil, wire.TxOpen))
	a.send(ask("commit"))
	s.asked(ask("commit"))
	s.answers(tag("COMMIT"), idle)
	s.asked(ask("DEALLOCATE ALL"))
	s.answers(tag("DEALLOCATE ALL"), idle)
	a.out = nil
	a.send(ask("execute x"))
	s.asked(ask(`execute "PGBOUNCER_0 x"`))
	s.answers(failed, idle)
}

func TestSQLNamesAreBounded(t *testing.T) {
	s, a := newStage(t, "max_client_prepared_statements = 2")
	a.send(ask("prepare x as select 1"))
	s.answers(tag("PREPARE"), idle)
	a.out = nil
	a.send(ask("prepare y as select 1; prepare z as select 2"))
	a.wantError("too many prepared statements (max_client_prepared_statements)")
}

// A name for the statement that prepares counts, too.
func TestSQLNamesOfStatementsAreBounded(t *testing.T) {
	_, a := newStage(t, "max_client_prepared_statements = 1")
	a.send(join(parse("p", "prepare x as select 1"), bind("p"), execute, sync, ask("select 1")))
	a.wantError("too many prepared statements (max_client_prepared_statements)")
}

// Statements of connect_query are there for all.
func TestConnectQueryPrepares(t *testing.T) {
	w := newWorld(t, "auth_type = trust\npool_mode = transaction", "app = host=db connect_query='prepare x as select 1'")
	a := w.connect().startup("user", "alice", "database", "app")
	n := len(w.loop.conns)
	w.serve()
	s := &stage{w, w.loop.conns[n]}
	s.asked(ask("prepare x as select 1"))
	s.answers(tag("PREPARE"), idle)
	a.wantWelcome()
	a.send(ask("execute x"))
	s.asked(ask(`execute "x"`))
	s.answers(done, idle)
	a.gets(done, idle)
}

// An error that is too long to be seen whole reaches the client as it is.
func TestLongErrorOfSQL(t *testing.T) {
	s, a := newStage(t, "")
	a.send(ask("prepare x as select 1"))
	s.answers(tag("PREPARE"), idle)
	a.send(ask("execute x"))
	a.out = nil
	long := request('E', "SERROR", "C22000", "M"+strings.Repeat("long ", 50_000), "P9", byte(0))
	s.server.in = append(s.server.in, long[:70_000]...)
	s.settle()
	s.answers(long[70_000:], idle)
	a.gets(long, idle)
}

func TestSQLStatementsAreBounded(t *testing.T) {
	s, a := newStage(t, "max_prepared_statements = 2")
	for _, x := range []string{"a", "b"} {
		a.send(ask("prepare " + x + " as select 1 " + x))
		s.answers(tag("PREPARE"), idle)
	}
	a.send(ask("execute a"))
	s.answers(done, idle)
	s.server.out, a.out = nil, nil
	a.send(ask("prepare c as select 1 c"))
	s.asked(join(closing(two), ask(`prepare "PGBOUNCER_3" as select 1 c`)))
	s.answers(reply('3'), tag("PREPARE"), idle)
	a.gets(tag("PREPARE"), idle)
	a.send(ask("execute a; execute b"))
	s.asked(join(closing("PGBOUNCER_3"), ask(`execute "PGBOUNCER_1"; PREPARE "PGBOUNCER_2" as select 1 b;execute "PGBOUNCER_2"`)))
	s.answers(reply('3'), done, tag("PREPARE"), done, idle)
	a.gets(done, done, idle)
	// What the text itself still needs is not closed for what it prepares, though
	// it throws all away in between.
	s.server.out, a.out = nil, nil
	a.send(ask("deallocate a; deallocate all; prepare d as select 1 d; prepare e as select 1 e"))
	s.asked(join(closing(two), ask(`deallocate "PGBOUNCER_1"; deallocate all; prepare "PGBOUNCER_4" as select 1 d; prepare "PGBOUNCER_5" as select 1 e`)))
	s.answers(reply('3'), tag("DEALLOCATE"), tag("DEALLOCATE ALL"), tag("PREPARE"), tag("PREPARE"), idle)
	a.gets(tag("DEALLOCATE"), tag("DEALLOCATE ALL"), tag("PREPARE"), tag("PREPARE"), idle)
}
