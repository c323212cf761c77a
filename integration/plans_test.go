package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pgweir/pgweir/integration/load"
	"github.com/pgweir/pgweir/integration/pooler"
)

// TestPlan has 40 pools, each of which may have 20 servers, share the 20
// connections of a role: Postgres would refuse one more. It never sees one, no
// client fails, and each pool gets its share, of queries that take their time and
// of those that take the processor's. PLAN_SECONDS is how long that goes on.
func TestPlan(t *testing.T) {
	begin(t)
	if suite.pgbouncer {
		t.Skip("PgBouncer knows no plans")
	}
	for name, query := range map[string]string{
		"slow":  "select pg_sleep(0.005)",
		"quick": "select 1",
		"mixed": "select pg_sleep(case when random() < 0.1 then 0.03 else 0 end)",
	} {
		t.Run(name, func(t *testing.T) { sharePlan(t, query) })
	}
}

func sharePlan(t *testing.T, query string) {
	const pools, limit, clients = 40, 20, 4
	seconds := 4
	if text := os.Getenv("PLAN_SECONDS"); text != "" {
		var err error
		if seconds, err = strconv.Atoi(text); err != nil {
			t.Fatal("PLAN_SECONDS: ", err)
		}
	}
	db := suite.postgres
	role := ownRole(t, limit)
	database := ownDatabase(t, db)
	c := pooler.Config{
		Settings: map[string]string{"pool_mode": "transaction", "max_client_conn": "1000", "plan": "auto"},
		Userlist: map[string]string{role: ""},
	}
	var names []string
	for i := range pools {
		name := fmt.Sprintf("tenant%d", i)
		names = append(names, name)
		c.Databases = append(c.Databases, fmt.Sprintf("%s = host=%s port=%d dbname=%s pool_size=20", name, db.Host, db.Port, database))
	}
	p := startPooler(t, c)
	watch := watchStrictly(t, db, limit, database)

	var served [pools]atomic.Int64
	var stop atomic.Bool
	ctx, cancel := context.WithTimeout(context.Background(), patience+time.Duration(seconds)*time.Second)
	defer cancel()
	var crowd sync.WaitGroup
	failed := make(chan error, pools*clients)
	work := func(i int) error {
		client, err := load.Dial(ctx, load.Login{Address: fmt.Sprintf("%s:%d", p.Host, p.Port), User: role, Database: names[i]})
		if err != nil {
			return err
		}
		defer client.Close()
		for !stop.Load() {
			if _, err := client.Query(query); err != nil {
				return err
			}
			served[i].Add(1)
		}
		return nil
	}
	for i, name := range names {
		for range clients {
			crowd.Go(func() {
				if err := work(i); err != nil {
					failed <- fmt.Errorf("%s: %w", name, err)
				}
			})
		}
	}
	eventually(t, "each pool is served", func() error {
		for i := range served {
			if served[i].Load() == 0 {
				return errors.New(names[i] + " is not")
			}
		}
		return nil
	})
	var before [pools]int64
	for i := range served {
		before[i] = served[i].Load()
	}
	time.Sleep(time.Duration(seconds) * time.Second) // the load is what is measured
	var sum, squares float64
	for i := range served {
		n := float64(served[i].Load() - before[i])
		sum += n
		squares += n * n
	}
	plans, err := p.Console(testContext(t), "SHOW PLANS")
	if err != nil {
		t.Fatal(err)
	}
	stop.Store(true)
	crowd.Wait()
	close(failed)
	for err := range failed {
		t.Error(err)
	}
	watch.stop(t)
	fair := 0.95
	if seconds < 30 { // a few turns of each pool, on a machine that has other things to do: only that none starves
		fair = 0.5
	}
	if jain := sum * sum / (pools * squares); jain < fair {
		t.Errorf("Jain's index of what the pools were served is %.3f", jain)
	} else {
		t.Logf("%.0f queries a second, Jain's index %.3f, at most %d connections", sum/float64(seconds), jain, watch.seen())
	}
	found := false
	for _, row := range plans {
		if row["name"] == role+"@"+fmt.Sprintf("%s:%d", db.Host, db.Port) {
			found = true
			if row["limit"] != strconv.Itoa(limit) || row["source"] != "role" {
				t.Errorf("SHOW PLANS: %v", row)
			}
		}
	}
	if !found {
		t.Error("SHOW PLANS does not know the role's limit")
	}
}

// ownRole makes a role of the test's own, which may have so many connections.
func ownRole(t *testing.T, limit int) string {
	t.Helper()
	role := fmt.Sprintf("role%d", serial.Add(1))
	if err := suite.postgres.Exec(testContext(t), fmt.Sprintf("create role %s login connection limit %d", role, limit)); err != nil {
		t.Fatal(err)
	}
	return role
}

// TestPlanReload: a RELOAD that shrinks a plan, or gives one to entries whose
// servers are open, closes what is beyond it between transactions; no client
// notices, and from then on there are never more.
func TestPlanReload(t *testing.T) {
	begin(t)
	if suite.pgbouncer {
		t.Skip("PgBouncer knows no plans")
	}
	db := suite.postgres
	database := ownDatabase(t, db)
	plan := func(name string, most int) pooler.Config {
		return pooler.Config{
			Settings:  map[string]string{"pool_mode": "transaction", "plan": name, "default_pool_size": "6", "loops": strconv.Itoa(manyLoops)},
			Userlist:  map[string]string{user: ""},
			Databases: []string{entry(db, "one", "dbname="+database), entry(db, "two", "dbname="+database)},
			Plans:     []string{fmt.Sprintf("gold = max_server_connections=%d", most)},
		}
	}
	p := startMortal(t, plan("gold", 8))
	conn, err := db.Connect(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	backends := func(want int) {
		t.Helper()
		eventually(t, fmt.Sprintf("%d servers", want), func() (err error) {
			var n int
			const query = "select count(*) from pg_stat_activity where backend_type = 'client backend' and datname = $1"
			if err = conn.QueryRow(testContext(t), query, database).Scan(&n); err == nil && n != want {
				err = fmt.Errorf("there are %d", n)
			}
			return err
		})
	}
	all := startMixedCrowd(t, []string{p.DSN(user, "", "one"), p.DSN(user, "", "two")}, pgx.QueryExecModeExec, 24)
	backends(8)
	for _, step := range []struct {
		plan  string
		most  int
		wants int
	}{
		{"gold", 3, 3},
		{"gold", 7, 7},
		{"none", 7, 12}, // both pools are full
		{"gold", 5, 5},  // which were open before there was a plan
	} {
		if err := p.Reload(testContext(t), plan(step.plan, step.most)); err != nil {
			t.Fatal(err)
		}
		backends(step.wants)
		watch := watchStrictly(t, db, step.wants, database)
		all.progress(t, "everybody's work", 300)
		watch.stop(t)
	}
	if err := all.stop(); err != nil {
		t.Error(err)
	}
}

// TestFullServer: without a plan too clients wait while Postgres has no room for
// them.
func TestFullServer(t *testing.T) {
	begin(t)
	if suite.pgbouncer {
		t.Skip("PgBouncer passes the refusal on")
	}
	db := suite.postgres
	role := ownRole(t, 1)
	database := ownDatabase(t, db)
	p := startPooler(t, pooler.Config{
		Settings:  map[string]string{"pool_mode": "transaction"},
		Userlist:  map[string]string{role: ""},
		Databases: []string{fmt.Sprintf("%s = host=%s port=%d", database, db.Host, db.Port)},
	})
	other, err := pgx.Connect(testContext(t), db.DSN(role, database))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(context.Background())
	done := make(chan error, 1)
	go func() {
		conn, err := dialURL(testContext(t), p.DSN(role, "", database), pgx.QueryExecModeSimpleProtocol)
		if err == nil {
			_, err = conn.Exec(testContext(t), "select 1")
			conn.Close(context.Background())
		}
		done <- err
	}()
	eventually(t, "the login is refused", func() error {
		if !strings.Contains(p.Log(), "clients wait") {
			return errors.New("not yet")
		}
		return nil
	})
	if err := other.Close(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestTenants: a client beyond its tenant's plan is told so, and others are let in.
func TestTenants(t *testing.T) {
	begin(t)
	if suite.pgbouncer {
		t.Skip("PgBouncer knows no plans")
	}
	db := suite.postgres
	database := ownDatabase(t, db)
	p := startPooler(t, pooler.Config{
		Settings: map[string]string{"pool_mode": "transaction"},
		Userlist: map[string]string{user: ""},
		Databases: []string{
			entry(db, "acme", "dbname="+database, "plan=gold"),
			entry(db, "tiny", "dbname="+database, "plan=free"),
		},
		Plans: []string{
			"gold = max_server_connections=10 max_client_connections=100",
			"free = max_server_connections=2 max_client_connections=3",
		},
	})
	for range 3 {
		connect(t, p, "tiny", pgx.QueryExecModeExec)
	}
	_, err := dial(testContext(t), p, "tiny", pgx.QueryExecModeExec)
	var pgErr *pgconn.PgError
	const want = `too many connections for plan "free" (limit 3 clients)`
	if !errors.As(err, &pgErr) || pgErr.Code != "53300" || pgErr.Message != want {
		t.Errorf("client 4: %v, want %s", err, want)
	}
	connect(t, p, "acme", pgx.QueryExecModeExec)
}
