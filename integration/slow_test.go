package integration

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/pgweir/pgweir/integration/pooler"
)

// TestLastWords: a reply that Postgres has sent to its end reaches a client that
// reads slowly, also when the server is terminated meanwhile. The client may go
// on then as if nothing had been.
func TestLastWords(t *testing.T) {
	begin(t)
	if suite.pgbouncer {
		t.Skip("PgBouncer closes such a client behind the reply")
	}
	const width = 32 << 10
	ctx := testContext(t)
	db := suite.postgres
	database := ownDatabase(t, db)
	p := startPooler(t, manyOverFew(db, database, nil))
	observer, err := db.Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer observer.Close(ctx)

	// A reply is looked for of which the pooler leaves so little unread that its
	// socket takes that, and with it the server's end.
	for rows, met, tries := 32, false, 0; !met; tries++ {
		if tries == 500 {
			t.Fatalf("no reply was as long as needed, the last one had %d rows", rows)
		}
		slow, err := login(ctx, fmt.Sprintf("%s:%d", p.Host, p.Port), user, database)
		if err != nil {
			t.Fatal(err)
		}
		query := fmt.Sprintf("select repeat(chr(65 + i %% 26), %d) from generate_series(1, %d) i", width, rows)
		if _, err := slow.Write(encoded(t, "Query", query)); err != nil {
			t.Fatal(err)
		}
		awaitSent(ctx, t, observer, query)
		server := stalled(ctx, t, p, database)
		if server != nil {
			if _, err := observer.Exec(ctx, "select pg_terminate_backend($1)", server["remote_pid"]); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the backend is gone", func() error {
				if _, err := os.Stat("/proc/" + server["remote_pid"]); err == nil {
					return fmt.Errorf("process %s is there", server["remote_pid"])
				}
				return nil
			})
			met = peerHasClosed(t, server["local_port"])
		}
		replies, err := slow.exchange(nil, "Z", 0)
		if err != nil {
			t.Fatalf("%d rows: %v", rows, err)
		}
		got := 0
		for _, r := range replies {
			if r.typ == 'D' {
				got++
			}
		}
		if got != rows {
			t.Fatalf("%d rows of %d", got, rows)
		}
		if _, err := slow.exchange(encoded(t, "Query", "select 1"), "Z", 0); err != nil {
			t.Fatalf("the query after %d rows: %v", rows, err)
		}
		slow.close()
		if rows += 2; server != nil {
			rows -= 7
		}
	}
}

// awaitSent waits until the backend that was last asked query has sent all of the
// reply, or can't send any more.
func awaitSent(ctx context.Context, t *testing.T, observer *pgx.Conn, query string) {
	t.Helper()
	eventually(t, "the reply is sent", func() error {
		var state, waits string
		err := observer.QueryRow(ctx, "select state, coalesce(wait_event, '') from pg_stat_activity where query = $1", query).Scan(&state, &waits)
		if err == nil && state != "idle" && waits != "ClientWrite" {
			err = fmt.Errorf("the backend is %s, and waits for %q", state, waits)
		}
		return err
	})
}

// stalled returns the only server in database if it is not read, for its client
// does not take what it sends; else nil.
func stalled(ctx context.Context, t *testing.T, p *pooler.Pooler, database string) (server map[string]string) {
	t.Helper()
	for range 5 { // what can be read is read between two of these
		servers, err := p.Console(ctx, "SHOW SERVERS")
		if err != nil {
			t.Fatal(err)
		}
		server = nil
		for _, s := range servers {
			if s["database"] == database && s["state"] == "active" {
				server = s
			}
		}
		if server == nil {
			break
		}
	}
	return server
}

// peerHasClosed reports whether the kernel knows that the other side of the
// connection from port has closed it.
func peerHasClosed(t *testing.T, port string) bool {
	t.Helper()
	file, err := os.Open("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	const closeWait = "08"
	for lines := bufio.NewScanner(file); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) > 3 && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", n)) {
			return f[3] == closeWait
		}
	}
	return false
}
