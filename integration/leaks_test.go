package integration

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgweir/pgweir/integration/pooler"
)

// baseline is what a pooler at rest holds.
type baseline struct {
	pooler     *pooler.Pooler
	sockets    int
	files      []string
	goroutines int // 0 for a PgBouncer
}

// atRest notes what p holds before the test, after a first client came and
// went: what is opened once and kept is no leak.
func atRest(t *testing.T, p *pooler.Pooler, database string) *baseline {
	t.Helper()
	return atRestAs(t, p, user, database)
}

// atRestAs is atRest with another user.
func atRestAs(t *testing.T, p *pooler.Pooler, user, database string) *baseline {
	t.Helper()
	conn, err := dialURL(testContext(t), p.DSN(user, "", database), pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(testContext(t), "select 1"); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(testContext(t)); err != nil {
		t.Fatal(err)
	}
	b := &baseline{pooler: p}
	b.empty(t)
	if b.sockets, b.files, err = descriptors(p); err != nil {
		t.Fatal(err)
	}
	if !suite.pgbouncer {
		if b.goroutines, err = goroutines(testContext(t), p); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// check fails the test unless everything that the test's clients made p open
// is given back. Call it when they are gone.
func (b *baseline) check(t *testing.T) {
	t.Helper()
	b.empty(t)
	eventually(t, "descriptors", func() error {
		sockets, files, err := descriptors(b.pooler)
		if err != nil {
			return err
		}
		if sockets > b.sockets || !slices.Equal(files, b.files) {
			return fmt.Errorf("%d sockets and %v, were %d and %v", sockets, files, b.sockets, b.files)
		}
		return nil
	})
	if b.goroutines == 0 {
		return
	}
	eventually(t, "goroutines", func() error {
		n, err := goroutines(testContext(t), b.pooler)
		if err != nil {
			return err
		}
		// The first collection starts a worker for each processor, for good.
		if n > b.goroutines+runtime.NumCPU() {
			return fmt.Errorf("%d goroutines, were %d", n, b.goroutines)
		}
		return nil
	})
}

// empty waits until no client is left but the console itself, nothing is held
// by anybody, and, after RECONNECT, no server is left either.
func (b *baseline) empty(t *testing.T) {
	t.Helper()
	ctx := testContext(t)
	eventually(t, "clients", func() error {
		rows, err := b.pooler.Console(ctx, "SHOW CLIENTS")
		if err != nil {
			return err
		}
		if len(rows) != 1 {
			return fmt.Errorf("SHOW CLIENTS: %d clients beside the console: %v", len(rows)-1, rows)
		}
		return nil
	})
	eventually(t, "servers at rest", func() error {
		rows, err := b.pooler.Console(ctx, "SHOW SERVERS")
		if err != nil {
			return err
		}
		for _, row := range rows {
			if state := row["state"]; state != "idle" && state != "used" {
				return fmt.Errorf("SHOW SERVERS: %v", row)
			}
		}
		return nil
	})
	if _, err := b.pooler.Console(ctx, "RECONNECT"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "servers", func() error {
		rows, err := b.pooler.Console(ctx, "SHOW SERVERS")
		if err != nil {
			return err
		}
		if len(rows) > 0 {
			return fmt.Errorf("SHOW SERVERS: %v", rows)
		}
		return nil
	})
	eventually(t, "counts", func() error {
		pools, err := b.pooler.Console(ctx, "SHOW POOLS")
		if err != nil {
			return err
		}
		for _, pool := range pools {
			for column, value := range pool {
				own := pool["database"] == "pgbouncer" && column == "cl_active"
				counts := strings.HasPrefix(column, "cl_") || strings.HasPrefix(column, "sv_")
				if counts && !own && value != "0" {
					return fmt.Errorf("SHOW POOLS: %s = %s in %v", column, value, pool)
				}
			}
		}
		// A connection that was dropped for another, as drivers do when TLS is
		// refused, is a login until the loop has seen its end.
		lists, err := b.pooler.Console(ctx, "SHOW LISTS")
		if err != nil {
			return err
		}
		want := map[string]string{"used_clients": "1", "login_clients": "0", "used_servers": "0"}
		for _, list := range lists {
			if n, ok := want[list["list"]]; ok && list["items"] != n {
				return fmt.Errorf("SHOW LISTS: %s = %s, want %s", list["list"], list["items"], n)
			}
		}
		return nil
	})
}

// descriptors counts p's sockets and lists its other open files.
func descriptors(p *pooler.Pooler) (sockets int, files []string, err error) {
	all, err := p.Descriptors()
	if err != nil {
		return 0, nil, err
	}
	for _, target := range all {
		if strings.HasPrefix(target, "socket:") {
			sockets++
		} else if !strings.HasPrefix(target, "pipe:") { // the Go runtime's own, opened when it likes
			files = append(files, target)
		}
	}
	slices.Sort(files)
	return sockets, files, nil
}

func goroutines(ctx context.Context, p *pooler.Pooler) (int, error) {
	rows, err := p.Console(ctx, "SHOW RUNTIME")
	if err != nil {
		return 0, err
	}
	for _, row := range rows {
		if row["key"] == "goroutines" {
			return strconv.Atoi(row["value"])
		}
	}
	return 0, fmt.Errorf("SHOW RUNTIME tells no goroutines: %v", rows)
}
