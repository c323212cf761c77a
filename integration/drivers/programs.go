package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// pgbenchTasks are pgbench's protocols.
var pgbenchTasks = []task{"init", "simple", "extended", "prepared", "balance", taskReleased}

// failures is the line of pgbench's report that must be there, with 0.
var failures = regexp.MustCompile(`number of failed transactions: 0 `)

// runPgbench makes pgbench's tables and runs its transactions by all three
// protocols. Each transaction adds one amount in three tables and writes it
// down in a fourth: afterwards the four sums are the same.
func runPgbench(ctx context.Context, tl tools, t target) row {
	r := row{}
	run := func(name task, args ...string) {
		out, err := runTool(ctx, tl, t, "pgbench", args...)
		switch {
		case err != nil:
			r[name] = outcome{failed, err.Error()}
		case name != "init" && !failures.MatchString(out):
			r[name] = outcome{failed, out}
		default:
			r[name] = outcome{verdict: passed}
		}
	}
	run("init", "--initialize", "--quiet", "--scale=2")
	// Each client is a thread: pgbench prepares while its whole thread waits, and
	// other clients of that thread would hold the servers that it waits for.
	const each = 25
	for _, protocol := range []task{"simple", "extended", "prepared"} {
		run(protocol, "--no-vacuum", "--protocol="+string(protocol), fmt.Sprintf("--client=%d", t.clients), fmt.Sprintf("--jobs=%d", t.clients), fmt.Sprintf("--transactions=%d", each))
	}
	const balance = `select count(*), sum(delta) = (select sum(abalance) from pgbench_accounts)
		and sum(delta) = (select sum(tbalance) from pgbench_tellers)
		and sum(delta) = (select sum(bbalance) from pgbench_branches) from pgbench_history`
	r["balance"] = compare(ctx, tl, t, balance, fmt.Sprintf("%d|t", 3*each*t.clients))
	return r
}

// runTool runs a client program of Postgres on the target's database.
func runTool(ctx context.Context, tl tools, t target, name string, args ...string) (string, error) {
	command, err := tl.command(name, args...)
	if err != nil {
		return "", err
	}
	env := []string{
		"PGHOST=" + t.host, fmt.Sprintf("PGPORT=%d", t.port), "PGUSER=" + t.user, "PGPASSWORD=" + t.password,
		"PGDATABASE=" + t.database, "PGSSLMODE=" + t.sslmode(), "PGSSLROOTCERT=" + t.ca, "LC_ALL=C",
	}
	return output(ctx, command, env, "")
}

// compare asks psql.
func compare(ctx context.Context, tl tools, t target, sql, want string) outcome {
	got, err := runTool(ctx, tl, t, "psql", "-X", "-q", "-A", "-t", "-c", sql)
	if err == nil {
		err = same(got, want)
	}
	if err != nil {
		return outcome{failed, err.Error()}
	}
	return outcome{verdict: passed}
}

// dumpTasks are a dump and the ways to read it.
var dumpTasks = []task{"dump", "restore", "plain", taskReleased}

// runDump dumps a database and restores it into others, in Postgres' own format
// and as a script.
func runDump(ctx context.Context, tl tools, t target) row {
	r := row{}
	dir, err := os.MkdirTemp("", "pgweir-dump-")
	if err != nil {
		return row{"dump": {failed, err.Error()}}
	}
	defer os.RemoveAll(dir)

	const fill = `
create schema things;
create type things.mood as enum ('fine', 'else');
create table things.rows (id bigserial primary key, tag text not null, at timestamptz default now(), mood things.mood, bytes bytea);
insert into things.rows (tag, mood, bytes) select 'row ' || n, 'fine', decode(md5(n::text), 'hex') from generate_series(1, 20000) n;
create index on things.rows (tag);
create view things.few as select * from things.rows where id < 10;
create function things.twice(int) returns int language sql as 'select $1 * 2';
create sequence things.own start 42;
select lo_from_bytea(0, repeat('large', 10000)::bytea) > 0;
`
	const sum = `select count(*), md5(string_agg(r::text, ',' order by id)), (select count(*) from things.few), things.twice(21),
		(select count(*) from pg_largeobject_metadata) from things.rows r`
	step := func(name task, do func() error) {
		if err := do(); err != nil {
			r[name] = outcome{failed, err.Error()}
			return
		}
		r[name] = outcome{verdict: passed}
	}
	psql := func(database, sql string) (string, error) {
		t := t
		t.database = database
		return runTool(ctx, tl, t, "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql)
	}
	create := func(database string) error {
		if err := tl.superuser(ctx, "drop database if exists "+database+" with (force)"); err != nil {
			return err
		}
		return tl.superuser(ctx, "create database "+database+" owner "+t.user)
	}
	equal := func(database string) error {
		want, err := psql(t.database, sum)
		if err != nil {
			return err
		}
		got, err := psql(database, sum)
		if err != nil {
			return err
		}
		return same(got, strings.TrimSpace(want))
	}

	custom, plain := filepath.Join(dir, "custom"), filepath.Join(dir, "plain.sql")
	step("dump", func() error {
		if _, err := psql(t.database, fill); err != nil {
			return err
		}
		if _, err := runTool(ctx, tl, t, "pg_dump", "--format=custom", "--file="+custom); err != nil {
			return err
		}
		_, err := runTool(ctx, tl, t, "pg_dump", "--no-owner", "--file="+plain)
		return err
	})
	step("restore", func() error {
		if err := create("restored"); err != nil {
			return err
		}
		if _, err := runTool(ctx, tl, t, "pg_restore", "--exit-on-error", "--jobs=2", "--no-owner", "--dbname=restored", custom); err != nil {
			return err
		}
		return equal("restored")
	})
	step("plain", func() error {
		if err := create("replayed"); err != nil {
			return err
		}
		t := t
		t.database = "replayed"
		if _, err := runTool(ctx, tl, t, "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "--file="+plain); err != nil {
			return err
		}
		return equal("replayed")
	})
	return r
}
