package integration

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgweir/pgweir/integration/pooler"
	"github.com/pgweir/pgweir/integration/postgres"
	"github.com/pgweir/pgweir/integration/sandbox"
)

// TestPasswordCommand logs in to servers with what a script prints: a token that
// changes while clients are there, as those of IAM do.
func TestPasswordCommand(t *testing.T) {
	begin(t)
	if suite.pgbouncer {
		t.Skip("PgBouncer has no password_command")
	}
	box, err := sandbox.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := box.Close(); err != nil {
			t.Error(err)
		}
	})
	db, err := postgres.Start(testContext(t), box, postgres.Options{
		HBA: "local all postgres trust\nhost all postgres all trust\nhost all all all scram-sha-256\n",
	})
	if err != nil {
		t.Fatal(err)
	}
	port := strconv.Itoa(db.Port)
	write := func(name, text string) string {
		t.Helper()
		path, err := suite.sandbox.WriteFile("command-"+name, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	// The token is in a file for each user; without the file the script fails,
	// and while there is a file "hang" it does not end.
	script := write("token.sh", `cd "$(dirname "$0")" || exit 3
test -e command-hang && exec sleep 1000
test "$PGHOST:$PGPORT:$PGDATABASE" = "127.0.0.1:`+port+`:postgres" || exit 4
cat "command-$PGUSER"
`)
	token := func(text string) {
		t.Helper()
		if err := db.Exec(testContext(t), "alter role worker password '"+text+"'"); err != nil {
			t.Fatal(err)
		}
		write("worker", text+"\n")
	}
	if err := db.Exec(testContext(t), "create role worker login"); err != nil {
		t.Fatal(err)
	}
	token("first-token")
	p := startPooler(t, pooler.Config{
		Settings: map[string]string{
			"pool_mode": "transaction", "server_lifetime": "0", "server_login_retry": "0.1", "server_connect_timeout": "60",
		},
		Databases: []string{
			"app = host=127.0.0.1 port=" + port + " dbname=postgres user=worker password_command='/bin/sh " + script + "'",
			"wrong = host=127.0.0.1 port=" + port + " dbname=postgres user=worker password_command='echo no-token'",
		},
		Userlist: map[string]string{user: ""},
	})
	told := func(text string) error { return unless(strings.Contains(p.Log(), text), "not yet") }
	set := func(value string) {
		t.Helper()
		if _, err := p.Console(testContext(t), "SET server_connect_timeout = "+value); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(what string) {
		t.Helper()
		var who string
		// Each transaction gets a new server: server_lifetime is 0.
		if err := connect(t, p, "app", pgx.QueryExecModeExec).QueryRow(testContext(t), "select current_user").Scan(&who); err != nil || who != "worker" {
			t.Errorf("%s: user %q, %v", what, who, err)
		}
	}
	ask("the first token")
	token("second-token")
	ask("the second token")

	// A command that fails makes clients wait, not fail.
	if err := os.Remove(suite.sandbox.Path("command-worker")); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	waiting := func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		conn, err := dial(ctx, p, "app", pgx.QueryExecModeExec)
		if err == nil {
			_, err = conn.Exec(ctx, "select 1")
			conn.Close(ctx)
		}
		served <- err
	}
	go waiting()
	eventually(t, "the log tells of the command", func() error {
		return told("password_command failed: exit status 1; PGHOST=127.0.0.1 PGPORT=" + port + " PGUSER=worker PGDATABASE=postgres")
	})
	token("third-token")
	if err := <-served; err != nil {
		t.Errorf("a client that waited for the command to work again: %v", err)
	}

	// One that hangs is killed when its time is over.
	set("0.2")
	write("hang", "")
	go waiting()
	eventually(t, "the log tells of the command", func() error {
		return told("password_command failed: it took longer than 200ms (server_connect_timeout); PGHOST=127.0.0.1")
	})
	if err := os.Remove(suite.sandbox.Path("command-hang")); err != nil {
		t.Fatal(err)
	}
	set("60")
	if err := <-served; err != nil {
		t.Errorf("a client that waited for the command to end: %v", err)
	}

	// A password that Postgres does not take is Postgres' word.
	ctx, cancel := context.WithTimeout(testContext(t), patience/2)
	defer cancel()
	_, err = dial(ctx, p, "wrong", pgx.QueryExecModeExec)
	var refused *pgconn.PgError
	if !errors.As(err, &refused) || refused.Code != "28P01" {
		t.Errorf("a wrong token: %v", err)
	}
	for _, secret := range []string{"first-token", "second-token", "third-token", "no-token"} {
		if strings.Contains(p.Log(), secret) {
			t.Errorf("the log has %q", secret)
		}
	}
}
