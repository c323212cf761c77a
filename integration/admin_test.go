package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// TestReloadUnderLoad changes the configuration again and again under clients
// that must not notice.
func TestReloadUnderLoad(t *testing.T) {
	begin(t)
	const largest = 30
	db := suite.postgres
	database := ownDatabase(t, db)
	p := startPooler(t, manyOverFew(db, database, nil))
	base := atRest(t, p, database)
	watch := watchLimit(t, db, largest, database)
	c := startCrowd(t, p, database, pgx.QueryExecModeExec, faultClients)
	for round := range 10 {
		next := manyOverFew(db, database, map[string]string{
			"default_pool_size": fmt.Sprint([]int{5, largest, 10}[round%3]),
			"query_timeout":     fmt.Sprint(30 + round),
		})
		next.Databases = append(next.Databases, entry(db, fmt.Sprintf("another%d", round)))
		next.Userlist[fmt.Sprintf("user%d", round)] = "secret"
		if err := p.Reload(testContext(t), next); err != nil {
			t.Fatal(err)
		}
		c.progress(t, fmt.Sprintf("reload %d", round), faultClients)
	}
	if err := c.stop(); err != nil {
		t.Error(err)
	}
	watch.stop(t)

	// A broken file changes nothing.
	broken := manyOverFew(db, database, map[string]string{"pool_mode": "rocket"})
	if err := p.Reload(testContext(t), broken); err == nil && !suite.pgbouncer {
		t.Error("RELOAD of a broken file succeeded")
	}
	c = startCrowd(t, p, database, pgx.QueryExecModeExec, faultClients)
	c.progress(t, "after a broken file", faultClients)
	if err := c.stop(); err != nil {
		t.Error(err)
	}
	if err := p.Reload(testContext(t), manyOverFew(db, database, nil)); err != nil {
		t.Error(err)
	}
	base.check(t)
}

// TestPauseUnderLoad stops and resumes the traffic: while it is paused Postgres
// has no connection, and no client ever sees an error.
func TestPauseUnderLoad(t *testing.T) {
	begin(t)
	db := suite.postgres
	database := ownDatabase(t, db)
	p := startPooler(t, manyOverFew(db, database, nil))
	base := atRest(t, p, database)
	conn, err := db.Connect(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(testContext(t))

	c := startCrowd(t, p, database, pgx.QueryExecModeExec, faultClients)
	for _, scope := range []string{"", " " + database, ""} {
		c.progress(t, "before PAUSE"+scope, faultClients)
		if _, err := p.Console(testContext(t), "PAUSE"+scope); err != nil {
			t.Fatal(err)
		}
		eventually(t, "no backend after PAUSE"+scope, func() error {
			var n int
			if err := conn.QueryRow(testContext(t), "select count(*) from pg_stat_activity where datname = $1", database).Scan(&n); err != nil {
				return err
			}
			if n > 0 {
				return fmt.Errorf("%d backends", n)
			}
			return nil
		})
		before := c.done.Load()
		<-time.After(100 * time.Millisecond) // time in which something could go wrong
		// What was answered before the pause may only now have been counted.
		if after := c.done.Load(); after > before+faultClients {
			t.Errorf("PAUSE%s: %d pieces of work were done while paused", scope, after-before)
		}
		if _, err := p.Console(testContext(t), "RESUME"+scope); err != nil {
			t.Fatal(err)
		}
	}
	c.progress(t, "after RESUME", 10*faultClients)
	if err := c.stop(); err != nil {
		t.Error(err)
	}
	base.check(t)
}
