package integration

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgweir/pgweir/integration/pooler"
	"github.com/pgweir/pgweir/integration/postgres"
)

// TestStartupParameters has clients ask for parameters that the server does not
// report, over one server, and none sees what another asked for.
func TestStartupParameters(t *testing.T) {
	begin(t)
	db := suite.postgres
	name := ownDatabase(t, db)
	for _, mode := range []string{"transaction", "session"} {
		p := startPooler(t, pooler.Config{
			Settings:  map[string]string{"pool_mode": mode, "default_pool_size": "1", "ignore_startup_parameters": "geqo"},
			Databases: []string{fmt.Sprintf("%s = host=%s port=%d user=%s", name, db.Host, db.Port, postgres.Superuser)},
			Userlist:  map[string]string{user: ""},
		})
		connect := func(params string) *pgconn.PgConn {
			t.Helper()
			conn, err := pgconn.Connect(testContext(t), p.DSN(user, "", name)+params)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close(context.Background()) })
			return conn
		}
		const show = "select current_setting('statement_timeout') || ' ' || current_setting('extra_float_digits') || ' ' || current_setting('search_path') || ' ' || coalesce(current_setting('my.own', true), '') || ' ' || current_setting('geqo')"
		ask := func(conn *pgconn.PgConn, sql string) string {
			t.Helper()
			results, err := conn.Exec(testContext(t), sql).ReadAll()
			if err != nil {
				t.Fatal(err)
			}
			if last := results[len(results)-1]; len(last.Rows) > 0 {
				return string(last.Rows[0][0])
			}
			return ""
		}
		want := func(conn *pgconn.PgConn, text string) {
			t.Helper()
			if got := ask(conn, show); got != text {
				t.Errorf("%s: %q, want %q", mode, got, text)
			}
		}
		const (
			odd   = "&statement_timeout=5s&extra_float_digits=3&search_path=a,%20public&options=-c%20my.own%3Dx&geqo=off"
			given = "5s 3 a, public x on"
			other = "7s 1 \"$user\", public  on"
			plain = "0 1 \"$user\", public  on"
		)
		if mode == "session" {
			// One after the other; DISCARD ALL lies between them.
			for _, visit := range [][2]string{{odd, given}, {odd, given}, {"", plain}, {odd, given}, {"&statement_timeout=7s", other}} {
				conn := connect(visit[0])
				want(conn, visit[1])
				conn.Close(testContext(t))
			}
			continue
		}
		a, b, c := connect(odd), connect("&statement_timeout=7s"), connect("")
		for range 2 {
			want(a, given)
			want(b, other)
			want(c, plain)
			want(a, given)
			want(c, plain)
		}
		// What a client changes on the way is put right for the next.
		d := connect(odd)
		ask(a, "set statement_timeout = '1h'")
		want(d, given)
		ask(a, "reset all")
		want(d, given)
		ask(a, "discard all")
		want(d, given)

		// Postgres says what it does not take, when it is told; the server goes on
		// with what it had.
		const pid = "select pg_backend_pid()"
		server := ask(a, pid)
		for params, detail := range map[string]string{
			"&no_such_parameter=1&my.own=y":               `unrecognized configuration parameter "no_such_parameter"`,
			"&statement_timeout=1s&lock_timeout=sometime": `invalid value for parameter "lock_timeout": "sometime"`,
			"&extra_float_digits=2&timezone=Nowhere/Land": `invalid value for parameter "TimeZone": "Nowhere/Land"`,
		} {
			_, err := connect(params).Exec(testContext(t), "select 1").ReadAll()
			var refused *pgconn.PgError
			if !errors.As(err, &refused) || refused.Message != "invalid server parameter" || refused.Detail != detail {
				t.Errorf("%s: %v", params, err)
			}
			want(c, plain)
			want(b, other)
		}
		if now := ask(a, pid); now != server {
			t.Error("the server was closed because of somebody's parameters")
		}
		// What is tracked follows the session instead, and RESET ALL has put it
		// to the server's own: search_path, where the server reports it.
		if a.ParameterStatus("search_path") != "" {
			want(a, "5s 3 \"$user\", public x on")
		} else {
			want(a, given)
		}
	}
}

// TestStartupOptions asks for parameters in each form that there is, from
// Postgres itself and through one server that all share: what a session then
// has must be the same.
func TestStartupOptions(t *testing.T) {
	begin(t)
	db := suite.postgres
	name := ownDatabase(t, db)
	p := startPooler(t, pooler.Config{
		Settings:  map[string]string{"pool_mode": "transaction", "default_pool_size": "1"},
		Databases: []string{fmt.Sprintf("%s = host=%s port=%d", name, db.Host, db.Port)},
		Userlist:  map[string]string{postgres.Superuser: ""},
	})
	connect := func(dsn string, params map[string]string) *pgconn.PgConn {
		t.Helper()
		c, err := pgconn.ParseConfig(dsn)
		if err != nil {
			t.Fatal(err)
		}
		c.RuntimeParams = params
		conn, err := pgconn.ConnectConfig(testContext(t), c)
		if err != nil {
			t.Fatal(params, err)
		}
		t.Cleanup(func() { conn.Close(context.Background()) })
		return conn
	}
	direct, pooled := db.DSN(postgres.Superuser, name), p.DSN(postgres.Superuser, "", name)
	if _, err := connect(direct, nil).Exec(testContext(t), `create schema "Mixed"; create schema mixed; create schema "order";
		create schema "a b"; create schema "say ""hi"""; create schema "it's"; create schema "a;b"; create schema "back\slash"`).ReadAll(); err != nil {
		t.Fatal(err)
	}
	// A list of names may be spelled in another way; what a search_path means is
	// seen in the schemas that there are.
	const has = `select current_schemas(true)::text || string_agg(' ' || name || '=' || replace(setting, ', ', ','), '' order by name)
		from pg_settings where name in ('statement_timeout', 'lock_timeout', 'extra_float_digits', 'geqo', 'work_mem', 'DateStyle', 'IntervalStyle',
		'TimeZone', 'application_name', 'default_transaction_isolation', 'bytea_output', 'temp_tablespaces')`
	session := func(conn *pgconn.PgConn) string {
		t.Helper()
		results, err := conn.Exec(testContext(t), has).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		return string(results[0].Rows[0][0])
	}
	options := func(text string) map[string]string { return map[string]string{"options": text} }
	type client struct {
		params map[string]string
		want   string
		conn   *pgconn.PgConn
	}
	var clients []client
	for _, params := range []map[string]string{
		nil,
		options(`-c statement_timeout=5s -c lock_timeout=3000`),
		options(`-cstatement_timeout=1min --lock_timeout=3`),
		options(`--statement-timeout=1min -c extra-float-digits=2`),
		options("  -c\tgeqo=off\n --work_mem=5MB\v"),
		options(`-c default_transaction_isolation=repeatable\ read -c search_path=mixed,\ order`),
		options(`-c search_path="a\ b",\ Mixed,\ "Mixed"`),
		options(`-c search_path="say\ ""hi""",it's`),
		options(`-c search_path="back\\slash",a;b -c bytea_output=escape`),
		options(`-c application_name=a=b -c datestyle=German -c application_name=twice`),
		options(`-c intervalstyle=iso_8601 -c timezone=Asia/Tokyo`),
		options(`-c temp_tablespaces=pg_default,pg_global`),
		{"search_path": `"$user", order,"it's"`},
		{"search_path": `""`},
		{"search_path": `mixed`},
		{"search_path": `"Mixed"`},
		{"search_path": ``},
		{"Search_Path": `pg_catalog , MIXED`},
		{"search_path": `"order"`, "options": `-c search_path=mixed -c work_mem=7MB`, "work_mem": "8MB"},
		{"DATESTYLE": "SQL, DMY", "statement_timeout": "2s", "application_name": "me"},
	} {
		clients = append(clients, client{params, session(connect(direct, params)), connect(pooled, params)})
	}
	for range 2 {
		for _, c := range clients {
			if got := session(c.conn); got != c.want {
				t.Errorf("%q:\n got %s\nwant %s", c.params, got, c.want)
			}
		}
	}
	// Who puts everything back does so for nobody else.
	for _, change := range []string{"reset all", "discard all", "reset search_path"} {
		for i, c := range clients {
			if _, err := connect(pooled, c.params).Exec(testContext(t), change).ReadAll(); err != nil {
				t.Fatal(err)
			}
			next := clients[(i+1)%len(clients)]
			if got := session(next.conn); got != next.want {
				t.Errorf("%q after %q did %q:\n got %s\nwant %s", next.params, c.params, change, got, next.want)
			}
		}
	}
}

// TestOddLists asks for lists of names in every form, good and bad, from Postgres
// itself and through pgweir: in a StartupMessage and by SET. What Postgres refuses
// is refused in its words, at the first query.
func TestOddLists(t *testing.T) {
	begin(t)
	db := suite.postgres
	name := ownDatabase(t, db)
	p := startPooler(t, pooler.Config{
		Settings:  map[string]string{"pool_mode": "transaction", "default_pool_size": "1"},
		Databases: []string{fmt.Sprintf("%s = host=%s port=%d", name, db.Host, db.Port)},
		Userlist:  map[string]string{postgres.Superuser: ""},
	})
	// ask is what sql comes to for a session that begins with params.
	ask := func(dsn string, params map[string]string, sql string) (answer string, refused *pgconn.PgError) {
		t.Helper()
		c, err := pgconn.ParseConfig(dsn)
		if err != nil {
			t.Fatal(err)
		}
		c.RuntimeParams = params
		session, err := pgconn.ConnectConfig(testContext(t), c)
		if err == nil {
			defer session.Close(context.Background())
			var results []*pgconn.Result
			if results, err = session.Exec(testContext(t), sql).ReadAll(); err == nil {
				return string(results[len(results)-1].Rows[0][0]), nil
			}
		}
		if !errors.As(err, &refused) {
			t.Fatalf("%q, %s: %v", params, sql, err)
		}
		return "", refused
	}
	direct, pooled := db.DSN(postgres.Superuser, name), p.DSN(postgres.Superuser, "", name)
	session, err := pgconn.Connect(testContext(t), pooled)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close(context.Background())
	refused := 0
	for _, list := range []string{
		`a,,b`, `"unclosed`, `a b`, `,a`, `a,`, `,`, ` `, ``, `"a" b`, `"a"b`, `""`, `"",a`, `a;b`, `a , b`, `"a""b", "c,d"`, `a"b`, `$user`, `"$user"`, `it's`, `a\b`, `x'; select 1; --`,
	} {
		for _, parameter := range []string{"search_path", "temp_tablespaces"} {
			params := map[string]string{parameter: list}
			show := "show " + parameter
			want, no := ask(direct, params, show)
			got, err := ask(pooled, params, show)
			switch {
			case no != nil:
				refused++
				if err == nil || err.Message != "invalid server parameter" || err.Detail != no.Message {
					t.Errorf("%s = %q: %v, Postgres says %v", parameter, list, err, no)
				}
			case parameter == "temp_tablespaces": // at login Postgres does not ask whether they exist
			case err != nil:
				t.Errorf("%s = %q: %v: %s, Postgres takes it", parameter, list, err, err.Detail)
			case !slices.Equal(bareNames(got), bareNames(want)):
				t.Errorf("%s = %q is %s, in Postgres %s", parameter, list, got, want)
			}
		}
		set := "set search_path = '" + strings.ReplaceAll(list, "'", "''") + "'; show search_path"
		want, no := ask(direct, nil, set)
		results, err := session.Exec(testContext(t), set).ReadAll()
		if no != nil || err != nil {
			t.Errorf("%s: %v, Postgres says %v", set, err, no)
			continue
		}
		if got := string(results[1].Rows[0][0]); got != want {
			t.Errorf("%s is %s, in Postgres %s", set, got, want)
		}
		if session.ParameterStatus("search_path") == "" {
			continue // it stays where it is
		}
		ask(pooled, nil, "show search_path")
		results, err = session.Exec(testContext(t), "show search_path").ReadAll()
		if err != nil || string(results[0].Rows[0][0]) != want {
			t.Errorf("after somebody else's turn %s is not %s: %v", set, want, err)
		}
	}
	if refused < 10 {
		t.Errorf("Postgres has refused %d of these only", refused)
	}
}

// bareNames takes a list of names apart, which has quotes only where it must.
func bareNames(list string) []string {
	names := strings.Split(list, ",")
	for i, name := range names {
		names[i] = strings.ReplaceAll(strings.Trim(name, ` "`), `""`, `"`)
	}
	return names
}
