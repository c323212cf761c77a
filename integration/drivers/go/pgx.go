package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// pgxClient is pgx as it comes: it prepares each text under a name of its own,
// and keeps a few.
type pgxClient struct {
	tag  string
	conn *pgx.Conn
}

func (c *pgxClient) connect(ctx context.Context) error {
	if c.conn != nil {
		return nil
	}
	config, err := pgx.ParseConfig(dsn(c.tag))
	if err != nil {
		return err
	}
	config.StatementCacheCapacity = 10
	c.conn, err = pgx.ConnectConfig(ctx, config)
	return err
}

func (c *pgxClient) close() {
	if c.conn != nil {
		c.conn.Close(context.Background())
		c.conn = nil
	}
}

// tagged is what most queries return.
type tagged struct {
	Tag string
	N   int
}

// rows runs a query for a tag and a number.
func (c *pgxClient) rows(ctx context.Context, sql string, args ...any) ([]tagged, error) {
	rows, err := c.conn.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[tagged])
}

// want is an error unless the query's only row is that.
func (c *pgxClient) want(ctx context.Context, tag string, n int, sql string, args ...any) error {
	got, err := c.rows(ctx, sql, args...)
	if err != nil {
		return fmt.Errorf("%.80s: %w", sql, err)
	}
	return same(got, []tagged{{tag, n}})
}

// state is an error unless err has that SQLSTATE.
func state(err error, want string) error {
	if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != want {
		return fmt.Errorf("got %v, want %s", err, want)
	}
	return nil
}

func (c *pgxClient) query(ctx context.Context) error {
	modes := []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec,
		pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	}
	for n := 1; n <= 20; n++ {
		for _, mode := range modes {
			got, err := c.rows(ctx, "select $1::text, n from generate_series(1, $2::int) n", mode, c.tag, n)
			if err != nil {
				return fmt.Errorf("%v: %w", mode, err)
			}
			var want []tagged
			for i := range n {
				want = append(want, tagged{c.tag, i + 1})
			}
			if err := same(got, want); err != nil {
				return fmt.Errorf("%v: %w", mode, err)
			}
		}
	}
	return nil
}

func (c *pgxClient) prepared(ctx context.Context) error {
	if _, err := c.conn.Prepare(ctx, "shared", "select $1::text, $2::int * 2"); err != nil {
		return err
	}
	if _, err := c.conn.Prepare(ctx, "own", fmt.Sprintf("select '%s', $1::int", c.tag)); err != nil {
		return err
	}
	for n := range 20 {
		if err := errors.Join(
			c.want(ctx, c.tag, 2*n, "shared", c.tag, n),
			c.want(ctx, c.tag, n, "own", n),
			// More texts than the driver's cache holds: it closes the oldest.
			c.want(ctx, c.tag, n, fmt.Sprintf("select $1::text, %d", n), c.tag),
		); err != nil {
			return err
		}
	}
	if err := c.conn.Deallocate(ctx, "shared"); err != nil {
		return err
	}
	if _, err := c.conn.Prepare(ctx, "shared", "select $1::text, $2::int * 3"); err != nil {
		return err
	}
	if err := c.want(ctx, c.tag, 21, "shared", c.tag, 7); err != nil {
		return err
	}
	// DEALLOCATE ALL ends what the driver and its user have prepared.
	if err := c.conn.DeallocateAll(ctx); err != nil {
		return err
	}
	return c.want(ctx, c.tag, 1, "select $1::text, 1", c.tag)
}

func (c *pgxClient) transaction(ctx context.Context) error {
	for _, commit := range []bool{false, true} {
		tx, err := c.conn.Begin(ctx)
		if err != nil {
			return err
		}
		var pid, again, count int
		if err := tx.QueryRow(ctx, "select pg_backend_pid()").Scan(&pid); err != nil {
			return err
		}
		for n := range 3 {
			if _, err := tx.Exec(ctx, "insert into tagged values ($1, $2)", c.tag, n); err != nil {
				return err
			}
		}
		savepoint, err := tx.Begin(ctx)
		if err != nil {
			return err
		}
		if _, err := savepoint.Exec(ctx, "delete from tagged where tag = $1", c.tag); err != nil {
			return err
		}
		if err := savepoint.Rollback(ctx); err != nil {
			return err
		}
		got, err := c.rows(ctx, "select tag, n from tagged where tag = $1 order by n", c.tag)
		if err != nil {
			return err
		}
		if err := same(got, []tagged{{c.tag, 0}, {c.tag, 1}, {c.tag, 2}}); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, "select pg_backend_pid()").Scan(&again); err != nil {
			return err
		}
		if err := same(again, pid); err != nil {
			return err
		}
		end, want := tx.Rollback, 0
		if commit {
			end, want = tx.Commit, 3
		}
		if err := end(ctx); err != nil {
			return err
		}
		if err := c.conn.QueryRow(ctx, "select count(*) from tagged where tag = $1", c.tag).Scan(&count); err != nil {
			return err
		}
		if err := same(count, want); err != nil {
			return err
		}
	}
	return nil
}

// batch sends batches, then a pipeline in which each step has its own Sync.
func (c *pgxClient) batch(ctx context.Context) error {
	for range 5 {
		var batch pgx.Batch
		var got []tagged
		for n := range 10 {
			batch.Queue(fmt.Sprintf("select $1::text, $2::int, %d", n%3), c.tag, n).QueryRow(func(row pgx.Row) error {
				var t tagged
				var kind int
				defer func() { got = append(got, t) }()
				return row.Scan(&t.Tag, &t.N, &kind)
			})
		}
		if err := c.conn.SendBatch(ctx, &batch).Close(); err != nil {
			return err
		}
		var want []tagged
		for n := range 10 {
			want = append(want, tagged{c.tag, n})
		}
		if err := same(got, want); err != nil {
			return err
		}
	}

	pipeline := c.conn.PgConn().StartPipeline(ctx)
	for n := range 10 {
		name := fmt.Sprintf("step%d", n)
		pipeline.SendPrepare(name, fmt.Sprintf("select '%s', %d", c.tag, n), nil)
		pipeline.SendQueryPrepared(name, nil, nil, nil)
		pipeline.SendDeallocate(name)
		if err := pipeline.Sync(); err != nil {
			return err
		}
	}
	var got []string
	for synced := 0; synced < 10; {
		result, err := pipeline.GetResults()
		if err != nil {
			return errors.Join(err, pipeline.Close())
		}
		switch result := result.(type) {
		case *pgconn.ResultReader:
			read := result.Read()
			if read.Err != nil {
				return errors.Join(read.Err, pipeline.Close())
			}
			for _, row := range read.Rows {
				got = append(got, fmt.Sprintf("%s %s", row[0], row[1]))
			}
		case *pgconn.PipelineSync:
			synced++
		}
	}
	if err := pipeline.Close(); err != nil {
		return err
	}
	var want []string
	for n := range 10 {
		want = append(want, fmt.Sprintf("%s %d", c.tag, n))
	}
	return same(got, want)
}

func (c *pgxClient) batchError(ctx context.Context) error {
	for i := range 5 {
		var batch pgx.Batch
		batch.Queue("select $1::text, 1", c.tag)
		batch.Queue("select $1::text, 1 / $2::int", c.tag, 0)
		batch.Queue("select $1::text, 2", c.tag)
		results := c.conn.SendBatch(ctx, &batch)
		var got tagged
		if err := results.QueryRow().Scan(&got.Tag, &got.N); err != nil {
			return err
		}
		if err := same(got, tagged{c.tag, 1}); err != nil {
			return err
		}
		if err := state(results.QueryRow().Scan(&got.Tag, &got.N), "22012"); err != nil {
			return err
		}
		results.Close() // tells of the error again
		if err := c.want(ctx, c.tag, i, fmt.Sprintf("select $1::text, %d", i), c.tag); err != nil {
			return err
		}
	}

	// A Parse that fails takes the statements behind it with it.
	pipeline := c.conn.PgConn().StartPipeline(ctx)
	pipeline.SendPrepare("good", fmt.Sprintf("select '%s', 1", c.tag), nil)
	pipeline.SendPrepare("bad", "selec 1", nil)
	pipeline.SendPrepare("late", fmt.Sprintf("select '%s', 2", c.tag), nil)
	if err := pipeline.Sync(); err != nil {
		return err
	}
	if _, err := pipeline.GetResults(); err != nil {
		return err
	}
	if _, err := pipeline.GetResults(); state(err, "42601") != nil {
		return state(err, "42601")
	}
	if err := pipeline.Close(); state(err, "42601") != nil && err != nil {
		return err
	}
	if _, err := c.conn.Prepare(ctx, "late", fmt.Sprintf("select '%s', 3", c.tag)); err != nil {
		return err
	}
	err := errors.Join(c.want(ctx, c.tag, 3, "late"))
	for _, name := range []string{"good", "late"} {
		result := c.conn.PgConn().ExecPrepared(ctx, name, nil, nil, nil).Read()
		if result.Err != nil {
			return errors.Join(err, result.Err)
		}
		err = errors.Join(err, same(string(result.Rows[0][0]), c.tag), c.conn.PgConn().Deallocate(ctx, name))
	}
	return err
}

func (c *pgxClient) error(ctx context.Context) error {
	tag := c.tag + "-error"
	for range 5 {
		_, err := c.rows(ctx, "selec $1", 1)
		if err := state(err, "42601"); err != nil {
			return err
		}
		_, err = c.rows(ctx, "select $1::text, 1 / $2::int", c.tag, 0)
		if err := state(err, "22012"); err != nil {
			return err
		}
		if err := c.want(ctx, c.tag, 1, "select $1::text, 1 / $2::int", c.tag, 1); err != nil {
			return err
		}
		err = pgx.BeginFunc(ctx, c.conn, func(tx pgx.Tx) error {
			for range 2 {
				if _, err := tx.Exec(ctx, "insert into tagged values ($1, 1)", tag); err != nil {
					return err
				}
			}
			return nil
		})
		if err := state(err, "23505"); err != nil {
			return err
		}
		if err := c.want(ctx, c.tag, 0, "select $1::text, count(*)::int from tagged where tag = $2", c.tag, tag); err != nil {
			return err
		}
	}
	return nil
}

func (c *pgxClient) copy(ctx context.Context) error {
	tag := c.tag + "-copy"
	var rows [][]any
	var want strings.Builder
	for n := range 500 {
		rows = append(rows, []any{tag, n, "body " + tag})
		fmt.Fprintf(&want, "%s\t%d\tbody %[1]s\n", tag, n)
	}
	if _, err := c.conn.CopyFrom(ctx, pgx.Identifier{"tagged"}, []string{"tag", "n", "body"}, pgx.CopyFromRows(rows)); err != nil {
		return err
	}
	var got strings.Builder
	if _, err := c.conn.PgConn().CopyTo(ctx, &got, fmt.Sprintf("copy (select * from tagged where tag = '%s' order by n) to stdout", tag)); err != nil {
		return err
	}
	if err := same(got.String(), want.String()); err != nil {
		return err
	}
	for _, from := range []io.Reader{
		strings.NewReader(strings.Repeat("no\tnumber\t\n", 100_000)),
		strings.NewReader("no\tnumber\t\n"),
	} {
		_, err := c.conn.PgConn().CopyFrom(ctx, from, "copy tagged from stdin")
		if err := state(err, "22P02"); err != nil {
			return err
		}
		if err := c.want(ctx, c.tag, 500, "select $1::text, count(*)::int from tagged where tag = $2", c.tag, tag); err != nil {
			return err
		}
	}
	return nil
}

func (c *pgxClient) cancel(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() {
		_, err := c.conn.Exec(ctx, "select pg_sleep(60)")
		ended <- err
	}()
	again := time.NewTicker(300 * time.Millisecond)
	defer again.Stop()
	for {
		select {
		case err := <-ended:
			if err := state(err, "57014"); err != nil {
				return err
			}
			return c.want(ctx, c.tag, 1, "select $1::text, 1", c.tag)
		case <-again.C:
			if err := c.conn.PgConn().CancelRequest(ctx); err != nil {
				return err
			}
		}
	}
}

func (c *pgxClient) large(ctx context.Context) error {
	want := body(c.tag)
	if err := c.want(ctx, want, 1, "select $1::text, 1", want); err != nil {
		return err
	}
	if _, err := c.conn.Exec(ctx, "insert into tagged values ($1, 1, $2)", c.tag+"-large", want); err != nil {
		return err
	}
	return c.want(ctx, want, 1, "select body, n from tagged where tag = $1", c.tag+"-large")
}

func (c *pgxClient) settings(ctx context.Context) error {
	want := c.tag
	for n := range 10 {
		if err := c.want(ctx, want, n, "select current_setting('application_name'), $1::int", n); err != nil {
			return err
		}
		want = fmt.Sprintf("%s-%d", c.tag, n)
		if _, err := c.conn.Exec(ctx, fmt.Sprintf("set application_name = '%s'", want)); err != nil {
			return err
		}
	}
	return nil
}
