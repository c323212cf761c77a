package integration

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgweir/pgweir/integration/pooler"
	"github.com/pgweir/pgweir/integration/postgres"
	"github.com/pgweir/pgweir/integration/sandbox"
)

// suite is what all tests share: one Postgres, which no test may stop or
// reconfigure, and the pooler's program.
var suite struct {
	sandbox  *sandbox.Sandbox
	postgres *postgres.Cluster
	binary   string

	// pgbouncer is set when the suite runs on a PgBouncer, to see whether the
	// tests themselves are right.
	pgbouncer bool
}

func TestMain(m *testing.M) {
	code := m.Run()
	if suite.sandbox != nil {
		if err := suite.sandbox.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "integration:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// setUp makes what the tests share. It runs within the first test, not in
// TestMain, because `go test` keeps no account of what is read there and would
// take results from its cache that hold no more.
var setUp = sync.OnceValue(func() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*patience) // pgweir may have to be built from nothing
	defer cancel()
	var err error
	if suite.sandbox, err = sandbox.New(); err != nil {
		return err
	}
	if suite.binary, err = pooler.Binary(ctx, suite.sandbox); err != nil {
		return err
	}
	version, err := suite.sandbox.Run(ctx, sandbox.Command{Path: suite.binary, Args: []string{"--version"}})
	if err != nil {
		return err
	}
	suite.pgbouncer = !strings.Contains(version, "pgweir")
	suite.postgres, err = postgres.Start(ctx, suite.sandbox, manyConnections)
	return err
})

// begin is the first line of every test: it sets the suite up if no other test
// has, and lets the test run beside the others.
func begin(t *testing.T) {
	t.Helper()
	if err := setUp(); err != nil {
		t.Fatal(err)
	}
	t.Parallel()
}

var manyConnections = postgres.Options{Settings: map[string]string{"max_connections": "400"}}

// patience bounds whatever a test waits for. It is long, because it is only
// ever used up by a test that fails.
const patience = 2 * time.Minute

// testContext ends with the test, or with patience.
func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// ownPostgres starts a cluster that the test may stop, crash and reconfigure.
func ownPostgres(t *testing.T) *postgres.Cluster {
	t.Helper()
	return ownPostgresWith(t, manyConnections)
}

// ownPostgresWith is ownPostgres with other options.
func ownPostgresWith(t *testing.T, o postgres.Options) *postgres.Cluster {
	t.Helper()
	s, err := sandbox.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	db, err := postgres.Start(testContext(t), s, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the log of Postgres ends:\n%s", lastLines(db.Log(), 20))
		}
	})
	return db
}

// serial makes names unique within the suite.
var serial atomic.Int64

// ownDatabase makes a database of the test's own and returns its name.
func ownDatabase(t *testing.T, db *postgres.Cluster) string {
	t.Helper()
	name := fmt.Sprintf("db%d", serial.Add(1))
	if err := db.Exec(testContext(t), "create database "+name); err != nil {
		t.Fatal(err)
	}
	return name
}

// user is whom the clients of the tests log in as.
const user = "app"

// entry is the [databases] line that leads clients to a database, as the
// superuser.
func entry(db *postgres.Cluster, database string, more ...string) string {
	return fmt.Sprintf("%s = host=%s port=%d user=%s %s", database, db.Host, db.Port, postgres.Superuser, strings.Join(more, " "))
}

// config is a pooler's configuration for one database.
func config(db *postgres.Cluster, database string, settings map[string]string) pooler.Config {
	return pooler.Config{
		Settings:  settings,
		Databases: []string{entry(db, database)},
		Userlist:  map[string]string{user: ""},
	}
}

// startPooler starts a pooler that ends with the test, and not before. When the
// test has failed, the pooler's log is printed. The environment env is added to
// the test's.
func startPooler(t *testing.T, c pooler.Config, env ...string) *pooler.Pooler {
	t.Helper()
	p := startMortal(t, c, env...)
	t.Cleanup(func() {
		select {
		case <-p.Done():
			t.Errorf("the pooler ended by itself: %v", p.Err())
		default:
		}
	})
	return p
}

// startMortal starts a pooler that the test may end.
func startMortal(t *testing.T, c pooler.Config, env ...string) *pooler.Pooler {
	t.Helper()
	name := fmt.Sprintf("pooler%d", serial.Add(1))
	p, err := pooler.Start(testContext(t), suite.sandbox, name, suite.binary, c, env...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
		for _, trouble := range []string{"DATA RACE", "panic:"} {
			if _, rest, found := strings.Cut(p.Log(), trouble); found {
				t.Errorf("the pooler's log tells of a %s%s", trouble, head(rest, 60))
			}
		}
		if t.Failed() {
			t.Logf("the pooler's log ends:\n%s", lastLines(p.Log(), 60))
		}
	})
	return p
}

// wantUntold checks that p's log tells none of the secrets, nor what is stored
// or sent in their place.
func wantUntold(t *testing.T, p *pooler.Pooler, secrets ...string) {
	t.Helper()
	log := p.Log()
	for _, secret := range append(secrets, p.Password) {
		if strings.Contains(log, secret) {
			t.Errorf("the log tells %q", secret)
		}
	}
	if found := digests.FindString(log); found != "" {
		t.Errorf("the log tells %q", found)
	}
}

var digests = regexp.MustCompile(`md5[0-9a-f]{32}|SCRAM-SHA-256\$|[A-Za-z0-9+/]{43}=`)

// set sets a setting on the console. A timeout that shall run out is set when its
// time has come: until then a slow machine may take as long as it likes.
func set(t *testing.T, p *pooler.Pooler, setting, value string) {
	t.Helper()
	if _, err := p.Console(testContext(t), "SET "+setting+" = "+value); err != nil {
		t.Fatal(err)
	}
}

func head(text string, n int) string {
	lines := strings.Split(text, "\n")
	return strings.Join(lines[:min(n, len(lines))], "\n")
}

func lastLines(text string, n int) string {
	lines := strings.Split(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// connect opens a connection through the pooler that ends with the test. Its
// statements are unnamed, or simple: a transaction pool takes both.
func connect(t *testing.T, p *pooler.Pooler, database string, mode pgx.QueryExecMode) *pgx.Conn {
	t.Helper()
	conn, err := dial(testContext(t), p, database, mode)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func dial(ctx context.Context, p *pooler.Pooler, database string, mode pgx.QueryExecMode) (*pgx.Conn, error) {
	return dialURL(ctx, p.DSN(user, "", database), mode)
}

func dialURL(ctx context.Context, url string, mode pgx.QueryExecMode) (*pgx.Conn, error) {
	c, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	c.DefaultQueryExecMode = mode
	return pgx.ConnectConfig(ctx, c)
}

// eventually calls check until it returns nil.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience / 2); ; <-tick.C {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// strict is a Postgres of the test's own that asks for passwords over TCP, by
// SCRAM, with the roles that the SQL makes.
func strict(t *testing.T, roles string) *postgres.Cluster {
	t.Helper()
	s, err := sandbox.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	db, err := postgres.Start(testContext(t), s, postgres.Options{HBA: "local all all trust\nhost all all all scram-sha-256\n"})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Exec(testContext(t), roles); err != nil {
		t.Fatal(err)
	}
	return db
}
