package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgweir/pgweir/integration/pooler"
	"github.com/pgweir/pgweir/integration/postgres"
	"github.com/pgweir/pgweir/integration/sandbox"
)

// TestPassthrough has clients log in with passwords that only Postgres knows,
// which asks for them in each of its ways.
func TestPassthrough(t *testing.T) {
	begin(t)
	s, err := sandbox.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	methods := []string{"scram-sha-256", "md5", "password"}
	hba := "local all all trust\nhost all trusted all trust\n"
	for _, method := range methods {
		hba += fmt.Sprintf("host all %q all %s\n", method, method)
	}
	db, err := postgres.Start(testContext(t), s, postgres.Options{HBA: hba, Settings: map[string]string{"log_connections": "on", "wal_level": "logical"}})
	if err != nil {
		t.Fatal(err)
	}
	setPassword := func(role, password string) {
		t.Helper()
		encryption := "scram-sha-256"
		if role == "md5" {
			encryption = "md5"
		}
		if err := db.Exec(testContext(t), fmt.Sprintf("set password_encryption = %q; alter role %q password '%s'", encryption, role, password)); err != nil {
			t.Fatal(err)
		}
	}
	for _, role := range append(methods, "trusted") {
		if err := db.Exec(testContext(t), fmt.Sprintf("create role %q login replication", role)); err != nil {
			t.Fatal(err)
		}
		setPassword(role, "first-tulip")
	}
	p := startPooler(t, pooler.Config{
		Settings: map[string]string{
			"auth_type": "passthrough", "pool_mode": "transaction", "default_pool_size": "3", "client_tls_sslmode": "prefer", "verbose": "3",
			"auth_passthrough_cache": "3600", // so that what is seen to be forgotten is so for another reason
		},
		Databases: []string{fmt.Sprintf("* = host=%s port=%d dbname=%s", db.Host, db.Port, postgres.Database)},
	})
	overTLS, local := "host=127.0.0.1 sslmode=require", "sslmode=disable host="+p.Socket
	visit := func(where, role, password string) error {
		conn, err := pgconn.Connect(testContext(t), fmt.Sprintf("%s port=%d user='%s' password='%s' dbname=some", where, p.Port, role, password))
		if err != nil {
			return err
		}
		var who string
		results, err := conn.Exec(testContext(t), "select current_user").ReadAll()
		if err == nil {
			who = string(results[0].Rows[0][0])
		}
		if err == nil && who != role {
			err = fmt.Errorf("%s is %s", role, who)
		}
		return errors.Join(err, conn.Close(context.Background()))
	}
	wantWrong := func(where, role, password string) {
		t.Helper()
		if err := visit(where, role, password); err == nil || !strings.Contains(err.Error(), "password authentication failed") {
			t.Errorf("%s, a wrong password: %v", role, err)
		}
	}
	for _, role := range methods {
		wantWrong(overTLS, role, "wrong-"+role)
		// A storm of logins is one trial, and as many servers as the pool may have.
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				if err := visit([]string{overTLS, local}[i%2], role, "first-tulip"); err != nil {
					t.Errorf("%s: %v", role, err)
				}
			})
		}
		wg.Wait()
		if n := strings.Count(db.Log(), "connection authorized: user="+role+" "); n == 0 || n > 3 {
			t.Errorf("%s logged in to Postgres %d times", role, n)
		}
		wantWrong(local, role, "wrong-"+role)
		if err := visit(local, role, "first-tulip"); err != nil {
			t.Errorf("%s, after a wrong password: %v", role, err)
		}

		// After a change the new password works at once. From then on the old one
		// does not.
		setPassword(role, "second-rose")
		if err := visit(overTLS, role, "second-rose"); err != nil {
			t.Errorf("%s, the new password: %v", role, err)
		}
		wantWrong(overTLS, role, "first-tulip")

		// After another that nobody has told us of, the old one works only until a
		// server is opened with it.
		setPassword(role, "third-lily")
		if _, err := p.Console(testContext(t), "RECONNECT"); err != nil {
			t.Fatal(err)
		}
		if err := visit(overTLS, role, "second-rose"); err == nil {
			t.Errorf("%s: the old password opens servers", role)
		}
		wantWrong(overTLS, role, "second-rose")
		if err := visit(overTLS, role, "third-lily"); err != nil {
			t.Errorf("%s, the third password: %v", role, err)
		}

		// Who has a server of its own is told the same.
		walk := overTLS + " replication=database"
		if err := visit(walk, role, "third-lily"); err != nil {
			t.Errorf("%s, replication: %v", role, err)
		}
		setPassword(role, "fourth-poppy")
		wantWrong(walk, role, "third-lily")
		wantWrong(overTLS, role, "third-lily")
		if err := visit(walk, role, "fourth-poppy"); err != nil {
			t.Errorf("%s, replication with the fourth password: %v", role, err)
		}
	}

	// Postgres has not looked at this password, so nobody has.
	wantWrong(local, "trusted", "first-tulip")
	wantLog(t, p, "the server asked for no password")
	wantWrong(local, "stranger", "first-tulip")
	if err := visit("host=127.0.0.1 sslmode=disable", "md5", "fourth-poppy"); err == nil || !strings.Contains(err.Error(), "needs TLS or a unix socket") {
		t.Errorf("in clear: %v", err)
	}

	// Nothing of it is written down.
	secrets := []string{"tulip", "rose", "lily", "poppy", "wrong-"}
	wantUntold(t, p, secrets...)
	for _, secret := range secrets {
		for _, command := range []string{"SHOW USERS", "SHOW CLIENTS", "SHOW CONFIG", "SHOW HOSTS"} {
			rows, err := p.Console(testContext(t), command)
			if err != nil || strings.Contains(fmt.Sprint(rows), secret) {
				t.Errorf("%s tells %q (%v)", command, secret, err)
			}
		}
	}
	files, err := filepath.Glob(suite.sandbox.Path("*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if data, err := os.ReadFile(file); err == nil && strings.Contains(string(data), "fourth-poppy") {
			t.Errorf("%s holds a password", file)
		}
	}
}

// TestPassthroughHBA has the HBA file choose the method.
func TestPassthroughHBA(t *testing.T) {
	begin(t)
	db := strict(t, "create role nina login password 'tulip'; create role otto login password 'rose'")
	hba := write(t, suite.sandbox, fmt.Sprintf("hba%d.conf", serial.Add(1)), []byte(
		"host pgbouncer all all md5\nlocal all all passthrough\nhost all nina all passthrough\nhost all otto all scram-sha-256\n"))
	p := startPooler(t, pooler.Config{
		Settings:  map[string]string{"auth_type": "hba", "auth_hba_file": hba, "client_tls_sslmode": "prefer"},
		Databases: []string{fmt.Sprintf("some = host=%s port=%d dbname=%s", db.Host, db.Port, postgres.Database)},
		Userlist:  map[string]string{"otto": "rose"},
	})
	for _, tt := range []struct{ where, user, password, want string }{
		{"sslmode=disable host=" + p.Socket, "nina", "tulip", ""},
		{"host=127.0.0.1 sslmode=require", "nina", "tulip", ""},
		{"host=127.0.0.1 sslmode=require", "nina", "rose", "password authentication failed"},
		{"host=127.0.0.1 sslmode=disable", "nina", "tulip", "needs TLS or a unix socket"},
		{"host=127.0.0.1 sslmode=disable", "otto", "rose", ""},
		{"sslmode=disable host=" + p.Socket, "otto", "rose", ""},
		{"sslmode=disable host=" + p.Socket, "otto", "tulip", "password authentication failed"},
	} {
		conn, err := pgconn.Connect(testContext(t), fmt.Sprintf("%s port=%d user=%s password=%s dbname=some", tt.where, p.Port, tt.user, tt.password))
		if err == nil {
			_, err = conn.Exec(testContext(t), "select 1").ReadAll()
			conn.Close(context.Background())
		}
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s %s %s: %v, want %q", tt.where, tt.user, tt.password, err, tt.want)
		}
	}
}
