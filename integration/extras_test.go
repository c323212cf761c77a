package integration

import (
	"context"
	"fmt"
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

		// Postgres says what it does not take, when it is told.
		if conn, err := pgconn.Connect(testContext(t), p.DSN(user, "", name)+"&no_such_parameter=1"); err == nil {
			_, err = conn.Exec(testContext(t), "select 1").ReadAll()
			if err == nil || !strings.Contains(err.Error(), "invalid server parameter") {
				t.Errorf("an unknown parameter: %v", err)
			}
		} else {
			t.Error(err)
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
