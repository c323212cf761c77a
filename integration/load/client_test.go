package load_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgweir/pgweir/integration/load"
	"github.com/pgweir/pgweir/integration/postgres"
	"github.com/pgweir/pgweir/integration/sandbox"
)

func TestClient(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	s, err := sandbox.New()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	methods := []string{"trust", "password", "md5", "scram-sha-256"}
	hba := "local all all trust\n"
	for _, method := range methods {
		hba += fmt.Sprintf("host all %q all %s\n", method, method)
	}
	db, err := postgres.Start(ctx, s, postgres.Options{HBA: hba})
	if err != nil {
		t.Fatal(err)
	}
	for _, method := range methods {
		encryption := "scram-sha-256"
		if method == "md5" {
			encryption = "md5"
		}
		if err := db.Exec(ctx, fmt.Sprintf("set password_encryption = %q; create role %q login password 'secret'", encryption, method)); err != nil {
			t.Fatal(err)
		}
		login := load.Login{Address: fmt.Sprintf("%s:%d", db.Host, db.Port), User: method, Database: postgres.Database, Password: "secret"}
		c, err := load.Dial(ctx, login)
		if err != nil {
			t.Fatalf("%s: %v", method, err)
		}
		const rows, width = 10, 1 << 20
		got, err := c.Query(fmt.Sprintf("select repeat('x', %d) from generate_series(1, %d)", width, rows))
		if err != nil {
			t.Fatalf("%s: %v", method, err)
		}
		if got < rows*width || got > rows*(width+100) {
			t.Errorf("%s: answer of %d bytes, want about %d", method, got, rows*width)
		}
		if _, err := c.Query("select 1/0"); err == nil || !strings.Contains(err.Error(), "22012") {
			t.Errorf("%s: division by zero = %v", method, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if method == "trust" {
			continue
		}
		login.Password = "wrong"
		if _, err := load.Dial(ctx, login); err == nil || !strings.Contains(err.Error(), "28P01") {
			t.Errorf("%s: wrong password = %v", method, err)
		}
	}
}
