package integration

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	_ "github.com/lib/pq"

	"github.com/jackc/pgx/v5"

	"github.com/pgweir/pgweir/integration/pooler"
)

// exported is what the exporter for PgBouncer (pgbouncer_exporter 0.11) makes of
// the console: for each SHOW, the columns that it reads as numbers, with the
// metrics' names, and those that it makes labels of.
var exported = []struct {
	show    string
	labels  []string
	metrics map[string]string
}{
	{"databases", []string{"name", "host", "port", "database", "force_user", "pool_mode"}, map[string]string{
		"pool_size": "pool_size", "reserve_pool": "reserve_pool", "max_connections": "max_connections",
		"current_connections": "current_connections", "paused": "paused", "disabled": "disabled",
	}},
	{"stats_totals", []string{"database"}, map[string]string{
		"query_count": "queries_pooled_total", "query_time": "queries_duration_seconds_total",
		"bytes_received": "received_bytes_total", "requests": "queries_total", "bytes_sent": "sent_bytes_total",
		"wait_time": "client_wait_seconds_total", "xact_count": "sql_transactions_pooled_total",
		"xact_time": "server_in_transaction_seconds_total", "client_parse_count": "client_parses_total",
		"server_parse_count": "server_parses_total", "bind_count": "binds_total",
	}},
	{"pools", []string{"database", "user"}, map[string]string{
		"cl_active": "client_active_connections", "cl_active_cancel_req": "client_active_cancel_connections",
		"cl_waiting": "client_waiting_connections", "cl_waiting_cancel_req": "client_waiting_cancel_connections",
		"sv_active": "server_active_connections", "sv_active_cancel": "server_active_cancel_connections",
		"sv_being_canceled": "server_being_canceled_connections", "sv_idle": "server_idle_connections",
		"sv_used": "server_used_connections", "sv_tested": "server_testing_connections",
		"sv_login": "server_login_connections", "maxwait": "client_maxwait_seconds",
	}},
}

// TestExporter asks the exporter's questions, with its driver, and compares the
// metrics that it would tell with those that it tells of Debian's PgBouncer
// (1.18), which are in testdata/exporter.txt: none is missing. With
// PGWEIR_BIN=/usr/sbin/pgbouncer it is that file that is tested.
func TestExporter(t *testing.T) {
	begin(t)
	db := suite.postgres
	database := ownDatabase(t, db)
	p := startPooler(t, config(db, database, map[string]string{"ignore_startup_parameters": "extra_float_digits"}))
	conn := connect(t, p, database, pgx.QueryExecModeExec)
	if _, err := conn.Exec(testContext(t), "select 1"); err != nil {
		t.Fatal(err)
	}
	url := fmt.Sprintf("postgres://%s:%s@%s:%d/pgbouncer?sslmode=disable", pooler.Admin, p.Password, p.Host, p.Port)
	console, err := sql.Open("postgres", url)
	if err != nil {
		t.Fatal(err)
	}
	defer console.Close()
	console.SetMaxOpenConns(1)

	set := map[string]bool{}
	ctx := testContext(t)
	var version string
	if err := console.QueryRowContext(ctx, "SHOW VERSION;").Scan(&version); err != nil || !strings.HasPrefix(version, "PgBouncer 1.") {
		t.Errorf("version %q, %v", version, err)
	}
	for _, e := range exported {
		for _, r := range showRows(ctx, t, console, e.show) {
			for _, label := range e.labels {
				switch r[label].(type) {
				case nil, int64, string:
				default:
					t.Errorf("SHOW %s: the exporter makes no label of a %T: %s", e.show, r[label], label)
				}
			}
			for column, metric := range e.metrics {
				if v, ok := r[column]; ok {
					if !isNumber(v) {
						t.Errorf("SHOW %s: %s is %q, and no number", e.show, column, v)
					}
					set[fmt.Sprintf("pgbouncer_%s_%s{%s}", e.show, metric, strings.Join(e.labels, ","))] = true
				}
			}
		}
	}
	for _, r := range showRows(ctx, t, console, "lists") {
		if !isNumber(r["items"]) {
			t.Errorf("SHOW LISTS: %v", r)
		}
		set[fmt.Sprintf("pgbouncer lists: %s", r["list"])] = true
	}
	for _, r := range showRows(ctx, t, console, "config") {
		if key := fmt.Sprint(r["key"]); key == "max_client_conn" || key == "max_user_connections" {
			if !isNumber(r["value"]) || len(r) != 4 {
				t.Errorf("SHOW CONFIG: %v", r)
			}
			set["pgbouncer_config: "+key] = true
		}
	}

	want, err := os.ReadFile(filepath.Join("testdata", "exporter.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.Lines(string(want)) {
		if name = strings.TrimSpace(name); !set[name] && name != renamed {
			t.Errorf("missing: %s", name)
		}
	}
	if suite.pgbouncer {
		if all := slices.Sorted(maps.Keys(set)); strings.Join(all, "\n")+"\n" != string(want) {
			t.Errorf("this PgBouncer has\n%s", strings.Join(all, "\n"))
		}
	}
}

// renamed is told of PgBouncers before 1.24 only: their column reserve_pool is
// reserve_pool_size since then, and here.
const renamed = "pgbouncer_databases_reserve_pool{name,host,port,database,force_user,pool_mode}"

// showRows returns the rows of a SHOW, by column.
func showRows(ctx context.Context, t *testing.T, db *sql.DB, show string) (all []map[string]any) {
	t.Helper()
	rows, err := db.QueryContext(ctx, "SHOW "+show+";")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		cells := make([]any, len(columns))
		into := make([]any, len(columns))
		for i := range cells {
			into[i] = &cells[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		r := map[string]any{}
		for i, name := range columns {
			r[name] = cells[i]
		}
		all = append(all, r)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Errorf("SHOW %s: no rows", show)
	}
	return all
}

// isNumber reports whether the exporter can read v.
func isNumber(v any) bool {
	switch v := v.(type) {
	case nil, int64, float64:
		return true
	case string:
		_, err := strconv.ParseFloat(v, 64)
		return err == nil
	case []byte:
		_, err := strconv.ParseFloat(string(v), 64)
		return err == nil
	}
	return false
}
