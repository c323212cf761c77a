package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pgweir/pgweir/integration/pooler"
	"github.com/pgweir/pgweir/integration/postgres"
	"github.com/pgweir/pgweir/integration/sandbox"
)

// user and database are what the drivers ask for.
const (
	user     = "app"
	database = "drivers"
)

// tools are the client programs of the Postgres that is used.
type tools struct {
	install postgres.Install
	// superuser runs statements, past the pooler.
	superuser func(context.Context, string) error
}

// command is a client program of Postgres with its arguments.
func (t tools) command(name string, args ...string) ([]string, error) {
	path, err := t.install.Tool(name)
	return append([]string{path}, args...), err
}

// bench runs the drivers one after another, each over a database and through a
// pooler of its own.
func (o *options) bench(ctx context.Context, chosen []driver, secure bool) (passed bool, err error) {
	s, err := sandbox.New()
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	title := fmt.Sprintf("%d clients, %d servers, pool_mode %s", o.clients, o.servers, o.mode)
	settings := map[string]string{"max_connections": "200"}
	var certs certFiles
	if secure {
		title += ", TLS on both sides"
		if certs, err = makeCertificates(s); err != nil {
			return false, err
		}
		settings["ssl"] = "on"
		settings["ssl_cert_file"], settings["ssl_key_file"] = certs.cert, certs.key
	}
	db, err := postgres.Start(ctx, s, postgres.Options{
		Settings: settings,
		HBA:      "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n",
	})
	if err != nil {
		return false, err
	}
	password := rand.Text()
	if err := db.Exec(ctx, "create role "+user+" login password '"+password+"'"); err != nil {
		return false, err
	}
	binary, err := s.Within(o.binary)
	if err != nil {
		return false, err
	}

	var r report
	r.begin(title)
	for i, d := range chosen {
		t := target{host: db.Host, port: db.Port, user: user, password: password, database: database, ca: certs.ca, clients: o.clients}
		if err := o.refill(ctx, db, t); err != nil {
			return false, err
		}
		var p *pooler.Pooler
		if o.mode != "direct" {
			if p, err = pooler.Start(ctx, s, "pooler"+strconv.Itoa(i), binary, o.config(db, t, certs)); err != nil {
				return false, err
			}
			t.host, t.port = p.Host, p.Port
		}
		start := time.Now()
		var got row
		if d.run != nil {
			runCtx, cancel := context.WithTimeout(ctx, programTime)
			got = d.run(runCtx, tools{db.Install, db.Exec}, t)
			cancel()
		} else {
			command, env := d.language.command(shop{o.source, o.cache}, d.name)
			got = runProgram(ctx, command, append(t.env(), env...))
		}
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		seconds := time.Since(start).Seconds()
		got[taskReleased] = o.released(ctx, p)
		if p != nil {
			if err := p.Stop(); err != nil {
				return false, err
			}
		}
		r.add(d, got, seconds)
	}
	r.end()
	return !r.failed, nil
}

// refill makes the database anew. Postgres itself refuses more connections
// than the pooler may have.
func (o *options) refill(ctx context.Context, db *postgres.Cluster, t target) error {
	limit := o.servers
	if o.mode != "transaction" {
		limit = -1
	}
	for _, sql := range []string{
		"drop database if exists " + database + " with (force)",
		fmt.Sprintf("create database %s owner %s connection limit %d", database, user, limit),
	} {
		if err := db.Exec(ctx, sql); err != nil {
			return err
		}
	}
	_, err := db.Psql(ctx, fmt.Sprintf("host=%s port=%d user=%s dbname=%s", db.Socket, db.Port, user, database), "-c", schema)
	return err
}

// config is the pooler's. Fewer prepared statements are kept on a server than
// the clients have, so they take each other's places all the time.
func (o *options) config(db *postgres.Cluster, t target, certs certFiles) pooler.Config {
	settings := map[string]string{
		"auth_type":               "scram-sha-256",
		"default_pool_size":       strconv.Itoa(o.servers),
		"max_client_conn":         "200",
		"max_prepared_statements": "50",
		"pool_mode":               o.mode,
	}
	if o.mode == "session" {
		settings["default_pool_size"] = strconv.Itoa(2 * o.clients)
	}
	if certs.ca != "" {
		settings["client_tls_sslmode"] = "require"
		settings["client_tls_cert_file"], settings["client_tls_key_file"] = certs.cert, certs.key
		settings["server_tls_sslmode"] = "verify-full"
		settings["server_tls_ca_file"] = certs.ca
	}
	return pooler.Config{
		Settings:  settings,
		Databases: []string{fmt.Sprintf("* = host=%s port=%d", db.Host, db.Port)},
		Userlist:  map[string]string{t.user: t.password},
	}
}

// releaseTime is how long the pooler has to notice that everybody has left.
const releaseTime = time.Minute

// released is the outcome of the task of that name.
func (o *options) released(ctx context.Context, p *pooler.Pooler) outcome {
	if p == nil {
		return outcome{absent, "there is no pooler"}
	}
	deadline := time.Now().Add(releaseTime)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ; ; <-tick.C {
		pools, err := p.Console(ctx, "SHOW POOLS")
		if err != nil {
			return outcome{failed, err.Error()}
		}
		left := ""
		for _, pool := range pools {
			if pool["database"] == "pgbouncer" {
				continue
			}
			for _, column := range []string{"cl_active", "cl_waiting", "sv_active", "sv_tested", "sv_login"} {
				if pool[column] != "0" {
					left += fmt.Sprintf(" %s=%s", column, pool[column])
				}
			}
		}
		if left == "" {
			break
		}
		if time.Now().After(deadline) {
			return outcome{failed, "the pooler still has" + left}
		}
	}
	for _, word := range []string{"panic", "BUG", "DATA RACE"} {
		if strings.Contains(p.Log(), word) {
			return outcome{failed, "the pooler's log has a " + word + ":\n" + lastLines(p.Log(), 30)}
		}
	}
	return outcome{verdict: passed}
}
