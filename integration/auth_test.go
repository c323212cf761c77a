package integration

import (
	"crypto/md5"
	"errors"
	"fmt"
	"testing"

	"github.com/pgweir/pgweir/integration/load"
	"github.com/pgweir/pgweir/integration/pooler"
	"github.com/pgweir/pgweir/integration/postgres"
	"github.com/pgweir/pgweir/integration/sandbox"
)

// TestLoginToServers has clients log in by each method, and the pooler log in
// to a Postgres that demands each method, with each kind of secret that can do
// both.
func TestLoginToServers(t *testing.T) {
	begin(t)
	const secret = `p"a's\s word`
	// A role for each method of the server, named after it.
	servers := []string{"trust", "password", "md5", "scram-sha-256"}
	hba := "local all all trust\n"
	for _, role := range servers {
		hba += fmt.Sprintf("host all %q all %s\n", role, role)
	}
	s, err := sandbox.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	db, err := postgres.Start(testContext(t), s, postgres.Options{HBA: hba})
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range servers {
		encryption := "scram-sha-256"
		if role == "md5" {
			encryption = "md5"
		}
		sql := fmt.Sprintf("set standard_conforming_strings = on; set password_encryption = %q; create role %q login password '%s'", encryption, role, `p"a''s\s word`)
		if err := db.Exec(testContext(t), sql); err != nil {
			t.Fatal(err)
		}
	}
	scramSecret := func(role string) string {
		conn, err := db.Connect(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(testContext(t))
		var stored string
		if err := conn.QueryRow(testContext(t), "select rolpassword from pg_authid where rolname = $1", role).Scan(&stored); err != nil {
			t.Fatal(err)
		}
		return stored
	}

	for _, test := range []struct {
		authType string
		stored   func(role string) string // the secret in the userlist
		servers  []string
	}{
		{"plain", func(string) string { return secret }, servers},
		{"md5", func(string) string { return secret }, servers},
		{"scram-sha-256", func(string) string { return secret }, servers},
		{"md5", func(role string) string { return fmt.Sprintf("md5%x", md5.Sum([]byte(secret+role))) }, []string{"trust", "md5"}},
		// The client's proof gives the key to log in with.
		{"scram-sha-256", scramSecret, []string{"scram-sha-256"}},
	} {
		userlist := map[string]string{}
		for _, role := range test.servers {
			userlist[role] = test.stored(role)
		}
		p := startPooler(t, pooler.Config{
			Settings:  map[string]string{"auth_type": test.authType, "pool_mode": "transaction", "verbose": "3"},
			Databases: []string{fmt.Sprintf("* = host=%s port=%d", db.Host, db.Port)},
			Userlist:  userlist,
		})
		for _, role := range test.servers {
			visit := func(password string) error {
				client, err := load.Dial(testContext(t), load.Login{
					Address:  fmt.Sprintf("%s:%d", p.Host, p.Port),
					User:     role,
					Database: postgres.Database,
					Password: password,
				})
				if err != nil {
					return err
				}
				_, err = client.Query("select 1")
				return errors.Join(err, client.Close())
			}
			if err := visit(secret); err != nil {
				t.Errorf("client by %s (%.6s...), server by %s: %v", test.authType, userlist[role], role, err)
			}
			if err := visit("no tulip"); err == nil {
				t.Errorf("client by %s, server by %s: a wrong password was right", test.authType, role)
			}
		}
		wantUntold(t, p, secret, "no tulip")
	}
}
