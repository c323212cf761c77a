package integration

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgweir/pgweir/integration/pooler"
	"github.com/pgweir/pgweir/integration/sandbox"
)

// web is what a pooler answers over HTTP.
type web struct{ port int }

// get returns the status and the body of a path.
func (w web) get(path string) (int, string, error) {
	r, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d%s", w.port, path))
	if err != nil {
		return 0, "", err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	return r.StatusCode, string(body), err
}

// want checks what a path is answered with.
func (w web) want(t *testing.T, path string, status int, body string) {
	t.Helper()
	if gotStatus, got, err := w.get(path); err != nil || gotStatus != status || got != body {
		t.Errorf("%s: %d %q, %v; want %d %q", path, gotStatus, got, err, status, body)
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	port, err := sandbox.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// TestHTTP scrapes a pooler that has served a client, and shuts it down under
// another: /readyz says no from then on, and everything else goes on.
func TestHTTP(t *testing.T) {
	begin(t)
	if suite.pgbouncer {
		t.Skip("PgBouncer does not answer over HTTP")
	}
	db := suite.postgres
	database := ownDatabase(t, db)
	w := web{freePort(t)}
	p := startMortal(t, config(db, database, map[string]string{
		"http_listen": fmt.Sprintf("127.0.0.1:%d", w.port), "pool_mode": "transaction",
	}))
	conn := connect(t, p, database, pgx.QueryExecModeExec)
	for range 3 {
		if _, err := conn.Exec(testContext(t), "select 1"); err != nil {
			t.Fatal(err)
		}
	}
	w.want(t, "/healthz", http.StatusOK, "ok\n")
	w.want(t, "/readyz", http.StatusOK, "ok\n")
	of := fmt.Sprintf(`{database="%s",user="postgres"}`, database)
	wants := []string{
		"pgweir_ready 1",
		fmt.Sprintf(`pgweir_transactions_total{database="%s"} 3`, database),
		"pgweir_wait_seconds_count" + of + " 3",
		"pgweir_query_seconds_count" + of + " 3",
		"pgweir_transaction_seconds_count" + of + " 3",
		"pgweir_login_seconds_count" + of + " 1",
		"pgweir_connect_seconds_count" + of + " 1",
	}
	eventually(t, "metrics", func() error {
		_, body, err := w.get("/metrics")
		lines := strings.Split(body, "\n")
		for _, want := range wants {
			if !slices.Contains(lines, want) {
				err = errors.Join(err, errors.New("missing: "+want))
			}
		}
		return err
	})

	signal(t, p, syscall.SIGTERM)
	noNewcomers(t, p, database)
	w.want(t, "/readyz", http.StatusServiceUnavailable, "shutting down\n")
	w.want(t, "/healthz", http.StatusOK, "ok\n")
	if _, err := conn.Exec(testContext(t), "select 1"); err != nil {
		t.Error(err)
	}
	if err := conn.Close(testContext(t)); err != nil {
		t.Error(err)
	}
	ended(t, p, database)
	if _, _, err := w.get("/readyz"); err == nil {
		t.Error("somebody still answers")
	}
}

// TestHTTPAddressTaken: a pooler that can't answer where it should does not
// start, and says why, and which line is to blame.
func TestHTTPAddressTaken(t *testing.T) {
	begin(t)
	if suite.pgbouncer {
		t.Skip("PgBouncer does not answer over HTTP")
	}
	db := suite.postgres
	database := ownDatabase(t, db)
	first := startPooler(t, config(db, database, nil))
	taken := fmt.Sprintf("127.0.0.1:%d", first.Port)
	name := fmt.Sprintf("pooler%d", serial.Add(1))
	c := config(db, database, map[string]string{"http_listen": taken})
	c.Port = freePort(t)
	_, err := pooler.Start(testContext(t), suite.sandbox, name, suite.binary, c)
	want := regexp.MustCompile(`pooler\d+\.ini:\d+: http_listen: cannot listen on ` + taken + `: bind\(\): address already in use`)
	if err == nil || !want.MatchString(err.Error()) {
		t.Errorf("start: %v", err)
	}
}
