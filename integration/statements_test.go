package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgweir/pgweir/integration/pooler"
)

// TestPreparedStatements has forty clients, which have the same names for
// statements of their own, share four servers that keep five statements each.
func TestPreparedStatements(t *testing.T) {
	begin(t)
	const servers, kept = 4, 5
	db := suite.postgres
	database := ownDatabase(t, db)
	p := startPooler(t, manyOverFew(db, database, map[string]string{
		"default_pool_size": fmt.Sprint(servers), "max_prepared_statements": fmt.Sprint(kept),
	}))
	base := atRest(t, p, database)
	until := time.Now().Add(2 * loadTime)
	var clients sync.WaitGroup
	for id := range 40 {
		clients.Go(func() {
			if err := ownStatements(testContext(t), p, database, id, until); err != nil {
				t.Errorf("client %d: %v", id, err)
			}
		})
	}
	clients.Wait()

	listed, err := p.Console(testContext(t), "SHOW PREPARED_STATEMENTS")
	if err != nil || len(listed) == 0 || len(listed) > servers*kept {
		t.Errorf("%d prepared statements are left on %d servers that keep %d each (%v)", len(listed), servers, kept, err)
	}

	conn := connect(t, p, database, pgx.QueryExecModeExec)
	var n int
	if err := conn.QueryRow(testContext(t), "select count(*) from pg_prepared_statements").Scan(&n); err != nil {
		t.Fatal(err)
	}
	if n > kept {
		t.Errorf("a server has %d prepared statements, and may have %d", n, kept)
	}
	conn.Close(testContext(t))
	base.check(t)
}

// ownStatements prepares, executes and closes statements under names that
// every client uses, alone and in batches, and in between makes the mistakes
// that drivers make.
func ownStatements(ctx context.Context, p *pooler.Pooler, database string, id int, until time.Time) error {
	conn, err := dial(ctx, p, database, pgx.QueryExecModeExec)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	pg := conn.PgConn()
	random := rand.New(rand.NewPCG(uint64(id), 1))
	has := map[string]string{} // name -> what the statement says
	for n := 0; time.Now().Before(until); n++ {
		name := fmt.Sprint("stmt", random.IntN(8))
		want := fmt.Sprintf("client %d, statement %d", id%10, random.IntN(5)) // some are the same for many
		sql := fmt.Sprintf("select '%s', $1::text", want)
		switch said, ok := has[name]; {
		case !ok:
			if _, err := pg.Prepare(ctx, name, sql, nil); err != nil {
				return fmt.Errorf("prepare %s: %w", name, err)
			}
			has[name] = want
		case random.IntN(10) == 0:
			if err := pg.Deallocate(ctx, name); err != nil {
				return fmt.Errorf("close %s: %w", name, err)
			}
			delete(has, name)
			if err := wantCode(pg.ExecPrepared(ctx, name, [][]byte{nil}, nil, nil).Read().Err, "26000"); err != nil {
				return err
			}
		case random.IntN(10) == 0:
			_, err := pg.Prepare(ctx, name, sql, nil)
			if err := wantCode(err, "42P05"); err != nil {
				return err
			}
		default:
			batch := &pgconn.Batch{}
			tags := make([]string, 1+random.IntN(4))
			for i := range tags {
				tags[i] = fmt.Sprintf("%d/%d/%d", id, n, i)
				batch.ExecPrepared(name, [][]byte{[]byte(tags[i])}, nil, nil)
			}
			results, err := pg.ExecBatch(ctx, batch).ReadAll()
			if err != nil {
				return fmt.Errorf("execute %s: %w", name, err)
			}
			for i, r := range results {
				if a, b := string(r.Rows[0][0]), string(r.Rows[0][1]); a != said || b != tags[i] {
					return fmt.Errorf("%w: %q, %q instead of %q, %q", errNotMine, a, b, said, tags[i])
				}
			}
		}
	}
	return nil
}

func wantCode(err error, code string) error {
	if pgErr := (*pgconn.PgError)(nil); !errors.As(err, &pgErr) || pgErr.Code != code {
		return fmt.Errorf("got the error %v, want %s", err, code)
	}
	return nil
}
