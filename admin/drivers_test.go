package admin

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib"
)

// TestPsql asks the real psql.
func TestPsql(t *testing.T) {
	psql, err := exec.LookPath("psql")
	if err != nil {
		t.Skip("no psql on the PATH")
	}
	host, port, _ := net.SplitHostPort(serve(t, newConsole(&fakePools{Pooler: emptyPools{}}, Options{Version: version})))
	for _, test := range []struct {
		commands []string // each a -c of its own
		want     string
	}{
		{[]string{"SHOW VERSION"}, "     version      \n------------------\n PgBouncer 1.26.1\n(1 row)\n\n"},
		{[]string{"PAUSE db", "resume db;"}, "PAUSE\nRESUME\n"},
		{[]string{"SHOW POOL"}, "ERROR:  invalid command 'SHOW POOL', use SHOW HELP;\nHINT:  Perhaps you meant SHOW POOLS.\n"},
		{[]string{"SET statement_timeout = 0"}, "NOTICE:  SET ignored\nSET\n"},
		{[]string{"SHOW HELP"}, "NOTICE:  Console usage\nDETAIL:  " + usage() + "\nSHOW\n"},
		{[]string{"SHOW STATE"}, "    key    | value \n-----------+-------\n active    | yes\n paused    | no\n suspended | no\n(3 rows)\n\n"},
	} {
		args := []string{"-X", "-h", host, "-p", port, "-U", "admin", "-d", "pgbouncer"}
		for _, c := range test.commands {
			args = append(args, "-c", c)
		}
		got, err := exec.Command(psql, args...).CombinedOutput()
		if string(got) != test.want {
			t.Errorf("%v: %v, psql printed\n%s", test.commands, err, got)
		}
	}
}

// TestPgx connects with pgx in each of its ways to run a query.
func TestPgx(t *testing.T) {
	address := serve(t, newConsole(&fakePools{Pooler: busyPools{}}, Options{Version: version}))
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec,
		pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	} {
		t.Run(mode.String(), func(t *testing.T) {
			ctx := context.Background()
			conf, err := pgx.ParseConfig("postgres://admin@" + address + "/pgbouncer?target_session_attrs=read-write")
			if err != nil {
				t.Fatal(err)
			}
			conf.DefaultQueryExecMode = mode
			conn, err := pgx.ConnectConfig(ctx, conf)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(ctx)
			if err := conn.Ping(ctx); err != nil {
				t.Errorf("Ping: %v", err)
			}
			for range 2 { // the second time from the statement cache
				rows, err := conn.Query(ctx, "SHOW STATE")
				if err != nil {
					t.Fatal(err)
				}
				state, err := pgx.CollectRows(rows, pgx.RowToStructByName[struct{ Key, Value string }])
				if err != nil || len(state) != 3 || state[0].Key != "active" || state[0].Value != "yes" {
					t.Errorf("SHOW STATE: %v, %v", state, err)
				}
			}
			// int4 and numeric, binary in all modes but two
			for query, want := range map[string]string{
				"SHOW LISTS":  "free_servers=6 used_servers=7",
				"SHOW TOTALS": "avg_client_bytes=109951162777 avg_server_bytes=5",
			} {
				rows, err := conn.Query(ctx, query)
				if err != nil {
					t.Fatal(err)
				}
				pairs, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (string, error) {
					var name string
					var n int64
					err := r.Scan(&name, &n)
					return fmt.Sprint(name, "=", n), err
				})
				if got := strings.Join(pairs, " "); err != nil || !strings.Contains(got, want) {
					t.Errorf("%s: %s, %v; want %s", query, got, err, want)
				}
			}
			var one int32
			if err := conn.QueryRow(ctx, "select 1").Scan(&one); err != nil || one != 1 {
				t.Errorf("select 1: %d, %v", one, err)
			}
			var failed *pgconn.PgError
			if _, err := conn.Exec(ctx, "nonsense"); !errors.As(err, &failed) || failed.Code != "08P01" {
				t.Errorf("nonsense: %v", err)
			}
			tx, err := conn.Begin(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if tag, err := tx.Exec(ctx, "RELOAD"); err != nil || tag.String() != "RELOAD" {
				t.Errorf("RELOAD in a transaction: %v, %v", tag, err)
			}
			if err := tx.Commit(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestDatabaseSQL goes the way most exporters go.
func TestDatabaseSQL(t *testing.T) {
	db, err := sql.Open("pgx", "postgres://admin@"+serve(t, newConsole(&fakePools{Pooler: emptyPools{}}, Options{Version: version}))+"/pgbouncer")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Ping(); err != nil {
		t.Errorf("Ping: %v", err)
	}
	var got string
	if err := db.QueryRow("SHOW VERSION").Scan(&got); err != nil || got != version {
		t.Errorf("SHOW VERSION: %q, %v", got, err)
	}
	rows, err := db.Query("SHOW STATE")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	if names, err := rows.Columns(); err != nil || strings.Join(names, " ") != "key value" {
		t.Errorf("columns %v, %v", names, err)
	}
	n := 0
	for rows.Next() {
		n++
	}
	if n != 3 || rows.Err() != nil {
		t.Errorf("%d rows, %v", n, rows.Err())
	}
}
