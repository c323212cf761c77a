package integration

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// TestNames has a server's host be a name: it is looked up, shown, and found at
// whichever of its addresses the server listens.
func TestNames(t *testing.T) {
	begin(t)
	db := suite.postgres
	database := ownDatabase(t, db)
	c := config(db, database, map[string]string{"pool_mode": "transaction"})
	c.Databases = []string{strings.Replace(entry(db, database), "host="+db.Host, "host=localhost", 1)}
	p := startPooler(t, c)
	for range 3 {
		conn := connect(t, p, database, pgx.QueryExecModeExec)
		tx, err := conn.Begin(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(testContext(t), "select 1"); err != nil {
			t.Error(err)
		}
	}
	rows, err := p.Console(testContext(t), "SHOW DNS_HOSTS")
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 1 || rows[0]["hostname"] != "localhost" || !strings.Contains(rows[0]["addrs"], "127.0.0.1:0") {
		t.Errorf("SHOW DNS_HOSTS: %v", rows)
	}
}
