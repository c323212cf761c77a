package integration

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgweir/pgweir/integration/pooler"
)

// draining starts a pooler that drains at SIGTERM, and says how it is on w.
func draining(t *testing.T, grace string) (p *pooler.Pooler, database string, w web) {
	t.Helper()
	if suite.pgbouncer {
		t.Skip("PgBouncer has no drain")
	}
	database = ownDatabase(t, suite.postgres)
	w = web{freePort(t)}
	p = startMortal(t, manyOverFew(suite.postgres, database, map[string]string{
		"http_listen":   fmt.Sprintf("127.0.0.1:%d", w.port),
		"sigterm_mode":  "drain",
		"sigterm_grace": grace,
	}))
	return p, database, w
}

// toldToGo waits for the word that ends conn.
func toldToGo(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	_, err := conn.PgConn().ReceiveMessage(testContext(t))
	var told *pgconn.PgError
	if !errors.As(err, &told) || told.Code != "57P01" {
		t.Errorf("told %v, want 57P01", err)
	}
}

// TestDrain sends clients away, but lets a transaction come to its end.
func TestDrain(t *testing.T) {
	begin(t)
	p, database, w := draining(t, "20")
	idle := connect(t, p, database, pgx.QueryExecModeExec)
	busy := connect(t, p, database, pgx.QueryExecModeExec)
	tx, err := busy.Begin(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	w.want(t, "/readyz", http.StatusOK, "ok\n")
	signal(t, p, syscall.SIGTERM)
	noNewcomers(t, p, database)
	w.want(t, "/readyz", http.StatusServiceUnavailable, "shutting down\n")
	for _, sql := range []string{"create table kept (a int)", "insert into kept values (1)"} {
		if _, err := tx.Exec(testContext(t), sql); err != nil {
			t.Errorf("in a transaction from before SIGTERM: %v", err)
		}
	}
	if err := tx.Commit(testContext(t)); err != nil {
		t.Errorf("the end of a transaction from before SIGTERM: %v", err)
	}
	toldToGo(t, idle)
	toldToGo(t, busy)
	ended(t, p, database)
	if strings.Contains(p.Log(), "clients cut") {
		t.Error("clients were cut")
	}
}

// TestDrainIsOver cuts who does not come to an end, and says so.
func TestDrainIsOver(t *testing.T) {
	begin(t)
	p, database, _ := draining(t, "1")
	conn := connect(t, p, database, pgx.QueryExecModeExec)
	if _, err := conn.Begin(testContext(t)); err != nil {
		t.Fatal(err)
	}
	signal(t, p, syscall.SIGTERM)
	toldToGo(t, conn)
	ended(t, p, database)
	if want := "the grace period of 1s is over; clients cut: 1, of these in a transaction: 1"; !strings.Contains(p.Log(), want) {
		t.Errorf("no %q in the log", want)
	}
}
