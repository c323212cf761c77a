package admin

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/wire"
)

const ready = "ReadyForQuery I"

// Commands of the simple protocol, their answers, and what the pools are told.
func TestSimpleQuery(t *testing.T) {
	const (
		help   = "use SHOW HELP;"
		denied = "ERROR 08P01 admin access needed"
	)
	for _, test := range []struct {
		query string
		stats bool  // asked by one of stats_users
		err   error // of the pools
		want  []string
		calls string
	}{
		{query: "RELOAD", want: []string{"CommandComplete RELOAD"}, calls: "reload"},
		{query: "reload;", want: []string{"CommandComplete RELOAD"}, calls: "reload"},
		{
			query: "RELOAD", err: errors.New("pgbouncer.ini:3: unknown parameter: pgbouncer/x"), calls: "reload",
			want: []string{"ERROR F0000 RELOAD failed, see logs for additional details | pgbouncer.ini:3: unknown parameter: pgbouncer/x"},
		},
		{query: "PAUSE", want: []string{"CommandComplete PAUSE"}, calls: "pause"},
		{query: "PAUSE Db", want: []string{"CommandComplete PAUSE"}, calls: "pause Db"},
		{query: `pause "my ""db"""; `, want: []string{"CommandComplete PAUSE"}, calls: `pause my "db"`},
		{query: `KILL ""`, want: []string{"ERROR 08P01 bad arguments | An argument is not empty. Leave it out to mean all."}},
		{query: "PAUSE my-db.x", want: []string{"CommandComplete PAUSE"}, calls: "pause my-db.x"},
		{query: "PAUSE x", err: errors.New("no such database: x"), want: []string{"ERROR 08P01 no such database: x"}, calls: "pause x"},
		{query: "RESUME", want: []string{"CommandComplete RESUME"}, calls: "resume"},
		{query: "KILL db", want: []string{"CommandComplete KILL"}, calls: "kill db"},
		{query: "KILL_CLIENT 9", want: []string{"CommandComplete KILL_CLIENT"}, calls: "kill_client 9"},
		{query: "KILL_CLIENT 0x9", want: []string{"ERROR 08P01 invalid client pointer supplied | KILL_CLIENT takes the column id of SHOW CLIENTS."}},
		{query: "KILL_CLIENT", want: []string{"ERROR 08P01 invalid client pointer supplied | KILL_CLIENT takes the column id of SHOW CLIENTS."}},
		{query: "DISABLE db", want: []string{"CommandComplete DISABLE"}, calls: "disabled db true"},
		{query: "DISABLE", want: []string{"ERROR 08P01 a database is required"}},
		{query: "ENABLE db", want: []string{"CommandComplete ENABLE"}, calls: "disabled db false"},
		{query: "ENABLE", want: []string{"ERROR 08P01 a database is required"}},
		{query: "RECONNECT", want: []string{"CommandComplete RECONNECT"}, calls: "reconnect"},
		{query: "WAIT_CLOSE db", want: []string{"CommandComplete WAIT_CLOSE"}, calls: "wait_close db"},
		{query: "SHUTDOWN WAIT_FOR_SERVERS", want: []string{"CommandComplete SHUTDOWN"}, calls: "shutdown 2"},
		{query: "SHUTDOWN wait_for_clients", want: []string{"CommandComplete SHUTDOWN"}, calls: "shutdown 1"},
		{query: "SHUTDOWN drain", want: []string{"CommandComplete SHUTDOWN"}, calls: "shutdown 3"},
		{query: "SHUTDOWN soon", want: []string{"ERROR 08P01 invalid command 'SHUTDOWN soon', " + help + " | The form is SHUTDOWN [mode]."}},
		{query: "SHUTDOWN WAIT_FOR_CLIENTS", stats: true, want: []string{denied}},

		{query: "SET default_pool_size = 5", want: []string{"CommandComplete SET default_pool_size=5"}, calls: "set default_pool_size 5"},
		{query: "set verbose to '2';", want: []string{"CommandComplete SET verbose=2"}, calls: "set verbose 2"},
		{query: "SET auth_type=scram-sha-256", want: []string{"CommandComplete SET auth_type=scram-sha-256"}, calls: "set auth_type scram-sha-256"},
		{query: "SET auth_query = 'it''s; x'", want: []string{"CommandComplete SET auth_query=it's; x"}, calls: "set auth_query it's; x"},
		{query: "SET query_wait_timeout = -1", want: []string{"CommandComplete SET query_wait_timeout=-1"}, calls: "set query_wait_timeout -1"},
		{query: "SET admin_users = a, b", want: []string{"CommandComplete SET admin_users=a, b"}, calls: "set admin_users a, b"},
		{query: "SET logfile = ''", want: []string{"CommandComplete SET logfile="}, calls: "set logfile"},
		{query: "SET nonsense = 1", err: errors.New("unknown parameter: pgbouncer/nonsense"), want: []string{"ERROR 08P01 SET failed | unknown parameter: pgbouncer/nonsense"}, calls: "set nonsense 1"},
		{
			query: "SET client_tls_key_file = 'k'", err: &Unapplied{errors.New("no certificate")}, calls: "set client_tls_key_file k",
			want: []string{"NOTICE 00000 TLS settings could not be applied, still using old configuration | no certificate", "CommandComplete SET client_tls_key_file=k"},
		},
		{query: "SET verbose = 1", stats: true, want: []string{denied}},
		{query: "SET verbose", want: []string{"ERROR 08P01 invalid command 'SET verbose', " + help + " | The form is SET key = value."}},
		{query: "SET verbose = 1 2", want: []string{"ERROR 08P01 invalid command 'SET verbose = 1 2', " + help + " | The form is SET key = value."}},
		{query: "SET datestyle = 'ISO'", stats: true, want: []string{"NOTICE 00000 SET ignored", "CommandComplete SET"}},
		{query: "SET extra_float_digits = 3", want: []string{"NOTICE 00000 SET ignored", "CommandComplete SET"}},
		{query: "SET SESSION TimeZone TO 'UTC'", want: []string{"NOTICE 00000 SET ignored", "CommandComplete SET"}},
		{query: "SET search_path = a, b", want: []string{"NOTICE 00000 SET ignored", "CommandComplete SET"}},
		{query: "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", want: []string{"NOTICE 00000 SET ignored", "CommandComplete SET"}},

		{query: "SHOW client_encoding", want: []string{"RowDescription client_encoding:25/0", `DataRow "UTF-8"`, "CommandComplete SHOW"}},
		{query: "SHOW TimeZone", want: []string{"RowDescription timezone:25/0", `DataRow "GMT"`, "CommandComplete SHOW"}},
		{query: "SHOW VERSION", stats: true, want: []string{"RowDescription version:25/0", `DataRow "PgBouncer 1.26.1"`, "CommandComplete SHOW"}},
		{query: "select version;", want: []string{"RowDescription version:25/0", `DataRow "PgBouncer 1.26.1"`, "CommandComplete SHOW"}},
		{query: "/* a /* nested */ comment */ show STATE -- here", want: []string{
			"RowDescription key:25/0 value:25/0",
			`DataRow "active" "yes"`, `DataRow "paused" "no"`, `DataRow "suspended" "no"`, "CommandComplete SHOW",
		}},
		{query: "SHOW DNS_HOSTS", want: []string{"RowDescription hostname:25/0 ttl:20/0 addrs:25/0", "CommandComplete SHOW"}},

		{query: "", want: []string{"EmptyQueryResponse"}},
		{query: " ; -- ping\n;", want: []string{"EmptyQueryResponse"}},
		{query: "SELECT 1", want: []string{"RowDescription ?column?:23/0", `DataRow "1"`, "CommandComplete SELECT 1"}},
		{query: "select pg_catalog.version()", want: []string{
			"RowDescription version:25/0",
			`DataRow "PostgreSQL 14.0 (not a server: the console of PgBouncer 1.26.1)"`, "CommandComplete SELECT 1",
		}},
		{query: "SHOW TRANSACTION ISOLATION LEVEL", want: []string{"RowDescription transaction_isolation:25/0", `DataRow "read committed"`, "CommandComplete SHOW"}},
		{query: "RESET ALL; UNLISTEN *", want: []string{
			"NOTICE 00000 RESET ignored", "CommandComplete RESET",
			"NOTICE 00000 UNLISTEN ignored", "CommandComplete UNLISTEN",
		}},
		{query: "SET lock_timeout = 1; RECONNECT; nonsense; RELOAD", want: []string{
			"NOTICE 00000 SET ignored", "CommandComplete SET", "CommandComplete RECONNECT",
			"ERROR 08P01 invalid command 'nonsense', " + help,
		}, calls: "reconnect"},

		{query: "RELOAD now;", want: []string{"ERROR 08P01 invalid command 'RELOAD now;', " + help + " | The form is RELOAD."}},
		{query: "PAUSE a b", want: []string{"ERROR 08P01 invalid command 'PAUSE a b', " + help + " | The form is PAUSE [db]."}},
		{query: "SHOW", want: []string{"ERROR 08P01 invalid command 'SHOW', " + help + " | Perhaps you meant SHOW HELP."}},
		{query: "SHOW POLS", want: []string{"ERROR 08P01 invalid command 'SHOW POLS', " + help + " | Perhaps you meant SHOW POOLS."}},
		{query: "RESMUE db", want: []string{"ERROR 08P01 invalid command 'RESMUE db', " + help + " | Perhaps you meant RESUME [db]."}},
		{query: "SHOW FDS", want: []string{"ERROR 08P01 invalid command 'SHOW FDS', " + help}},
		{query: "SUSPEND", want: []string{"ERROR 08P01 invalid command 'SUSPEND', " + help}},
		{query: "SHOW FDS", want: []string{"ERROR 08P01 invalid command 'SHOW FDS', " + help}},
		{query: "INSERT INTO t VALUES (1)", want: []string{"ERROR 08P01 invalid command 'INSERT INTO t VALUES (1)', " + help}},
		{query: "select oid from pg_type", want: []string{"ERROR 08P01 invalid command 'select oid from pg_type', " + help + " | " + catalogHint}},
		{query: "PAUSE 'db'", want: []string{"ERROR 08P01 invalid command 'PAUSE 'db'', " + help + " | The form is PAUSE [db]."}},
		{query: `PAUSE "db`, want: []string{`ERROR 08P01 invalid command 'PAUSE "db', ` + help + " | A quote or a comment is not closed."}},
		{query: "KILL_CLIENT $1", want: []string{"ERROR 08P01 the console takes no parameters: write the value in place of $1"}},
		{query: "PAUSE " + strings.Repeat("x", 64), want: []string{"ERROR 08P01 bad arguments | A command has at most 15 bytes, its argument at most 63."}},
		{query: strings.Repeat("x", 16), want: []string{"ERROR 08P01 bad arguments | A command has at most 15 bytes, its argument at most 63."}},
		{query: "SET x = " + strings.Repeat("x", 256), want: []string{"ERROR 08P01 bad arguments | A key has at most 63 bytes, a value at most 255."}},
	} {
		pools := &fakePools{err: test.err}
		s := open(t, pools, !test.stats)
		expect(t, test.query, ask(t, s, test.query), append(test.want, ready)...)
		if got := strings.Join(pools.calls, "; "); got != test.calls {
			t.Errorf("%s: the pools were told %q, want %q", test.query, got, test.calls)
		}
	}
}

// Clients of stats_users may look at everything and change nothing.
func TestStatsUser(t *testing.T) {
	for i := range commands {
		pools := &fakePools{}
		s := open(t, pools, false)
		query := strings.TrimSpace(commands[i].name + " " + map[string]string{"db": "x", "id": "1"}[commands[i].argument])
		expect(t, query, ask(t, s, query), "ERROR 08P01 admin access needed", ready)
		if pools.calls != nil {
			t.Errorf("%s was carried out: %v", query, pools.calls)
		}
	}
}

func TestHelp(t *testing.T) {
	got := decode(t, ask(t, open(t, &fakePools{}, false), "SHOW HELP"))
	if len(got) != 3 || got[1] != "CommandComplete SHOW" {
		t.Fatalf("got %q", got)
	}
	if !strings.HasPrefix(got[0], "NOTICE 00000 Console usage | ") {
		t.Errorf("got %s", got[0])
	}
	for i := range shows {
		if !strings.Contains(got[0], "\n\tSHOW "+shows[i].name+" ") {
			t.Errorf("SHOW %s is not listed", shows[i].name)
		}
	}
	for _, c := range commands {
		if !strings.Contains(got[0], "\n\t"+c.name+" ") {
			t.Errorf("%s is not listed", c.name)
		}
	}
}

// A quoted query is cut to PgBouncer's limit, between characters.
func TestLongQueryInError(t *testing.T) {
	got := decode(t, ask(t, open(t, &fakePools{}, true), "x = "+strings.Repeat("ä", 1000)))
	message := strings.TrimPrefix(got[0], "ERROR 08P01 ")
	if len(message) > maxErrorText || len(message) < maxErrorText-1 || !strings.HasSuffix(message, "ä', use SHOW HELP;") {
		t.Errorf("%d bytes: %s", len(message), message)
	}
}

// One packet can't make the console hold any amount of answers.
func TestReplyIsBounded(t *testing.T) {
	s := open(t, &fakePools{Pooler: emptyPools{}}, false)
	got := ask(t, s, strings.Repeat("SHOW CONFIG;", 5000))
	if len(got) > maxReply+64<<10 {
		t.Errorf("%d bytes for one query", len(got))
	}
	const want = "ERROR 54000 the answer is too big: send the statements one by one"
	if lines := decode(t, got); lines[len(lines)-2] != want || lines[len(lines)-1] != ready {
		t.Errorf("it ends with %q", lines[len(lines)-2:])
	}
}

// A driver that sends BEGIN is told that it is in a transaction, also after an
// error, until it ends it.
func TestTransactionStatus(t *testing.T) {
	s := open(t, &fakePools{}, true)
	for _, step := range []struct{ query, tag, status string }{
		{"BEGIN", "BEGIN", "T"},
		{"SHOW VERSION", "SHOW", "T"},
		{"nonsense", "", "T"},
		{"COMMIT", "COMMIT", "I"},
		{"START TRANSACTION READ ONLY", "START TRANSACTION", "T"},
		{"ROLLBACK", "ROLLBACK", "I"},
	} {
		got := decode(t, ask(t, s, step.query))
		if last := got[len(got)-1]; last != "ReadyForQuery "+step.status {
			t.Errorf("%s: %s, want %s", step.query, last, step.status)
		}
		if tag := got[len(got)-2]; step.tag != "" && tag != "CommandComplete "+step.tag {
			t.Errorf("%s: %s", step.query, tag)
		}
	}
}

// The immediate SHUTDOWN is not answered; the connection ends.
func TestShutdown(t *testing.T) {
	pools := &fakePools{}
	s := open(t, pools, true)
	reply, end := s.Handle(nil, wire.Query, []byte("SHUTDOWN\x00"), []byte("before"))
	if !end || string(reply) != "before" {
		t.Errorf("answered %q, end %v", reply, end)
	}
	if len(pools.calls) != 1 || pools.calls[0] != "shutdown 4" {
		t.Errorf("the pools were told %q", pools.calls)
	}
}

// PAUSE and WAIT_CLOSE block until the pools are quiet, or the client is gone.
func TestBlockingCommands(t *testing.T) {
	for _, query := range []string{"PAUSE db", "WAIT_CLOSE"} {
		pools := &fakePools{quiet: make(chan struct{})}
		s := open(t, pools, true)
		answer := make(chan []byte)
		go func() { answer <- ask(t, s, query) }()
		close(pools.quiet)
		expect(t, query, <-answer, "CommandComplete "+strings.Fields(query)[0], ready)

		pools = &fakePools{quiet: make(chan struct{})}
		s = open(t, pools, true)
		done := make(chan struct{})
		go func() {
			reply, _ := s.Handle(done, wire.Query, append([]byte(query), 0), nil)
			answer <- reply
		}()
		close(done)
		expect(t, query+", client gone", <-answer, "ERROR 08P01 "+errGone.Error(), ready)
	}
}

// What can't be a message of a console client ends the session.
func TestBadPackets(t *testing.T) {
	const fatal = "FATAL 08P01 bad packet"
	for _, test := range []struct {
		typ  byte
		body string
		want []string
	}{
		{wire.Query, "SHOW VERSION", []string{fatal}},
		{wire.Query, "SHOW\x00VERSION\x00", []string{fatal}},
		{wire.Query, "", []string{fatal}},
		{wire.Parse, "\x00SHOW VERSION\x00\x00\x01", []string{fatal}},
		{wire.Parse, "\x00SHOW VERSION\x00\x00\x00x", []string{fatal}},
		{wire.Bind, "\x00\x00\x00\x00\x00\x01\x7f\xff\xff\xff", []string{fatal}},
		{wire.Bind, "\x00", []string{fatal}},
		{wire.Describe, "X\x00", []string{fatal}},
		{wire.Describe, "", []string{fatal}},
		{wire.Execute, "\x00\x00", []string{fatal}},
		{wire.Close, "Q\x00", []string{fatal}},
		{wire.Flush, "x", []string{fatal}},
		{wire.CopyData, "x", []string{"ERROR 08P01 unsupported packet type for admin console: 100", ready, fatal}},
		{wire.FunctionCall, "", []string{"ERROR 08P01 unsupported packet type for admin console: 70", ready, fatal}},
	} {
		s := open(t, &fakePools{}, true)
		reply, end := s.Handle(nil, test.typ, []byte(test.body), nil)
		expect(t, string(test.typ)+test.body, reply, test.want...)
		if !end {
			t.Errorf("%c %q did not end the session", test.typ, test.body)
		}
	}
}

func TestTerminate(t *testing.T) {
	reply, end := open(t, &fakePools{}, true).Handle(nil, wire.Terminate, nil, nil)
	if !end || len(reply) > 0 {
		t.Errorf("answered %q, end %v", reply, end)
	}
}

// lines is a pool.Logger that keeps what it is told.
type lines struct{ list []string }

func (*lines) Enabled(pool.Level) bool { return true }

func (l *lines) Log(level pool.Level, prefix, text string) {
	if level == pool.Error {
		l.list = append(l.list, prefix+" "+text)
	}
}

// Every error that a client is sent is logged too.
func TestErrorsAreLogged(t *testing.T) {
	log := &lines{}
	s := newConsole(&fakePools{}, Options{Log: log}).Open(pool.ConsoleClient{Prefix: "C-7: pgbouncer/admin@unix:6432"})
	defer s.Close()
	ask(t, s, "RELOAD")
	send(t, s, parseOf("", "nonsense"), syncNow)
	want := []string{
		"C-7: pgbouncer/admin@unix:6432 admin access needed",
		"C-7: pgbouncer/admin@unix:6432 invalid command 'nonsense', use SHOW HELP;",
	}
	if !slices.Equal(log.list, want) {
		t.Errorf("got %q, want %q", log.list, want)
	}
}
