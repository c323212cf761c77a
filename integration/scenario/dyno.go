package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pgweir/pgweir/integration/pooler"
	"github.com/pgweir/pgweir/integration/sandbox"
)

// front is what stands between the app and Postgres.
type front int

const (
	direct    front = iota // nothing
	pgbouncer              // PgBouncer, as Heroku's buildpack sets it
	pgweir                 // pgweir exec
)

var frontNames = [...]string{"none", "PgBouncer", "pgweir exec"}

func (f front) String() string { return frontNames[f] }

// poolSize is how many server connections a pooler may have that has the whole
// role to itself; the buildpack adds a reserve of one.
const poolSize = roleLimit - 2

// configVars are the variables of an app with Heroku's buildpack. pgweir gets
// them, too, and both mean the same by them.
var configVars = []string{
	"PGBOUNCER_DEFAULT_POOL_SIZE=" + strconv.Itoa(poolSize),
	"PGBOUNCER_MAX_CLIENT_CONN=1000",
}

// sessionVar has a client keep its server, for apps that SET.
const sessionVar = "PGBOUNCER_POOL_MODE=session"

// sessionMode is what the buildpack makes of sessionVar.
var sessionMode = map[string]string{"pool_mode": "session", "server_reset_query": "DISCARD ALL;"}

// buildpack is the pgbouncer.ini that the buildpack makes of configVars.
var buildpack = map[string]string{
	"auth_type":            "scram-sha-256",
	"pool_mode":            "transaction",
	"server_tls_sslmode":   "require",
	"server_reset_query":   "",
	"max_client_conn":      "1000",
	"default_pool_size":    strconv.Itoa(poolSize),
	"min_pool_size":        "0",
	"reserve_pool_size":    "1",
	"reserve_pool_timeout": "5.0",
	"server_lifetime":      "3600",
	"server_idle_timeout":  "600",
	"query_wait_timeout":   "120",
	"log_connections":      "1",
	"log_disconnections":   "1",
	"log_pooler_errors":    "1",
	"stats_period":         "60",
}

// dyno is a container of the app: all of its processes are one session.
type dyno struct {
	address string // where the app answers
	front   front
	process *sandbox.Process
	pooler  *pooler.Pooler // PgBouncer, nil for others
}

// startTime bounds the start of an app, on a machine that is busy.
const startTime = 3 * time.Minute

// start starts the app with the given workers ("gevent 2"), and waits until it
// answers. Its environment is env, which says how to pool, and what Heroku sets.
func (s *stage) start(ctx context.Context, f front, workers string, env ...string) (d *dyno, err error) {
	d = &dyno{front: f}
	name := s.name(strings.ReplaceAll(f.String(), " ", "-"))
	port, err := sandbox.FreePort()
	if err != nil {
		return nil, err
	}
	d.address = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	url := s.url(s.postgres.Port, "require")
	command := s.python.gunicorn(s.source)
	switch f {
	case pgbouncer:
		binary, err := s.sandbox.Within(s.pgbouncer)
		if err != nil {
			return nil, err
		}
		settings := maps.Clone(buildpack)
		if slices.Contains(env, sessionVar) {
			maps.Copy(settings, sessionMode)
		}
		d.pooler, err = pooler.Start(ctx, s.sandbox, name+"-pool", binary, pooler.Config{
			Settings:  settings,
			Databases: []string{fmt.Sprintf("%s = host=127.0.0.1 port=%d dbname=%s", database, s.postgres.Port, database)},
			Userlist:  map[string]string{role: s.password},
		})
		if err != nil {
			return nil, err
		}
		url = s.url(d.pooler.Port, "disable")
	case pgweir:
		command = append([]string{s.pgweir, "exec", "--"}, command...)
	}
	d.process, err = s.sandbox.Start(sandbox.Command{
		Path: command[0], Args: command[1:], Name: name, Own: true, Grace: 30 * time.Second,
		Env: append([]string{
			"DATABASE_URL=" + url, "DYNO=" + name, "PORT=" + strconv.Itoa(port), "WORKERS=" + workers,
			"PGWEIR_BIN=", "PGWEIR_BUILD=", "PGWEIR_PG_BIN=",
		}, env...),
	})
	if err != nil {
		return nil, errors.Join(err, d.stop(ctx))
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	if err := d.process.Await(ctx, func(context.Context) error { return up(d.address) }); err != nil {
		return nil, errors.Join(err, d.stop(context.WithoutCancel(ctx)))
	}
	return d, nil
}

// up asks the app whether it is there.
func up(address string) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	status, text, _, err := ask(conn, bufio.NewReader(conn), request("/up"))
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("status %d: %s", status, text)
	}
	return err
}

// stop ends the dyno as Heroku does, and waits until it has: all processes get
// SIGTERM at once.
func (d *dyno) stop(ctx context.Context) (err error) {
	if d.process != nil {
		err = errors.Join(d.tell(), d.await(ctx))
	}
	if d.pooler != nil {
		err = errors.Join(err, d.pooler.Stop())
	}
	return err
}

// grace is what Heroku gives a dyno to end.
const grace = 30 * time.Second

// await waits until the dyno has ended. Its status must be the app's.
func (d *dyno) await(ctx context.Context) error {
	select {
	case <-d.process.Done():
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(grace):
		d.process.Kill()
		return fmt.Errorf("a dyno (%v) did not end within %v; its log ends:\n%s", d.front, grace, last(d.process.Log(), 2000))
	}
	if err := d.process.Err(); err != nil {
		return fmt.Errorf("a dyno (%v) ended with %w; its log ends:\n%s", d.front, err, last(d.process.Log(), 2000))
	}
	return nil
}

// tell sends SIGTERM to all processes of the dyno.
func (d *dyno) tell() error {
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return err
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended meanwhile
		}
		// pid (name) state ppid pgrp session
		_, rest, _ := strings.Cut(string(text), ") ")
		fields := strings.Fields(rest)
		if len(fields) < 4 || fields[3] != strconv.Itoa(d.process.PID()) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return err
		}
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return nil
}

// last is the end of a text.
func last(text string, n int) string { return text[max(0, len(text)-n):] }
