package integration

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgweir/pgweir/integration/postgres"
	"github.com/pgweir/pgweir/integration/sandbox"
)

// startExec starts `pgweir exec` for the app of a database.
func startExec(t *testing.T, db *postgres.Cluster, database string, args ...string) *sandbox.Process {
	t.Helper()
	if suite.pgbouncer {
		t.Skip("PgBouncer has no exec")
	}
	p, err := suite.sandbox.Start(sandbox.Command{
		Path: suite.binary, Args: append([]string{"exec"}, args...), Name: fmt.Sprintf("exec%d", serial.Add(1)),
		Env: []string{"DATABASE_URL=" + db.DSN(postgres.Superuser, database), "PGWEIR_BIN=", "PGWEIR_PG_BIN=", "PGWEIR_BUILD="},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil && p.Err() == nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the log of pgweir exec ends:\n%s", lastLines(p.Log(), 60))
		}
	})
	return p
}

// logs waits until the log of p has text.
func logs(t *testing.T, p *sandbox.Process, text string) {
	t.Helper()
	if err := p.Await(testContext(t), func(context.Context) error {
		if !strings.Contains(p.Log(), text) {
			return fmt.Errorf("no %q in the log", text)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// exits checks the exit status of p.
func exits(t *testing.T, p *sandbox.Process, want int) {
	t.Helper()
	select {
	case <-p.Done():
	case <-testContext(t).Done():
		t.Fatal("pgweir exec has not ended")
	}
	var status int
	var failed *exec.ExitError
	if errors.As(p.Err(), &failed) {
		status = failed.ExitCode()
	}
	if status != want {
		t.Errorf("exit status %d, want %d", status, want)
	}
}

// TestExecTransaction has SIGTERM come to all processes in the middle of a
// transaction, as in a dyno: it comes to its end.
func TestExecTransaction(t *testing.T) {
	begin(t)
	psql, err := suite.postgres.Install.Tool("psql")
	if err != nil {
		t.Fatal(err)
	}
	database := ownDatabase(t, suite.postgres)
	holder, err := dialURL(testContext(t), suite.postgres.DSN(postgres.Superuser, database), pgx.QueryExecModeExec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { holder.Close(context.Background()) })
	if _, err := holder.Exec(testContext(t), "select pg_advisory_lock(1)"); err != nil {
		t.Fatal(err)
	}
	const script = `trap "" TERM; "$0" -XqAt -d "$DATABASE_URL" -c "begin; create table kept (a int); select pg_advisory_xact_lock(1); commit" && exit 7`
	p := startExec(t, suite.postgres, database, "--", "sh", "-c", script, psql)
	waiting := func() (n int) {
		t.Helper()
		const sql = "select count(*) from pg_locks where locktype = 'advisory' and not granted and database = (select oid from pg_database where datname = current_database())"
		if err := holder.QueryRow(testContext(t), sql).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if err := p.Await(testContext(t), func(context.Context) error {
		if waiting() == 0 {
			return errors.New("the transaction does not wait")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	logs(t, p, "got SIGTERM, serving until sh has ended")
	if waiting() != 1 {
		t.Error("the transaction was ended")
	}
	if _, err := holder.Exec(testContext(t), "select pg_advisory_unlock(1)"); err != nil {
		t.Fatal(err)
	}
	exits(t, p, 7)
	if _, err := holder.Exec(testContext(t), "select from kept"); err != nil {
		t.Errorf("the transaction was not committed: %v", err)
	}
}

// TestExecDatabaseLate starts the app when its database is there, and not before.
func TestExecDatabaseLate(t *testing.T) {
	begin(t)
	db := ownPostgres(t)
	if err := db.Stop(); err != nil {
		t.Fatal(err)
	}
	psql, err := db.Install.Tool("psql")
	if err != nil {
		t.Fatal(err)
	}
	p := startExec(t, db, postgres.Database, "--", "sh", "-c", `"$0" -XqAt -d "$DATABASE_URL" -c "select 'through ' || 'the pooler'"`, psql)
	logs(t, p, "waiting for an answer of DATABASE_URL")
	if strings.Contains(p.Log(), "started sh") {
		t.Error("the app was started without its database")
	}
	if err := db.Restart(testContext(t)); err != nil {
		t.Fatal(err)
	}
	exits(t, p, 0)
	for _, text := range []string{"ready on 127.0.0.1:", "\nthrough the pooler\n"} {
		if !strings.Contains(p.Log(), text) {
			t.Errorf("no %q in the log", text)
		}
	}
}
