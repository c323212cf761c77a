package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgweir/pgweir/integration/pooler"
	"github.com/pgweir/pgweir/integration/postgres"
)

// TestPreparedStatements has forty clients, which have the same names for
// statements of their own, share four servers that keep five statements each.
func TestPreparedStatements(t *testing.T) {
	begin(t)
	const servers, kept = 4, 5
	db := suite.postgres
	database := ownDatabase(t, db)
	p := startPooler(t, manyOverFew(db, database, map[string]string{
		"default_pool_size": fmt.Sprint(servers), "max_prepared_statements": fmt.Sprint(kept),
	}))
	base := atRest(t, p, database)
	until := time.Now().Add(2 * loadTime)
	var clients sync.WaitGroup
	for id := range 40 {
		clients.Go(func() {
			if err := ownStatements(testContext(t), p, database, id, until); err != nil {
				t.Errorf("client %d: %v", id, err)
			}
		})
	}
	clients.Wait()

	listed, err := p.Console(testContext(t), "SHOW PREPARED_STATEMENTS")
	if err != nil || len(listed) == 0 || len(listed) > servers*kept {
		t.Errorf("%d prepared statements are left on %d servers that keep %d each (%v)", len(listed), servers, kept, err)
	}

	conn := connect(t, p, database, pgx.QueryExecModeExec)
	var n int
	if err := conn.QueryRow(testContext(t), "select count(*) from pg_prepared_statements").Scan(&n); err != nil {
		t.Fatal(err)
	}
	if n > kept {
		t.Errorf("a server has %d prepared statements, and may have %d", n, kept)
	}
	conn.Close(testContext(t))
	base.check(t)
}

// ownStatements prepares, executes and closes statements under names that
// every client uses, alone and in batches, and in between makes the mistakes
// that drivers make.
func ownStatements(ctx context.Context, p *pooler.Pooler, database string, id int, until time.Time) error {
	conn, err := dial(ctx, p, database, pgx.QueryExecModeExec)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	pg := conn.PgConn()
	random := rand.New(rand.NewPCG(uint64(id), 1))
	has := map[string]string{} // name -> what the statement says
	for n := 0; time.Now().Before(until); n++ {
		name := fmt.Sprint("stmt", random.IntN(8))
		want := fmt.Sprintf("client %d, statement %d", id%10, random.IntN(5)) // some are the same for many
		sql := fmt.Sprintf("select '%s', $1::text", want)
		switch said, ok := has[name]; {
		case !ok:
			if _, err := pg.Prepare(ctx, name, sql, nil); err != nil {
				return fmt.Errorf("prepare %s: %w", name, err)
			}
			has[name] = want
		case random.IntN(10) == 0:
			if err := pg.Deallocate(ctx, name); err != nil {
				return fmt.Errorf("close %s: %w", name, err)
			}
			delete(has, name)
			if err := wantCode(pg.ExecPrepared(ctx, name, [][]byte{nil}, nil, nil).Read().Err, "26000"); err != nil {
				return err
			}
		case random.IntN(10) == 0:
			_, err := pg.Prepare(ctx, name, sql, nil)
			if err := wantCode(err, "42P05"); err != nil {
				return err
			}
		default:
			batch := &pgconn.Batch{}
			tags := make([]string, 1+random.IntN(4))
			for i := range tags {
				tags[i] = fmt.Sprintf("%d/%d/%d", id, n, i)
				batch.ExecPrepared(name, [][]byte{[]byte(tags[i])}, nil, nil)
			}
			results, err := pg.ExecBatch(ctx, batch).ReadAll()
			if err != nil {
				return fmt.Errorf("execute %s: %w", name, err)
			}
			for i, r := range results {
				if a, b := string(r.Rows[0][0]), string(r.Rows[0][1]); a != said || b != tags[i] {
					return fmt.Errorf("%w: %q, %q instead of %q, %q", errNotMine, a, b, said, tags[i])
				}
			}
		}
	}
	return nil
}

func wantCode(err error, code string) error {
	if pgErr := (*pgconn.PgError)(nil); !errors.As(err, &pgErr) || pgErr.Code != code {
		return fmt.Errorf("got the error %v, want %s", err, code)
	}
	return nil
}

// TestSQLStatements has forty clients prepare, execute and deallocate by SQL
// under names that every client uses, on four servers that keep five each.
func TestSQLStatements(t *testing.T) {
	begin(t)
	const servers, kept = 4, 5
	db := suite.postgres
	database := ownDatabase(t, db)
	p := startPooler(t, manyOverFew(db, database, map[string]string{
		"default_pool_size": fmt.Sprint(servers), "max_prepared_statements": fmt.Sprint(kept),
	}))
	base := atRest(t, p, database)
	until := time.Now().Add(loadTime)
	var clients sync.WaitGroup
	for id := range 40 {
		clients.Go(func() {
			if err := ownSQLStatements(testContext(t), p, database, id, until); err != nil {
				t.Errorf("client %d: %v", id, err)
			}
		})
	}
	clients.Wait()
	base.check(t)
}

func ownSQLStatements(ctx context.Context, p *pooler.Pooler, database string, id int, until time.Time) error {
	conn, err := dial(ctx, p, database, pgx.QueryExecModeExec)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	random := rand.New(rand.NewPCG(uint64(id), 2))
	has := map[string]string{} // name -> what the statement says
	// query runs a Query and wants an error, or rows, of which each says so.
	query := func(sql, code string, says ...string) error {
		results, err := conn.PgConn().Exec(ctx, sql).ReadAll()
		if code != "" {
			return wantCode(err, code)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
		for _, r := range results {
			for _, row := range r.Rows {
				if len(says) == 0 || string(row[0]) != says[0] {
					return fmt.Errorf("%w: %s gives %q instead of %q", errNotMine, sql, row[0], says)
				}
				says = says[1:]
			}
		}
		if len(says) > 0 {
			return fmt.Errorf("%s does not give %q", sql, says)
		}
		return nil
	}
	for n := 0; time.Now().Before(until); n++ {
		name := fmt.Sprint("stmt", random.IntN(4))
		text := fmt.Sprintf("client %d; execute %d", id%10, random.IntN(5)) // some are the same for many
		said, ok := has[name]
		switch {
		case !ok && random.IntN(4) == 0:
			err = query("execute "+name+"('x')", "26000")
		case !ok:
			err = query(fmt.Sprintf("prepare %s (text) as select '%s' || $1", name, text), "")
			has[name] = text
		case random.IntN(10) == 0:
			err = query(fmt.Sprintf("prepare %s as select 1", name), "42P05")
		case random.IntN(10) == 0:
			err = query("select 'and'; deallocate "+name, "", "and")
			delete(has, name)
		case random.IntN(10) == 0:
			err = query(fmt.Sprintf("begin; execute %[1]s('a'); execute %[1]s('b'); deallocate %[1]s; rollback", name), "", said+"a", said+"b")
			delete(has, name)
		default:
			tag := fmt.Sprintf("%d/%d", id, n)
			err = query(fmt.Sprintf("execute %s('%s')", name, tag), "", said+tag)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// TestChangedResult alters a table under statements that clients have prepared.
// Those who are told what their rows look like don't notice.
func TestChangedResult(t *testing.T) {
	begin(t)
	db := suite.postgres
	database := ownDatabase(t, db)
	p := startPooler(t, config(db, database, map[string]string{"pool_mode": "transaction", "default_pool_size": "2"}))
	conn := connect(t, p, database, pgx.QueryExecModeExec)
	other := connect(t, p, database, pgx.QueryExecModeExec)
	ctx := testContext(t)
	pg := conn.PgConn()
	run := func(sql string) {
		t.Helper()
		if _, err := other.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
			t.Fatal(err)
		}
	}
	run("create table shape (a int); insert into shape values (1); prepare sql as select * from shape")
	if _, err := pg.Prepare(ctx, "mine", "select * from shape", nil); err != nil {
		t.Fatal(err)
	}
	run("execute sql")
	for i, change := range []string{"alter table shape add b text default 'b'", "alter table shape drop b", "alter table shape alter a type text"} {
		run(change)
		columns := 1
		if i == 0 {
			columns = 2
		}
		r := pg.ExecPrepared(ctx, "mine", nil, nil, nil).Read()
		if r.Err != nil || len(r.Rows) != 1 || len(r.Rows[0]) != columns || len(r.FieldDescriptions) != columns {
			t.Errorf("after %q the prepared statement gives %q, %v", change, r.Rows, r.Err)
		}
		results, err := other.PgConn().Exec(ctx, "execute sql").ReadAll()
		if err != nil || len(results[0].Rows[0]) != columns {
			t.Errorf("after %q EXECUTE gives %v", change, err)
		}
		d, err := other.PgConn().Prepare(ctx, fmt.Sprint("new", i), "select * from shape", nil)
		if err != nil || len(d.Fields) != columns {
			t.Errorf("after %q a new client is told %v, %v", change, d, err)
		}
	}

	// Who describes nothing may believe in what it was told once: the error is
	// what Postgres has for it. A transaction has failed with it.
	run("alter table shape add c int")
	batch := &pgconn.Batch{}
	batch.ExecPrepared("mine", nil, nil, nil)
	if _, err := pg.Exec(ctx, "begin").ReadAll(); err != nil {
		t.Fatal(err)
	}
	if _, err := pg.ExecBatch(ctx, batch).ReadAll(); wantCode(err, "0A000") != nil {
		t.Errorf("within a transaction: %v", err)
	}
	if _, err := pg.Exec(ctx, "rollback").ReadAll(); err != nil {
		t.Fatal(err)
	}
	if r := pg.ExecPrepared(ctx, "mine", nil, nil, nil).Read(); r.Err != nil || len(r.Rows[0]) != 2 {
		t.Errorf("after it: %q, %v", r.Rows, r.Err)
	}
}

// meanings are texts that mean something else with each value of a parameter.
var meanings = []struct {
	parameter string
	values    [2]string
	sql       string
}{
	{"DateStyle", [2]string{"ISO, DMY", "ISO, MDY"}, "select '01/02/2003'::date - '2003-01-01'::date"},
	{"DateStyle", [2]string{"ISO, DMY", "ISO, MDY"}, "select $$01/02/2003$$::date - $x$2003-01-01$x$::date"},
	{"TimeZone", [2]string{"Asia/Tokyo", "UTC"}, "select '2003-01-01 00:00'::timestamptz at time zone 'UTC'"},
	{"IntervalStyle", [2]string{"sql_standard", "postgres"}, "select extract(epoch from '-1 2:03'::interval)"},
	{"client_encoding", [2]string{"LATIN1", "UTF8"}, "select length('\u00e4')"},
	{"standard_conforming_strings", [2]string{"on", "off"}, `select length('\n')`},
	{"search_path", [2]string{"one", "two"}, "select * from t"},
	{"array_nulls", [2]string{"on", "off"}, "select array_position('{x,null}'::text[], 'null')"},
}

// TestMeaningOfStatements has clients prepare the same text where it means
// something else: each gets what it would get directly.
func TestMeaningOfStatements(t *testing.T) {
	begin(t)
	db := suite.postgres
	database := ownDatabase(t, db)
	p := startPooler(t, config(db, database, map[string]string{"pool_mode": "transaction", "default_pool_size": "1"}))
	prepareMeanings(t, p, database)
	for _, test := range meanings {
		for _, prepare := range []struct{ name, before, query string }{
			{"Parse", "", ""},
			{"PREPARE", "prepare mine as " + test.sql, "execute mine"},
		} {
			t.Run(test.parameter+" "+prepare.name, func(t *testing.T) {
				run := func(dsn, value string) string {
					c, err := pgx.ParseConfig(dsn)
					if err != nil {
						t.Fatal(err)
					}
					c.RuntimeParams[test.parameter] = value
					conn, err := pgconn.ConnectConfig(testContext(t), &c.Config)
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close(context.Background())
					var r *pgconn.Result
					if prepare.query == "" {
						if _, err := conn.Prepare(testContext(t), "mine", test.sql, nil); err != nil {
							t.Fatal(err)
						}
						r = conn.ExecPrepared(testContext(t), "mine", nil, nil, nil).Read()
					} else {
						var all []*pgconn.Result
						if all, err = conn.Exec(testContext(t), prepare.before+"; "+prepare.query).ReadAll(); err != nil {
							t.Fatal(err)
						}
						r = all[1]
					}
					if r.Err != nil {
						t.Fatal(r.Err)
					}
					return fmt.Sprintf("%q", r.Rows)
				}
				direct := db.DSN(postgres.Superuser, database)
				for _, value := range test.values {
					if got, want := run(p.DSN(user, "", database), value), run(direct, value); got != want {
						t.Errorf("with %s: %s, directly %s", value, got, want)
					}
				}
			})
		}
	}
}

// prepareMeanings makes what the texts of meanings speak of.
func prepareMeanings(t *testing.T, p *pooler.Pooler, database string) {
	t.Helper()
	setUp := connect(t, p, database, pgx.QueryExecModeSimpleProtocol)
	for _, sql := range []string{
		"create schema one create table t (a int default 1)", "create schema two create table t (b text default '2', c int default 3)",
		"insert into one.t default values", "insert into two.t default values",
	} {
		if _, err := setUp.Exec(testContext(t), sql); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMeaningElsewhere has a client change a parameter after it has prepared a
// statement, and then come to a server that lacks it. How that server reads the
// text is nothing to another client, which has the same statement and has
// changed nothing.
func TestMeaningElsewhere(t *testing.T) {
	begin(t)
	db := suite.postgres
	database := ownDatabase(t, db)
	c := config(db, database, map[string]string{"pool_mode": "transaction", "default_pool_size": "2"})
	if !suite.pgbouncer {
		c.Settings["loops"] = "1" // or the last server that was used may not be the next
	}
	p := startPooler(t, c)
	prepareMeanings(t, p, database)
	for _, test := range meanings {
		for _, way := range []string{"Parse", "PREPARE"} {
			t.Run(test.parameter+" "+way, func(t *testing.T) {
				open := func(dsn, value string) *pgconn.PgConn {
					c, err := pgx.ParseConfig(dsn)
					if err != nil {
						t.Fatal(err)
					}
					c.RuntimeParams[test.parameter] = value
					conn, err := pgconn.ConnectConfig(testContext(t), &c.Config)
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { conn.Close(context.Background()) })
					return conn
				}
				run := func(conn *pgconn.PgConn, sql string) string {
					t.Helper()
					all, err := conn.Exec(testContext(t), sql).ReadAll()
					if err != nil {
						t.Fatal(err)
					}
					return fmt.Sprintf("%q", all[len(all)-1].Rows)
				}
				prepare := func(conn *pgconn.PgConn) {
					t.Helper()
					if way == "PREPARE" {
						run(conn, "prepare mine as "+test.sql)
					} else if _, err := conn.Prepare(testContext(t), "mine", test.sql, nil); err != nil {
						t.Fatal(err)
					}
				}
				execute := func(conn *pgconn.PgConn) (string, error) {
					if way == "PREPARE" {
						all, err := conn.Exec(testContext(t), "execute mine").ReadAll()
						if err != nil {
							return "", err
						}
						return fmt.Sprintf("%q", all[0].Rows), nil
					}
					r := conn.ExecPrepared(testContext(t), "mine", nil, nil, nil).Read()
					return fmt.Sprintf("%q", r.Rows), r.Err
				}
				kept, other := test.values[1], test.values[0]
				direct := open(db.DSN(postgres.Superuser, database), kept)
				if direct.ParameterStatus(test.parameter) == "" {
					t.Skipf("servers do not tell of %s, so it stays where a client has set it", test.parameter)
				}
				prepare(direct)
				want, err := execute(direct)
				if err != nil {
					t.Fatal(err)
				}

				a, b, holder := open(p.DSN(user, "", database), kept), open(p.DSN(user, "", database), kept), open(p.DSN(user, "", database), kept)
				run(a, "begin")
				prepare(a)
				first := run(a, "select pg_backend_pid()")
				run(a, "commit")
				prepare(b) // where it is already
				run(holder, "begin")
				if got := run(holder, "select pg_backend_pid()"); got != first {
					t.Fatalf("server %s is held, and not %s, which has the statement", got, first)
				}
				defer run(holder, "rollback")
				change := fmt.Sprintf("select set_config('%s', '%s', false)", test.parameter, other)
				run(a, change)
				run(direct, change)
				_, refused := execute(direct) // because the result would be another
				if _, err := execute(a); err != nil && refused == nil {
					t.Errorf("who has changed %s: %v", test.parameter, err)
				}
				if got, err := execute(b); got != want || err != nil {
					t.Errorf("who has changed nothing: %s %v, want %s", got, err, want)
				}
			})
		}
	}
}

// TestChangedResultElsewhere has a client that was told what its rows look like,
// and does not ask again, come to a server that meets the statement only after
// the table was altered. It gets the error that it would get directly, and
// nothing is done: neither by the statement nor by a text that executes it.
func TestChangedResultElsewhere(t *testing.T) {
	begin(t)
	db := suite.postgres
	database := ownDatabase(t, db)
	p := startPooler(t, config(db, database, map[string]string{"pool_mode": "transaction", "default_pool_size": "1"}))
	ctx := testContext(t)
	other := connect(t, p, database, pgx.QueryExecModeExec)
	run := func(sql string) string {
		t.Helper()
		results, err := other.PgConn().Exec(ctx, sql).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		if rows := results[len(results)-1].Rows; rows != nil {
			return string(rows[0][0])
		}
		return ""
	}
	last := ""
	newServer := func() {
		t.Helper()
		if _, err := p.Console(ctx, "RECONNECT"); err != nil {
			t.Fatal(err)
		}
		pid := run("select pg_backend_pid()")
		if pid == last {
			t.Fatal("it is the same server")
		}
		last = pid
	}
	conn, err := login(ctx, fmt.Sprintf("%s:%d", p.Host, p.Port), user, database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.close()
	// send sends messages up to a Sync, and wants an error of that code, or none.
	send := func(code string, lines ...line) {
		t.Helper()
		var all []byte
		for _, l := range append(lines, line{"Sync"}) {
			message, err := encode(l)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, message...)
		}
		replies, err := conn.exchange(all, "Z", 0)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, r := range replies {
			if r.typ == 'E' {
				_, got, _ = strings.Cut(string(r.body), "\x00C")
				got = got[:5]
			}
		}
		if got != code {
			t.Errorf("%v: error %q, want %q", lines, got, code)
		}
	}
	prepare := []line{
		{"Close", "S", "mine"},
		{"Parse", "mine", "insert into elsewhere default values returning *"},
		{"Describe", "S", "mine"},
		{"Close", "S", "text"},
		{"Parse", "text", "execute mine"},
	}
	blindly := []line{{"Bind", "", "mine"}, {"Execute", "", "0"}}
	executing := []line{{"Bind", "", "text"}, {"Execute", "", "0"}}
	do := func(sql string) []line { return []line{{"Parse", "", sql}, {"Bind", "", ""}, {"Execute", "", "0"}} }

	run("create table elsewhere (a int default 1, b text default 'b')")
	send("", prepare...)
	newServer()
	send("", blindly...)
	for _, change := range []string{"rename a to c", "alter b type varchar", "add d int"} {
		run("delete from elsewhere; alter table elsewhere " + change)
		newServer()
		send("0A000", executing...)
		send("0A000", executing...)
		newServer()
		send("0A000", blindly...)
		send("0A000", blindly...)
		send("0A000", executing...)
		send("0A000", append(do("begin"), blindly...)...)
		send("", do("rollback")...)
		if n := run("select count(*) from elsewhere"); n != "0" {
			t.Errorf("after %q it was executed all the same", change)
		}
		send("", prepare...)
		newServer()
		send("", executing...)
		send("", blindly...)
		if n := run("select count(*) from elsewhere"); n != "2" {
			t.Errorf("prepared anew after %q it was executed %s times, and not twice", change, n)
		}
	}
	// What is altered and altered back is what it was.
	run("alter table elsewhere drop d")
	run("alter table elsewhere add d int")
	newServer()
	send("", blindly...)
}

// TestEncodings has clients prepare and execute texts in encodings in which the
// bytes of a character may look like SQL, and in others, on databases of several
// encodings. What they get is what they would get directly.
func TestEncodings(t *testing.T) {
	begin(t)
	db := suite.postgres
	var databases, entries []string
	for _, encoding := range []string{"UTF8", "LATIN1", "SQL_ASCII"} {
		name := "encoding_" + strings.ToLower(encoding)
		if err := db.Exec(testContext(t), fmt.Sprintf("create database %s encoding '%s' template template0", name, encoding)); err != nil {
			t.Fatal(err)
		}
		databases, entries = append(databases, name), append(entries, entry(db, name))
	}
	p := startPooler(t, pooler.Config{
		Settings:  map[string]string{"pool_mode": "transaction", "default_pool_size": "1"},
		Databases: entries, Userlist: map[string]string{user: ""},
	})
	// Of a character the last byte is a backslash, a letter, a bracket, a digit or
	// a semicolon.
	for _, test := range []struct {
		encoding   string
		characters []string
	}{
		{"UTF8", []string{"\u00e4"}},
		{"LATIN1", []string{"\xe4", "\xc3\xa4"}},
		{"KOI8R", []string{"\xc1"}},
		{"SQL_ASCII", []string{"\xc3\xa4"}},
		{"EUC_JP", []string{"\xc9\xbd"}},
		{"SJIS", []string{"\x95\x5c", "\x83\x5b", "\x83\x41"}},
		{"SHIFT_JIS_2004", []string{"\x95\x5c"}},
		{"BIG5", []string{"\xa5\x5c", "\xa5\x5b"}},
		{"GBK", []string{"\xd5\x5c", "\x81\x5b"}},
		{"UHC", []string{"\x81\x41", "\x81\x5a"}},
		{"GB18030", []string{"\x81\x5c", "\x81\x30\x81\x30"}},
		{"JOHAB", []string{"\xd9\x3b", "\x88\x61"}},
	} {
		unsafe := slices.Contains([]string{"SJIS", "SHIFT_JIS_2004", "BIG5", "GBK", "UHC", "GB18030", "JOHAB"}, test.encoding)
		var lines []line
		for _, ch := range test.characters {
			lines = append(lines, []line{
				// In one transaction, where nobody has to know of it.
				{"Query", "begin; prepare s as select '" + ch + "' as x; execute s"},
				{"Query", "execute s; deallocate s; commit"},
				{"Query", "begin; prepare s (text) as select $1 || E'" + ch + "'; execute s('" + ch + "; execute s'); deallocate s; commit"},
				{"Query", "prepare \"" + ch + "\" as select 1; execute \"" + ch + "\"; deallocate \"" + ch + "\""},
				{"Query", "set standard_conforming_strings = off"},
				{"Query", "prepare s as select '" + ch + "'; execute s; deallocate s"},
				{"Query", "reset standard_conforming_strings"},
				// In ASCII, and by messages, across transactions.
				{"Query", "prepare a (text) as select length($1)"},
				{"Parse", "p" + ch, "select '" + ch + "', '; execute a', $1::text"},
				{"Sync"},
				{"Query", "select '" + ch + "'; select 2"},
				{"Bind", "", "p" + ch, ch},
				{"Execute", "", "0"},
				{"Sync"},
				{"Query", "execute a('; execute b')"},
				{"Bind", "", "a", ch},
				{"Execute", "", "0"},
				{"Close", "S", "p" + ch},
				{"Sync"},
				{"Query", "deallocate a; execute a"},
			}...)
			if !unsafe {
				lines = append(lines, []line{
					{"Query", "prepare s" + ch + " as select '" + ch + "' as " + ch},
					{"Query", "execute s" + ch + "; deallocate s" + ch},
				}...)
			}
		}
		for _, database := range databases {
			t.Run(test.encoding+" "+database, func(t *testing.T) {
				play := func(address, user string) (all []reply) {
					conn, err := login(testContext(t), address, user, database)
					if err != nil {
						t.Fatal(err)
					}
					defer conn.close()
					var send []byte
					for i, l := range append([]line{{"Query", "set client_encoding = '" + test.encoding + "'"}}, lines...) {
						message, err := encode(l)
						if err != nil {
							t.Fatal(err)
						}
						if send = append(send, message...); l[0] != "Query" && l[0] != "Sync" {
							continue
						}
						got, err := conn.exchange(send, "Z", 0)
						if err != nil {
							t.Fatalf("%v: %v", l, err)
						}
						for _, r := range got {
							r.line = i
							all = append(all, r)
						}
						send = nil
					}
					return all
				}
				got := batches(play(fmt.Sprintf("%s:%d", p.Host, p.Port), user))
				if d := differAsFar(got, batches(play(fmt.Sprintf("%s:%d", db.Host, db.Port), postgres.Superuser))); d != "" {
					t.Errorf("%s\n%s", d, show(append([]line{{"Query", "set client_encoding"}}, lines...)))
				}
			})
		}
	}
}
