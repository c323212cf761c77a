package pool_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/pgweir/pgweir/wire"
)

// stale is what Postgres says when the result of a statement has changed.
var stale = request('E', "SERROR", "C0A000", "Mcached plan must not change result type", "RRevalidateCachedQuery", byte(0))

// describePortal is a Describe of the unnamed portal.
var describePortal = request('D', byte('P'), "")

// stalePlan makes a stage whose client has the statement mine, which is stale.
func stalePlan(t *testing.T) (*stage, *client) {
	s, a := newStage(t, "")
	a.send(join(parse("mine", "select 1"), sync))
	s.answers(reply('1'), idle)
	s.server.out, a.out = nil, nil
	return s, a
}

func TestStaleBatchIsAskedAgain(t *testing.T) {
	for name, batch := range map[string]struct{ asks, sent, answer []byte }{
		"bind":     {join(bind("mine"), describePortal, execute, sync), join(bind(one), describePortal, execute, sync), join(reply('2', 'n'), done, idle)},
		"describe": {join(describe("mine"), sync), join(describe(one), sync), join(reply('t', 'n'), idle)},
		"both":     {join(describe("mine"), bind("mine"), execute, sync), join(describe(one), bind(one), execute, sync), join(reply('t', 'n', '2'), done, idle)},
	} {
		t.Run(name, func(t *testing.T) {
			s, a := stalePlan(t)
			a.send(batch.asks)
			s.asked(batch.sent)
			s.answers(stale)
			next := join(bind("mine"), execute, sync)
			a.send(next) // it must wait for its turn
			s.asked(nil)
			s.answers(idle)
			again := bytes.ReplaceAll(batch.sent, []byte(one), []byte(two))
			s.asked(join(parse(two, "select 1"), again))
			a.gets()
			s.server.out = nil
			s.answers(reply('1'), batch.answer)
			a.gets(batch.answer)
			s.asked(join(bind(two), execute, sync))
			s.answers(reply('2'), done, idle)
			a.gets(reply('2'), done, idle)

			// A second time in a row it is the client's.
			s.server.out = nil
			a.send(batch.asks)
			s.answers(stale, idle)
			s.server.out = nil
			s.answers(reply('1'), stale, idle)
			a.gets(stale, idle)
		})
	}
}

func TestStaleBatchIsNotAskedAgain(t *testing.T) {
	open := wire.AppendReadyForQuery(nil, wire.TxOpen)
	for name, test := range map[string]struct{ asks, answers, gets []byte }{
		"nobody says what the rows look like": {join(bind("mine"), execute, sync), join(stale, idle), join(stale, idle)},
		"another portal is described": {
			join(bind("mine"), request('D', byte('P'), "other"), execute, sync), join(stale, idle), join(stale, idle),
		},
		"something was answered": {
			join(bind("mine"), describePortal, execute, bind("mine"), describePortal, execute, sync),
			join(reply('2', 'n'), done, stale, idle), join(reply('2', 'n'), done, stale, idle),
		},
		"more is on its way": {
			join(bind("mine"), describePortal, execute, sync, sync), join(stale, idle, idle), join(stale, idle, idle),
		},
		"a transaction is open": {
			join(ask("begin"), bind("mine"), describePortal, execute, sync),
			join(tag("BEGIN"), open, stale, wire.AppendReadyForQuery(nil, wire.TxFailed)),
			join(tag("BEGIN"), open, stale, wire.AppendReadyForQuery(nil, wire.TxFailed)),
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, a := stalePlan(t)
			a.send(test.asks)
			s.server.out = nil
			s.answers(test.answers)
			a.gets(test.gets)
			s.asked(nil)

			// Who never asks goes on being told, also where the server lacks the
			// statement; who asks gets another.
			a.send(join(bind("mine"), sync))
			s.asked(join(bind(one), sync))
			s.answers(stale, idle)
			if name == "a transaction is open" {
				return
			}
			arrives := s.another()
			a.out = nil
			a.send(join(bind("mine"), sync))
			arrives()
			if name == "something was answered" { // the client was told NoData
				s.asked(join(parse(one, "select 1"), describe(one), flush))
				s.answers(reply('1', 't'), rows("a"))
			}
			s.asked(join(bind("PGBOUNCER_0"), sync))
			s.answers(sqlError("26000", `prepared statement "PGBOUNCER_0" does not exist`, "1"), idle)
			if got := types(a.peek()); got != "EZ" || !strings.Contains(a.peek()[0].body, "C0A000\x00Mcached plan must not change result type\x00") {
				t.Errorf("the client is told %q", a.peek())
			}
			a.read()
			a.send(join(bind("mine"), describePortal, sync))
			s.asked(join(parse(two, "select 1"), bind(two), describePortal, sync))
			s.answers(reply('1', '2', 'n'), idle)
			a.gets(reply('2', 'n'), idle)
			a.send(join(bind("mine"), sync))
			s.asked(join(bind(two), sync))
		})
	}
}

// What a server says of itself right behind the error, as after a change of its
// configuration, is told, and the batch is asked again all the same.
func TestStaleBatchBehindARemark(t *testing.T) {
	for name, remark := range map[string][]byte{
		"parameter":    wire.AppendParameterStatus(nil, "TimeZone", "Asia/Kolkata"),
		"notice":       wire.AppendNotice(nil, wire.Fields{Severity: "WARNING", Code: "01000", Message: "by the way"}),
		"notification": request('A', []byte{0, 0, 0, 1}, "channel", "payload"),
	} {
		t.Run(name, func(t *testing.T) {
			s, a := stalePlan(t)
			a.send(join(bind("mine"), describePortal, execute, sync))
			s.server.out = nil
			s.answers(stale, remark, idle)
			a.gets(remark)
			s.asked(join(parse(two, "select 1"), bind(two), describePortal, execute, sync))
			s.answers(reply('1', '2', 'n'), done, idle)
			a.gets(reply('2', 'n'), done, idle)
		})
	}
}

// An error of another kind forgets what was kept.
func TestOtherErrorsAreNotAskedAgain(t *testing.T) {
	s, a := stalePlan(t)
	a.send(join(bind("mine"), describePortal, execute, sync))
	s.answers(failed, idle)
	a.gets(failed, idle)
	s.server.out = nil
	a.send(ask("select 1"))
	s.answers(stale, idle)
	a.gets(stale, idle)
	s.asked(ask("select 1"))
}

func TestStaleExecuteIsAskedAgain(t *testing.T) {
	s, a := newStage(t, "")
	a.send(ask("prepare x as select 1"))
	s.answers(tag("PREPARE"), idle)
	s.server.out, a.out = nil, nil
	a.send(ask("execute x;"))
	s.asked(ask(`execute "PGBOUNCER_1";`))
	s.answers(stale, idle)
	s.asked(ask(`PREPARE "PGBOUNCER_2" as select 1;execute "PGBOUNCER_2";`))
	s.answers(tag("PREPARE"), done, idle)
	a.gets(done, idle)

	// Not if there is more in the Query; but the next use works.
	a.send(ask("select f(); execute x"))
	s.answers(done, stale, idle)
	a.gets(done, stale, idle)
	s.server.out = nil
	a.send(ask("execute x"))
	s.asked(ask(`PREPARE "PGBOUNCER_3" as select 1;execute "PGBOUNCER_3"`))
	s.answers(tag("PREPARE"), done, idle)
	a.gets(done, idle)
}
