package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/lib/pq"
)

// pqClient is lib/pq under database/sql, with one connection.
type pqClient struct {
	tag  string
	db   *sql.DB
	conn *sql.Conn
}

func (c *pqClient) connect(ctx context.Context) (err error) {
	if c.conn != nil {
		return nil
	}
	if c.db, err = sql.Open("postgres", dsn(c.tag)); err != nil {
		return err
	}
	c.conn, err = c.db.Conn(ctx)
	return err
}

func (c *pqClient) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
	if c.db != nil {
		c.db.Close()
		c.db = nil
	}
}

// collect reads rows of a tag and a number.
func collect(rows *sql.Rows, err error) ([]tagged, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []tagged
	for rows.Next() {
		var t tagged
		if err := rows.Scan(&t.Tag, &t.N); err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, rows.Err()
}

// want is an error unless the query's only row is that.
func (c *pqClient) want(ctx context.Context, tag string, n int, query string, args ...any) error {
	got, err := collect(c.conn.QueryContext(ctx, query, args...))
	if err != nil {
		return err
	}
	return same(got, []tagged{{tag, n}})
}

// pqState is an error unless err has that SQLSTATE.
func pqState(err error, want string) error {
	if e, ok := errors.AsType[*pq.Error](err); !ok || string(e.Code) != want {
		return fmt.Errorf("got %v, want %s", err, want)
	}
	return nil
}

func (c *pqClient) query(ctx context.Context) error {
	for n := 1; n <= 20; n++ {
		got, err := collect(c.conn.QueryContext(ctx, "select $1::text, n from generate_series(1, $2::int) n", c.tag, n))
		if err != nil {
			return err
		}
		var want []tagged
		for i := range n {
			want = append(want, tagged{c.tag, i + 1})
		}
		if err := same(got, want); err != nil {
			return err
		}
		// Without arguments the driver sends a simple query.
		if err := c.want(ctx, c.tag, n, fmt.Sprintf("select '%s', %d", c.tag, n)); err != nil {
			return err
		}
	}
	return nil
}

func (c *pqClient) prepared(ctx context.Context) error {
	shared, err := c.conn.PrepareContext(ctx, "select $1::text, $2::int * 2")
	if err != nil {
		return err
	}
	defer shared.Close()
	own, err := c.conn.PrepareContext(ctx, fmt.Sprintf("select '%s', $1::int", c.tag))
	if err != nil {
		return err
	}
	defer own.Close()
	for n := range 20 {
		got, err := collect(shared.QueryContext(ctx, c.tag, n))
		if err != nil {
			return err
		}
		if err := same(got, []tagged{{c.tag, 2 * n}}); err != nil {
			return err
		}
		if got, err = collect(own.QueryContext(ctx, n)); err != nil {
			return err
		}
		if err := same(got, []tagged{{c.tag, n}}); err != nil {
			return err
		}
	}
	return nil
}

func (c *pqClient) transaction(ctx context.Context) error {
	for _, commit := range []bool{false, true} {
		tx, err := c.conn.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		var pid, again, count int
		if err := tx.QueryRowContext(ctx, "select pg_backend_pid()").Scan(&pid); err != nil {
			return err
		}
		insert, err := tx.PrepareContext(ctx, "insert into tagged values ($1, $2)")
		if err != nil {
			return err
		}
		for n := range 3 {
			if _, err := insert.ExecContext(ctx, c.tag, n); err != nil {
				return err
			}
		}
		if err := insert.Close(); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, fmt.Sprintf("savepoint s; delete from tagged where tag = '%s'; rollback to savepoint s", c.tag)); err != nil {
			return err
		}
		got, err := collect(tx.QueryContext(ctx, "select tag, n from tagged where tag = $1 order by n", c.tag))
		if err != nil {
			return err
		}
		if err := same(got, []tagged{{c.tag, 0}, {c.tag, 1}, {c.tag, 2}}); err != nil {
			return err
		}
		if err := tx.QueryRowContext(ctx, "select pg_backend_pid()").Scan(&again); err != nil {
			return err
		}
		if err := same(again, pid); err != nil {
			return err
		}
		end, want := tx.Rollback, 0
		if commit {
			end, want = tx.Commit, 3
		}
		if err := end(); err != nil {
			return err
		}
		if err := c.conn.QueryRowContext(ctx, "select count(*) from tagged where tag = $1", c.tag).Scan(&count); err != nil {
			return err
		}
		if err := same(count, want); err != nil {
			return err
		}
	}
	return nil
}

// batch sends several statements in one Query message and reads all results.
func (c *pqClient) batch(ctx context.Context) error {
	text := ""
	for n := range 10 {
		text += fmt.Sprintf("select '%s', %d;", c.tag, n)
	}
	for range 5 {
		rows, err := c.conn.QueryContext(ctx, text)
		if err != nil {
			return err
		}
		var got []tagged
		for more := true; more; more = rows.NextResultSet() {
			for rows.Next() {
				var t tagged
				if err := rows.Scan(&t.Tag, &t.N); err != nil {
					return errors.Join(err, rows.Close())
				}
				got = append(got, t)
			}
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
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
	return nil
}

func (c *pqClient) batchError(ctx context.Context) error {
	for range 5 {
		_, err := c.conn.ExecContext(ctx, "select 1; select 1 / 0; select 2")
		if err := pqState(err, "22012"); err != nil {
			return err
		}
		if err := c.want(ctx, c.tag, 1, "select $1::text, 1", c.tag); err != nil {
			return err
		}
	}
	return nil
}

func (c *pqClient) error(ctx context.Context) error {
	tag := c.tag + "-error"
	divide, err := c.conn.PrepareContext(ctx, "select $1::text, 1 / $2::int")
	if err != nil {
		return err
	}
	defer divide.Close()
	for range 5 {
		_, err := c.conn.QueryContext(ctx, "selec $1", 1)
		if err := pqState(err, "42601"); err != nil {
			return err
		}
		_, err = collect(divide.QueryContext(ctx, c.tag, 0))
		if err := pqState(err, "22012"); err != nil {
			return err
		}
		got, err := collect(divide.QueryContext(ctx, c.tag, 1))
		if err != nil {
			return err
		}
		if err := same(got, []tagged{{c.tag, 1}}); err != nil {
			return err
		}
		tx, err := c.conn.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "insert into tagged values ($1, 1)", tag); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "insert into tagged values ($1, 1)", tag)
		if err := pqState(err, "23505"); err != nil {
			return err
		}
		if err := tx.Rollback(); err != nil {
			return err
		}
		if err := c.want(ctx, c.tag, 0, "select $1::text, count(*)::int from tagged where tag = $2", c.tag, tag); err != nil {
			return err
		}
	}
	return nil
}

// copy copies in only: the driver does not read COPY TO STDOUT.
func (c *pqClient) copy(ctx context.Context) error {
	tag := c.tag + "-copy"
	in := func(n any, count int) error {
		tx, err := c.conn.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback() // nothing after a commit
		stmt, err := tx.PrepareContext(ctx, "copy tagged (tag, n, body) from stdin")
		if err != nil {
			return err
		}
		for i := range count {
			if n == nil {
				_, err = stmt.ExecContext(ctx, tag, i, "body "+tag)
			} else {
				_, err = stmt.ExecContext(ctx, tag, n, "")
			}
			if err != nil {
				return errors.Join(err, stmt.Close())
			}
		}
		if _, err := stmt.ExecContext(ctx); err != nil {
			return errors.Join(err, stmt.Close())
		}
		if err := stmt.Close(); err != nil {
			return err
		}
		return tx.Commit()
	}
	if err := in(nil, 500); err != nil {
		return err
	}
	if err := pqState(in("number", 1000), "22P02"); err != nil {
		return err
	}
	return c.want(ctx, c.tag, 500, "select $1::text, count(*)::int from tagged where tag = $2 and body = 'body ' || tag", c.tag, tag)
}

// cancel lets a context end, upon which the driver sends a cancel request. It
// sends only one, and Postgres forgets one that comes before its query has begun:
// then the query ends by itself, and it is tried again.
func (c *pqClient) cancel(ctx context.Context) error {
	for range 3 {
		ended, err := c.sleep(ctx, 10*time.Second)
		if err != nil {
			return err
		}
		// The driver gives a cancelled connection up.
		c.close()
		if err := c.connect(ctx); err != nil {
			return err
		}
		if err := c.want(ctx, c.tag, 1, "select $1::text, 1", c.tag); err != nil || ended {
			return err
		}
	}
	return errors.New("no cancel request ended the query")
}

// sleep runs a query of that length for half a second, and reports whether a
// cancel request has ended it.
func (c *pqClient) sleep(ctx context.Context, length time.Duration) (ended bool, err error) {
	brief, stop := context.WithTimeout(ctx, 500*time.Millisecond)
	defer stop()
	start := time.Now()
	_, err = c.conn.ExecContext(brief, fmt.Sprintf("select pg_sleep(%g)", length.Seconds()))
	if time.Since(start) >= length {
		return false, nil
	}
	if err == nil {
		return false, errors.New("the query ended too early")
	}
	if err := pqState(err, "57014"); err != nil && !errors.Is(brief.Err(), context.DeadlineExceeded) {
		return false, err
	}
	return true, nil
}

func (c *pqClient) large(ctx context.Context) error {
	want := body(c.tag)
	if err := c.want(ctx, want, 1, "select $1::text, 1", want); err != nil {
		return err
	}
	if _, err := c.conn.ExecContext(ctx, "insert into tagged values ($1, 1, $2)", c.tag+"-large", want); err != nil {
		return err
	}
	return c.want(ctx, want, 1, "select body, n from tagged where tag = $1", c.tag+"-large")
}

func (c *pqClient) settings(ctx context.Context) error {
	want := c.tag
	for n := range 10 {
		if err := c.want(ctx, want, n, "select current_setting('application_name'), $1::int", n); err != nil {
			return err
		}
		want = fmt.Sprintf("%s-%d", c.tag, n)
		if _, err := c.conn.ExecContext(ctx, fmt.Sprintf("set application_name = '%s'", want)); err != nil {
			return err
		}
	}
	return nil
}
