package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgweir/pgweir/integration/pooler"
)

// mortal starts a pooler that a signal shall end, with a client in it.
func mortal(t *testing.T) (p *pooler.Pooler, database string, conn *pgx.Conn) {
	t.Helper()
	db := suite.postgres
	database = ownDatabase(t, db)
	p = startMortal(t, manyOverFew(db, database, map[string]string{
		"pidfile": suite.sandbox.Path(database + ".pid"),
	}))
	if suite.pgbouncer {
		t.Skip("the signals of PgBouncer before 1.23 mean something else")
	}
	conn = connect(t, p, database, pgx.QueryExecModeExec)
	if _, err := conn.Exec(testContext(t), "select 1"); err != nil {
		t.Fatal(err)
	}
	return p, database, conn
}

// ended waits for the end of p and wants it to be a good one, with nothing left
// on the file system.
func ended(t *testing.T, p *pooler.Pooler, database string) {
	t.Helper()
	select {
	case <-p.Done():
	case <-testContext(t).Done():
		t.Fatal("the pooler goes on")
	}
	if err := p.Err(); err != nil {
		t.Errorf("the pooler ended by %v, want exit status 0", err)
	}
	sockets, err := filepath.Glob(p.Socket + "/.s.PGSQL.*")
	if err != nil || len(sockets) > 0 {
		t.Errorf("unix sockets left: %v %v", sockets, err)
	}
	if _, err := os.Stat(suite.sandbox.Path(database + ".pid")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the pidfile is still there: %v", err)
	}
}

func signal(t *testing.T, p *pooler.Pooler, sig syscall.Signal) {
	t.Helper()
	if err := p.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// noNewcomers waits until p takes no client any more.
func noNewcomers(t *testing.T, p *pooler.Pooler, database string) {
	t.Helper()
	eventually(t, "no newcomers", func() error {
		conn, err := dial(testContext(t), p, database, pgx.QueryExecModeExec)
		if err == nil {
			return errors.Join(errors.New("a client came in"), conn.Close(testContext(t)))
		}
		return nil
	})
}

// TestSIGTERM serves the clients that are there, to their end.
func TestSIGTERM(t *testing.T) {
	begin(t)
	p, database, conn := mortal(t)
	signal(t, p, syscall.SIGTERM)
	noNewcomers(t, p, database)
	for range 10 {
		if _, err := conn.Exec(testContext(t), "select 1"); err != nil {
			t.Fatalf("a client that was there before SIGTERM: %v", err)
		}
	}
	if err := conn.Close(testContext(t)); err != nil {
		t.Fatal(err)
	}
	ended(t, p, database)
}

// TestSIGINT lets transactions end, and nothing begin.
func TestSIGINT(t *testing.T) {
	begin(t)
	p, database, conn := mortal(t)
	tx, err := conn.Begin(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	idle := connect(t, p, database, pgx.QueryExecModeExec)
	signal(t, p, syscall.SIGINT)
	noNewcomers(t, p, database)
	if _, err := idle.Exec(testContext(t), "select 1"); err == nil || !strings.Contains(err.Error(), "server shutting down") {
		t.Errorf("a query after SIGINT: %v, want that the server is shutting down", err)
	}
	if _, err := tx.Exec(testContext(t), "select 1"); err != nil {
		t.Errorf("a transaction from before SIGINT: %v", err)
	}
	if err := tx.Commit(testContext(t)); err != nil {
		t.Errorf("a transaction from before SIGINT: %v", err)
	}
	ended(t, p, database)
}

// TestSecondSignal ends it all at once, whatever the clients do.
func TestSecondSignal(t *testing.T) {
	begin(t)
	for _, signals := range [][]syscall.Signal{
		{syscall.SIGTERM, syscall.SIGTERM},
		{syscall.SIGINT, syscall.SIGINT},
		{syscall.SIGTERM, syscall.SIGINT},
		{syscall.SIGQUIT},
	} {
		t.Run(fmt.Sprint(signals), func(t *testing.T) {
			t.Parallel()
			p, database, conn := mortal(t)
			if _, err := conn.Begin(testContext(t)); err != nil {
				t.Fatal(err)
			}
			for i, sig := range signals {
				if i > 0 {
					noNewcomers(t, p, database) // the first one was heard
				}
				signal(t, p, sig)
			}
			ended(t, p, database)
		})
	}
}

// TestSignalsOfOperators pauses, resumes and reloads by signals.
func TestSignalsOfOperators(t *testing.T) {
	begin(t)
	p, _, conn := mortal(t)
	state := func(key, want string) {
		t.Helper()
		eventually(t, key, func() error {
			rows, err := p.Console(testContext(t), "SHOW STATE")
			if err != nil {
				return err
			}
			for _, row := range rows {
				if row["key"] == key && row["value"] == want {
					return nil
				}
			}
			return fmt.Errorf("SHOW STATE: %v, want %s = %s", rows, key, want)
		})
	}
	signal(t, p, syscall.SIGUSR1)
	state("paused", "yes")
	answer := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "select 1")
		answer <- err
	}()
	eventually(t, "a waiting client", func() error {
		rows, err := p.Console(testContext(t), "SHOW CLIENTS")
		if err != nil {
			return err
		}
		for _, row := range rows {
			if row["state"] == "waiting" {
				return nil
			}
		}
		return fmt.Errorf("SHOW CLIENTS: %v", rows)
	})
	signal(t, p, syscall.SIGUSR2)
	if err := <-answer; err != nil {
		t.Error(err)
	}
	state("paused", "no")

	signal(t, p, syscall.SIGHUP)
	eventually(t, "the log", func() error {
		if !strings.Contains(p.Log(), "got SIGHUP") {
			return errors.New("no word of SIGHUP")
		}
		return nil
	})
	if _, err := conn.Exec(testContext(t), "select 1"); err != nil {
		t.Error(err)
	}
}

// TestCameBefore has clients come to a process that is slow, and SIGTERM behind
// them. All of them are served, and nobody who comes later.
func TestCameBefore(t *testing.T) {
	begin(t)
	for _, mode := range []string{"wait_for_clients", "drain"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			db := suite.postgres
			database := ownDatabase(t, db)
			p := startMortal(t, manyOverFew(db, database, map[string]string{"sigterm_mode": mode, "sigterm_grace": "3600", "so_reuseport": "1"}))
			if suite.pgbouncer {
				t.Skip("PgBouncer turns them away")
			}
			signal(t, p, syscall.SIGSTOP)
			t.Cleanup(func() { p.Signal(syscall.SIGCONT) })
			address := net.JoinHostPort(p.Host, fmt.Sprint(p.Port))
			startup, err := startupMessage(user, database)
			if err != nil {
				t.Fatal(err)
			}
			errs := make(chan error, 50)
			for range cap(errs) {
				socket, err := net.Dial("tcp", address)
				if err != nil {
					t.Fatal(err)
				}
				defer socket.Close()
				if err := socket.SetDeadline(time.Now().Add(patience)); err != nil {
					t.Fatal(err)
				}
				if _, err := socket.Write(startup); err != nil {
					t.Fatal(err)
				}
				go func() {
					_, err := (&rawConn{Conn: socket}).exchange(nil, "Z", 0)
					errs <- err
				}()
			}
			signal(t, p, syscall.SIGTERM)
			signal(t, p, syscall.SIGCONT)
			for range cap(errs) {
				if err := <-errs; err != nil {
					t.Error(err)
				}
			}
			noNewcomers(t, p, database)
		})
	}
}
