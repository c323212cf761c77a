package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgweir/pgweir/integration/load"
	"github.com/pgweir/pgweir/integration/pooler"
	"github.com/pgweir/pgweir/integration/postgres"
	"github.com/pgweir/pgweir/integration/sandbox"
)

// show is one performance.
type show struct {
	binary           string
	clients, servers int
	duration         time.Duration

	sandbox  *sandbox.Sandbox
	password string // of the clients
	pgweir   *pooler.Pooler
	pools    [][]string // SHOW POOLS with its header, while the load was on
}

func (s *show) run(ctx context.Context) (err error) {
	if s.binary, err = absolute(s.binary); err != nil {
		return err
	}
	if s.sandbox, err = sandbox.New(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.sandbox.Close()) }()

	back, err := s.backend(ctx)
	if err != nil {
		return err
	}
	if err := s.startPooler(ctx, back); err != nil {
		return err
	}
	total, err := s.load(ctx, back)
	if err != nil {
		return err
	}
	step("SHOW POOLS, from the console, at the end of the load")
	printTable(s.pools)
	step("Latency of a query, as the clients saw it")
	fmt.Printf("    p50 %v   p95 %v   p99 %v   max %v   over %s queries\n",
		round(total.Quantile(0.50)), round(total.Quantile(0.95)), round(total.Quantile(0.99)), round(total.Max()), thousands(total.Count()))

	step("Try it yourself")
	fmt.Printf("    the database:  psql %s\n", shellQuote(s.pgweir.DSN(user, s.password, database)))
	fmt.Printf("    the console:   psql %s   (SHOW HELP; SHOW CLIENTS; PAUSE; RESUME; ...)\n", shellQuote(s.pgweir.DSN(pooler.Admin, s.pgweir.Password, "pgbouncer")))
	fmt.Printf("\n    Ctrl-C ends pgweir%s and removes %s\n", back.also, s.sandbox.Path())
	select {
	case <-ctx.Done():
		fmt.Println()
		step("Ending")
		return nil
	case <-s.pgweir.Done():
		return fmt.Errorf("pgweir ended by itself: %v\n%s", s.pgweir.Err(), s.pgweir.Log())
	}
}

// backend starts a private Postgres, or takes the one of $DATABASE_URL.
func (s *show) backend(ctx context.Context) (backend, error) {
	if raw := os.Getenv("DATABASE_URL"); raw != "" {
		step("Using the Postgres of DATABASE_URL; only SELECTs are sent to it")
		return backendFromURL(raw)
	}
	step("Starting a private Postgres in %s", s.sandbox.Path())
	db, err := postgres.Start(ctx, s.sandbox, postgres.Options{})
	if err != nil {
		return backend{}, err
	}
	const rows = 100_000
	for _, sql := range []string{
		"create table accounts (id int primary key, balance int not null)",
		fmt.Sprintf("insert into accounts select i, i %% 1000 from generate_series(1, %d) i", rows),
		"vacuum analyze accounts",
	} {
		if err := db.Exec(ctx, sql); err != nil {
			return backend{}, err
		}
	}
	fmt.Printf("    PostgreSQL %s on port %d, as user %s, with a table of %s accounts\n", db.Install.Version, db.Port, s.sandbox.User(), thousands(rows))
	return backend{
		entry: fmt.Sprintf("%s = host=%s port=%d dbname=%s user=%s", database, db.Host, db.Port, postgres.Database, postgres.Superuser),
		query: fmt.Sprintf("select balance from accounts where id = 1 + $1 %% %d", rows),
		also:  " and Postgres",
	}, nil
}

func (s *show) startPooler(ctx context.Context, back backend) error {
	binary, err := s.sandbox.Within(s.binary)
	if err != nil {
		return err
	}
	s.password = rand.Text()
	s.pgweir, err = pooler.Start(ctx, s.sandbox, "pgweir", binary, pooler.Config{
		Settings: map[string]string{
			"auth_type":         "scram-sha-256",
			"default_pool_size": strconv.Itoa(s.servers),
			"max_client_conn":   strconv.Itoa(10*s.clients + 100),
			"pool_mode":         "transaction",
		},
		Databases: []string{back.entry},
		Userlist:  map[string]string{user: s.password},
	})
	if err != nil {
		return err
	}
	step("pgweir is in front of it, on port %d", s.pgweir.Port)
	return s.probe(ctx)
}

// probe has one client come in, so that a Postgres that can't be reached is
// told of once, and not by every client.
func (s *show) probe(ctx context.Context) error {
	const patience = 15 * time.Second
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := pgx.Connect(limited, s.pgweir.DSN(user, s.password, database))
	if err != nil {
		return fmt.Errorf("no client gets through to Postgres: %w; pgweir's log:\n%s", err, s.pgweir.Log())
	}
	return conn.Close(ctx)
}

// load has all clients ask at once, as fast as they are answered.
func (s *show) load(ctx context.Context, back backend) (*load.Histogram, error) {
	step("Load: %d client connections over %d server connections, for %v", s.clients, s.servers, s.duration)
	conns, err := s.connect(ctx)
	defer func() {
		for _, conn := range conns {
			conn.Close(context.Background())
		}
	}()
	if err != nil {
		return nil, err
	}

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	finished := errors.New("the time is over")
	var meter load.Meter
	var workers sync.WaitGroup
	for i, conn := range conns {
		workers.Go(func() {
			for n := i; ctx.Err() == nil; n += len(conns) {
				began := time.Now()
				var got int
				// A query in flight is waited for: a connection is not torn down within it.
				if err := conn.QueryRow(context.WithoutCancel(ctx), back.query, n).Scan(&got); err != nil {
					cancel(err)
					return
				}
				meter.Record(time.Since(began))
			}
		})
	}
	second := time.NewTicker(time.Second)
	defer second.Stop()
	end := time.NewTimer(s.duration)
	defer end.Stop()
	last := time.Now()
	for elapsed := 1; ctx.Err() == nil; {
		select {
		case <-ctx.Done():
		case <-end.C:
			if s.pools, err = s.showPools(ctx); err != nil {
				cancel(err)
			}
			cancel(finished)
		case now := <-second.C:
			h := meter.Recent()
			fmt.Printf("    %2d s   %7s queries/s   p50 %-8v p99 %v\n", elapsed, thousands(uint64(float64(h.Count())/now.Sub(last).Seconds())), round(h.Quantile(0.5)), round(h.Quantile(0.99)))
			last = now
			elapsed++
		}
	}
	workers.Wait()
	if err := context.Cause(ctx); err != finished {
		return nil, err
	}
	total := meter.Total()
	return &total, nil
}

// connect logs all clients in. It returns those that came in, also with an
// error.
func (s *show) connect(ctx context.Context) ([]*pgx.Conn, error) {
	config, err := pgx.ParseConfig(s.pgweir.DSN(user, s.password, database))
	if err != nil {
		return nil, err
	}
	// Extended protocol, unnamed statements: what a transaction pool takes from
	// any driver.
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	began := time.Now()
	conns := make([]*pgx.Conn, s.clients)
	errs := make([]error, s.clients)
	var logins sync.WaitGroup
	for i := range conns {
		logins.Go(func() { conns[i], errs[i] = pgx.ConnectConfig(ctx, config) })
	}
	logins.Wait()
	var in []*pgx.Conn
	for _, conn := range conns {
		if conn != nil {
			in = append(in, conn)
		}
	}
	if err := cmp.Or(errs...); err != nil {
		return in, err
	}
	fmt.Printf("    all clients logged in (SCRAM-SHA-256) within %v\n", round(time.Since(began)))
	return in, nil
}

// showPools asks the console who works and who waits.
func (s *show) showPools(ctx context.Context) ([][]string, error) {
	conn, err := pgx.Connect(ctx, s.pgweir.DSN(pooler.Admin, s.pgweir.Password, "pgbouncer"))
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.Background())
	results, err := conn.PgConn().Exec(ctx, "SHOW POOLS").ReadAll()
	if err != nil {
		return nil, err
	}
	var header []string
	for _, column := range results[0].FieldDescriptions {
		header = append(header, column.Name)
	}
	table := [][]string{header}
	for _, row := range results[0].Rows {
		var line []string
		for _, value := range row {
			line = append(line, string(value))
		}
		table = append(table, line)
	}
	return table, nil
}

// printTable prints rows, the first being the header, turned on their side: a
// SHOW has more columns than a terminal is wide.
func printTable(rows [][]string) {
	for i, name := range rows[0] {
		line := fmt.Sprintf("    %-22s", name)
		for _, row := range rows[1:] {
			line += fmt.Sprintf(" %-12s", row[i])
		}
		fmt.Println(strings.TrimRight(line, " "))
	}
}

// round keeps three digits or so.
func round(d time.Duration) time.Duration {
	switch {
	case d > time.Second:
		return d.Round(10 * time.Millisecond)
	case d > 10*time.Millisecond:
		return d.Round(100 * time.Microsecond)
	case d > time.Millisecond:
		return d.Round(10 * time.Microsecond)
	}
	return d.Round(time.Microsecond)
}

// thousands writes 12,345.
func thousands(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
