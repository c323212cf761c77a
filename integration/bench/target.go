package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/pgweir/pgweir/integration/load"
	"github.com/pgweir/pgweir/integration/pooler"
	"github.com/pgweir/pgweir/integration/postgres"
	"github.com/pgweir/pgweir/integration/sandbox"
)

// Whom the clients log in as. Postgres trusts the poolers, which log in as
// Superuser whatever their clients are called.
const (
	database      = "bench"
	trustedUser   = "bench"
	scramUser     = "scram"
	scramPassword = "a password"
)

// bench is the stage: one Postgres for all.
type bench struct {
	options
	sandbox  *sandbox.Sandbox
	postgres *postgres.Cluster
	secret   string // the SCRAM secret of scramUser
	certs    certs
}

// target is what the clients talk to.
type target struct {
	name    string
	address string
	bench   *bench

	process *sandbox.Process // nil where Postgres itself is the target
	pooler  *pooler.Pooler   // nil where the target is none

	user, system time.Duration // of the process at the last mark
}

// The targets, in the order in which they take turns.
const (
	direct    = "direct"
	pgweir    = "pgweir"
	pgbouncer = "PgBouncer"
	haproxy   = "HAProxy"
)

// scale is pgbench's: 100,000 accounts each, and as many branches as clients
// that write, so that the pooler is measured and not the locks of Postgres.
const scale = 20

func newBench(ctx context.Context, o options) (*bench, error) {
	s, err := sandbox.New()
	if err != nil {
		return nil, err
	}
	b := &bench{options: o, sandbox: s}
	if err := b.prepare(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return b, nil
}

func (b *bench) prepare(ctx context.Context) (err error) {
	fmt.Println("preparing a private Postgres in", b.sandbox.Path())
	if b.certs, err = makeCerts(b.sandbox); err != nil {
		return err
	}
	b.postgres, err = postgres.Start(ctx, b.sandbox, postgres.Options{
		HBA: fmt.Sprintf("local all all trust\nhost all %s all scram-sha-256\nhost all all 127.0.0.1/32 trust\n", scramUser),
		Settings: map[string]string{
			"max_connections": "600", // 400 clients, directly or through HAProxy
			"shared_buffers":  "512MB",
		},
	})
	if err != nil {
		return err
	}
	for _, sql := range []string{
		"create role " + trustedUser + " login superuser",
		"set password_encryption = 'scram-sha-256'; create role " + scramUser + " login superuser password '" + scramPassword + "'",
		"create database " + database,
	} {
		if err := b.postgres.Exec(ctx, sql); err != nil {
			return err
		}
	}
	conn, err := b.postgres.Connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	if err := conn.QueryRow(ctx, "select rolpassword from pg_authid where rolname = $1", scramUser).Scan(&b.secret); err != nil {
		return err
	}
	if _, err := b.postgres.Pgbench(ctx, "-i", "-q", "-s", strconv.Itoa(scale), "-h", b.postgres.Host, "-p", strconv.Itoa(b.postgres.Port), "-U", trustedUser, database); err != nil {
		return err
	}
	// Lines of 100 bytes: 330 of them are a page, 50,000 are 5 MB.
	_, err = b.postgres.Psql(ctx, b.postgres.DSN(trustedUser, database), "-c", `
		create table book (page int, line text);
		insert into book select i / 330, repeat('x', 100) from generate_series(0, 49999) i;
		create table page as select * from book where page < 10;
		create index on page (page)`,
		"-c", "vacuum analyze book", "-c", "vacuum analyze page", "-c", "checkpoint")
	return err
}

// start starts a target of the given name for a work load. The caller ends it.
func (b *bench) start(ctx context.Context, name string, settings map[string]string) (*target, error) {
	t := &target{name: name, bench: b}
	var err error
	switch name {
	case direct:
		t.address = fmt.Sprintf("%s:%d", b.postgres.Host, b.postgres.Port)
	case haproxy:
		t.process, t.address, err = b.startHAProxy(ctx)
	case pgbouncer:
		err = b.startPooler(ctx, t, b.options.pgbouncer, settings)
	default:
		err = b.startPooler(ctx, t, b.options.pgweir, settings)
	}
	return t, err
}

func (b *bench) startPooler(ctx context.Context, t *target, binary string, settings map[string]string) error {
	binary, err := b.sandbox.Within(binary)
	if err != nil {
		return err
	}
	config := pooler.Config{
		Settings: map[string]string{
			"default_pool_size": strconv.Itoa(servers),
			"max_client_conn":   "10000",
			"pool_mode":         "transaction",
		},
		Databases: []string{fmt.Sprintf("%s = host=%s port=%d user=%s", database, b.postgres.Host, b.postgres.Port, postgres.Superuser)},
		Userlist:  map[string]string{trustedUser: "", scramUser: b.secret},
	}
	maps.Copy(config.Settings, settings)
	name := fmt.Sprintf("%s-%d", strings.ToLower(strings.ReplaceAll(t.name, " ", "-")), time.Now().UnixNano())
	t.pooler, err = pooler.Start(ctx, b.sandbox, name, binary, config)
	if err != nil {
		return err
	}
	t.process = t.pooler.Process
	t.address = fmt.Sprintf("%s:%d", t.pooler.Host, t.pooler.Port)
	return nil
}

// startHAProxy starts a TCP proxy that opens one server connection for each
// client. One thread, as PgBouncer has.
func (b *bench) startHAProxy(ctx context.Context) (*sandbox.Process, string, error) {
	port, err := sandbox.FreePort()
	if err != nil {
		return nil, "", err
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	path, err := b.sandbox.WriteFile("haproxy.cfg", fmt.Appendf(nil, `
global
	maxconn 2000
	nbthread 1
defaults
	mode tcp
	timeout connect 10s
	timeout client 1h
	timeout server 1h
listen postgres
	bind %s
	server postgres %s:%d
`, address, b.postgres.Host, b.postgres.Port))
	if err != nil {
		return nil, "", err
	}
	p, err := b.sandbox.Start(sandbox.Command{Path: b.options.haproxy, Args: []string{"-db", "-f", path}})
	if err != nil {
		return nil, "", err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return p, address, p.Await(ctx, func(ctx context.Context) error {
		c, err := load.Dial(ctx, load.Login{Address: address, User: trustedUser, Database: database})
		if err != nil {
			return err
		}
		return c.Close()
	})
}

// stop ends the target; Postgres goes on.
func (t *target) stop() error {
	if t.process == nil {
		return nil
	}
	return t.process.Stop()
}

// login says how a client of w comes in.
func (t *target) login(w work) load.Login {
	return load.Login{
		Address:  t.address,
		User:     cmp.Or(w.login.User, trustedUser),
		Password: w.login.Password,
		Database: database,
		TLS:      w.login.TLS,
	}
}

// mark notes how much processor time the target has used so far.
func (t *target) mark() (err error) {
	if t.process != nil {
		t.user, t.system, err = t.process.CPU()
	}
	return err
}

// sinceMark is the processor time that the target has used since mark, zero for
// Postgres.
func (t *target) sinceMark() (user, system time.Duration, err error) {
	if t.process == nil {
		return 0, 0, nil
	}
	user, system, err = t.process.CPU()
	return user - t.user, system - t.system, err
}

func (b *bench) removeAll(pattern string) error {
	paths, err := filepath.Glob(b.sandbox.Path(pattern))
	if err != nil {
		return err
	}
	for _, path := range paths {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return nil
}

// readLatencies reads pgbench's transaction logs, whose third field is the time
// that a transaction took, in microseconds.
func (b *bench) readLatencies(pattern string, into *load.Histogram) error {
	paths, err := filepath.Glob(b.sandbox.Path(pattern))
	if err != nil {
		return err
	}
	for _, path := range paths {
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		lines := bufio.NewScanner(file)
		for lines.Scan() {
			fields := strings.Fields(lines.Text())
			if len(fields) < 3 {
				continue // the last line of a log that was cut
			}
			us, err := strconv.ParseInt(fields[2], 10, 64)
			if err != nil {
				file.Close()
				return fmt.Errorf("%s: %w", path, err)
			}
			into.Record(time.Duration(us) * time.Microsecond)
		}
		file.Close()
		if err := lines.Err(); err != nil {
			return err
		}
	}
	return nil
}
