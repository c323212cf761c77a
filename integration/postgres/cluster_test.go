package postgres_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pgweir/pgweir/integration/postgres"
	"github.com/pgweir/pgweir/integration/sandbox"
)

func TestCluster(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	s, err := sandbox.New()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c, err := postgres.Start(ctx, s, postgres.Options{Settings: map[string]string{"max_connections": "17"}})
	if err != nil {
		t.Fatal(err)
	}
	show := func() string {
		t.Helper()
		out, err := c.Psql(ctx, c.DSN(postgres.Superuser, postgres.Database), "-c", "show max_connections")
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(out)
	}
	if got := show(); got != "17" {
		t.Errorf("max_connections = %q, want 17", got)
	}
	if err := c.Exec(ctx, "create table kept (); create role app login"); err != nil {
		t.Fatal(err)
	}

	if err := c.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	if got := show(); got != "17" {
		t.Errorf("after Restart: max_connections = %q, want 17", got)
	}
	c.Kill()
	if err := c.Restart(ctx); err != nil {
		t.Fatalf("after Kill: %v", err)
	}
	if out, err := c.Psql(ctx, c.DSN("app", postgres.Database), "-c", "select count(*) from pg_class where relname = 'kept'"); err != nil || strings.TrimSpace(out) != "1" {
		t.Errorf("after Kill and Restart: kept = %q, %v", out, err)
	}

	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.Path()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after Close the folder is still there: %v", err)
	}
}
