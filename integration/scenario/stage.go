package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgweir/pgweir/integration/certificates"
	"github.com/pgweir/pgweir/integration/postgres"
	"github.com/pgweir/pgweir/integration/sandbox"
)

// The role of the app, its database, and how many connections Postgres grants
// the role.
const (
	role      = "app"
	database  = "app"
	roleLimit = 20
)

// stage is what all scenarios have: a Postgres, the app, the poolers.
type stage struct {
	options
	sandbox  *sandbox.Sandbox
	postgres *postgres.Cluster
	python   python
	password string
	watch    *pgx.Conn // the superuser's, for one goroutine at a time
	serial   int       // of what is started
}

// schema is what the app finds.
const schema = `
create table account (id bigint primary key generated always as identity, name text not null, balance bigint not null);
create table entry (id bigint primary key generated always as identity, account_id bigint not null references account, amount int not null, note text not null);
insert into account (name, balance) select 'account ' || i, 0 from generate_series(1, 10000) i;
create index on entry (account_id);
grant all on all tables in schema public to ` + role

// newStage starts a Postgres that wants TLS and a SCRAM login, as providers do.
func newStage(ctx context.Context, box *sandbox.Sandbox, o options, p python) (s *stage, err error) {
	s = &stage{options: o, sandbox: box, python: p, password: rand.Text()}
	cert, key := certificates.NewAuthority("scenario authority").Issue(certificates.Options{Name: "scenario server", Hosts: []string{"localhost", "127.0.0.1"}})
	certFile, err := box.WriteFile("cert.pem", cert)
	if err != nil {
		return nil, err
	}
	keyFile, err := box.WriteFile("key.pem", key)
	if err != nil {
		return nil, err
	}
	s.postgres, err = postgres.Start(ctx, box, postgres.Options{
		HBA: "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n",
		Settings: map[string]string{
			"max_connections": "100", "autovacuum": "on", "shared_buffers": "256MB",
			"ssl": "on", "ssl_cert_file": certFile, "ssl_key_file": keyFile,
		},
	})
	if err != nil {
		return nil, err
	}
	for _, sql := range []string{
		fmt.Sprintf("set password_encryption = 'scram-sha-256'; create role %s login password '%s' connection limit %d", role, s.password, roleLimit),
		"create database " + database,
	} {
		if err := s.postgres.Exec(ctx, sql); err != nil {
			return nil, err
		}
	}
	if s.watch, err = pgx.Connect(ctx, fmt.Sprintf("host=%s port=%d user=%s dbname=%s sslmode=disable", s.postgres.Socket, s.postgres.Port, postgres.Superuser, database)); err != nil {
		return nil, err
	}
	if _, err := s.watch.Exec(ctx, schema, pgx.QueryExecModeSimpleProtocol); err != nil {
		return nil, err
	}
	return s, nil
}

// url is the role's at a server, in Heroku's form.
func (s *stage) url(port int, sslmode string) string {
	return fmt.Sprintf("postgres://%s:%s@127.0.0.1:%d/%s?sslmode=%s", role, s.password, port, database, sslmode)
}

// name returns a name that nothing has yet.
func (s *stage) name(what string) string {
	s.serial++
	return what + strconv.Itoa(s.serial)
}

// backends counts the connections of the role.
func (s *stage) backends(ctx context.Context) (n int, err error) {
	err = s.watch.QueryRow(ctx, "select count(*) from pg_stat_activity where usename = $1", role).Scan(&n)
	return n, err
}

// entries counts what the app has written.
func (s *stage) entries(ctx context.Context) (n int, err error) {
	err = s.watch.QueryRow(ctx, "select count(*) from entry").Scan(&n)
	return n, err
}

// countEvery is the time between two looks at the connections of the role.
const countEvery = 20 * time.Millisecond

// count watches how many connections the role has. peak ends that and returns
// the most that were seen.
func (s *stage) count(ctx context.Context) (peak func() (int, error)) {
	ctx, cancel := context.WithCancel(ctx)
	var most atomic.Int64
	var failed error
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(countEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			// Not with ctx: a query that is given up takes its connection along.
			n, err := s.backends(context.WithoutCancel(ctx))
			if err != nil {
				failed = err
				return
			}
			most.Store(max(most.Load(), int64(n)))
		}
	})
	return func() (int, error) {
		cancel()
		done.Wait()
		return int(most.Load()), failed
	}
}

// vacant waits until the role has no connection any more.
func (s *stage) vacant(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(countEvery)
	defer tick.Stop()
	for {
		n, err := s.backends(ctx)
		if err != nil || n == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("the role still has %d connections", n), ctx.Err())
		case <-tick.C:
		}
	}
}
