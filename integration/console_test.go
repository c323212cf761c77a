package integration

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgweir/pgweir/integration/pooler"
)

// shows are the SHOW commands that every pooler knows.
var shows = []string{
	"VERSION", "STATE", "CONFIG", "DATABASES", "POOLS", "CLIENTS", "SERVERS", "SOCKETS", "ACTIVE_SOCKETS", "USERS",
	"LISTS", "STATS", "STATS_TOTALS", "STATS_AVERAGES", "TOTALS", "MEM", "DNS_HOSTS", "DNS_ZONES", "PEERS", "PEER_POOLS",
}

// mayBeEmpty are those of them that have no rows here.
var mayBeEmpty = []string{"DNS_HOSTS", "DNS_ZONES", "PEERS", "PEER_POOLS"}

// TestConsoleUnderPsql types every SHOW into psql, while there is something to
// show.
func TestConsoleUnderPsql(t *testing.T) {
	begin(t)
	db := suite.postgres
	database := ownDatabase(t, db)
	p := startPooler(t, manyOverFew(db, database, nil))
	busy(t, p, database)
	for _, show := range shows {
		out, err := db.Psql(testContext(t), p.DSN(pooler.Admin, p.Password, "pgbouncer"), "-P", "tuples_only=off", "-c", "SHOW "+show)
		if err != nil {
			t.Errorf("SHOW %s: %v", show, err)
			continue
		}
		header, rows, _ := strings.Cut(out, "\n")
		if header == "" || rows == "" {
			t.Errorf("SHOW %s prints\n%s", show, out)
		}
	}
}

// busy has a client hold a server until the end of the test.
func busy(t *testing.T, p *pooler.Pooler, database string) {
	t.Helper()
	if _, err := connect(t, p, database, pgx.QueryExecModeExec).Begin(testContext(t)); err != nil {
		t.Fatal(err)
	}
}

// TestConsoleUnderDrivers asks by the extended protocol, as drivers do whether
// one likes it or not.
func TestConsoleUnderDrivers(t *testing.T) {
	begin(t)
	db := suite.postgres
	database := ownDatabase(t, db)
	p := startPooler(t, manyOverFew(db, database, nil))
	if suite.pgbouncer {
		t.Skip("PgBouncer's console knows the simple protocol only")
	}
	busy(t, p, database)
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		config, err := pgx.ParseConfig(p.DSN(pooler.Admin, p.Password, "pgbouncer"))
		if err != nil {
			t.Fatal(err)
		}
		config.DefaultQueryExecMode = mode
		conn, err := pgx.ConnectConfig(testContext(t), config)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background())
		for _, show := range shows {
			rows, err := conn.Query(testContext(t), "SHOW "+show)
			if err != nil {
				t.Errorf("%v: SHOW %s: %v", mode, show, err)
				continue
			}
			all, err := pgx.CollectRows(rows, pgx.RowToMap)
			if err != nil {
				t.Errorf("%v: SHOW %s: %v", mode, show, err)
			} else if len(all) == 0 && !slices.Contains(mayBeEmpty, show) {
				t.Errorf("%v: SHOW %s: no rows", mode, show)
			}
		}
		if _, err := conn.Exec(testContext(t), "SHOW NOTHING"); err == nil {
			t.Errorf("%v: SHOW NOTHING succeeded", mode)
		}
		if _, err := conn.Exec(testContext(t), "SHOW VERSION"); err != nil {
			t.Errorf("%v: after an error: %v", mode, err)
		}
	}
}
