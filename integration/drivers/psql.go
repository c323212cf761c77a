package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// psql does the tasks with one process for each client and task.
type psql struct {
	tools  tools
	target target
}

func runPsql(ctx context.Context, tl tools, t target) row {
	p := psql{tl, t}
	r := row{}
	for _, step := range []struct {
		task task
		do   func(context.Context, string) error
	}{
		{taskQuery, p.query},
		{taskPrepared, p.prepared},
		{taskTransaction, p.transaction},
		{taskBatch, p.batch},
		{taskBatchError, p.batchError},
		{taskError, p.error},
		{taskCopy, p.copy},
		{taskCancel, p.cancel},
		{taskLarge, p.large},
		{taskSettings, p.settings},
	} {
		r[step.task] = p.all(ctx, step.do)
	}
	return r
}

// all has every client do one task.
func (p psql) all(ctx context.Context, do func(context.Context, string) error) outcome {
	var wg sync.WaitGroup
	errs := make([]error, p.target.clients)
	for i := range errs {
		wg.Go(func() {
			tag := fmt.Sprintf("psql-%d", i)
			if err := do(ctx, tag); err != nil {
				errs[i] = fmt.Errorf("%s: %w", tag, err)
			}
		})
	}
	wg.Wait()
	return judge(errs)
}

// judge makes one outcome of what the clients say.
func judge(errs []error) outcome {
	var first error
	n := 0
	for _, err := range errs {
		if err != nil {
			n++
			if first == nil {
				first = err
			}
		}
	}
	if first == nil {
		return outcome{verdict: passed}
	}
	return outcome{failed, fmt.Sprintf("%d of %d clients: %v", n, len(errs), first)}
}

// script runs a script; what it prints must be want, rows joined by "|" and
// lines by "\n".
func (p psql) script(ctx context.Context, tag, script, want string) error {
	got, err := p.run(ctx, tag, script, true)
	if err != nil {
		return err
	}
	return same(got, want)
}

// same is an error that shows where got stops to be want.
func same(got, want string) error {
	got = strings.TrimSpace(got)
	if got == want {
		return nil
	}
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	return fmt.Errorf("after %d bytes that are right: got %.100q, want %.100q", i, got[i:], want[i:])
}

// run runs a script and returns its output.
func (p psql) run(ctx context.Context, tag, script string, stop bool) (string, error) {
	command, err := p.command(stop)
	if err != nil {
		return "", err
	}
	return output(ctx, command, p.env(tag), script)
}

func (p psql) command(stop bool) ([]string, error) {
	return p.tools.command("psql", "-X", "-q", "-A", "-t", "-v", fmt.Sprintf("ON_ERROR_STOP=%t", stop), "-d", p.target.conninfo())
}

func (p psql) env(tag string) []string { return []string{"PGAPPNAME=" + tag, "LC_ALL=C"} }

func (p psql) query(ctx context.Context, tag string) error {
	var script, want strings.Builder
	for i := range 20 {
		fmt.Fprintf(&script, "select '%s', n from generate_series(1, %d) n;\n", tag, i+1)
		for n := range i + 1 {
			fmt.Fprintf(&want, "%s|%d\n", tag, n+1)
		}
	}
	return p.script(ctx, tag, script.String(), strings.TrimSpace(want.String()))
}

// prepared uses SQL's PREPARE and EXECUTE, which is all that psql before 18 has.
func (p psql) prepared(ctx context.Context, tag string) error {
	script := fmt.Sprintf("prepare shared (text, int) as select $1, $2 * 2;\nprepare own as select '%s', 'own';\n", tag)
	var want strings.Builder
	for i := range 20 {
		script += fmt.Sprintf("execute shared ('%s', %d);\nexecute own;\n", tag, i)
		fmt.Fprintf(&want, "%s|%d\n%s|own\n", tag, 2*i, tag)
	}
	script += fmt.Sprintf("deallocate shared;\nprepare shared (text) as select $1, 'again';\nexecute shared ('%s');\n", tag)
	fmt.Fprintf(&want, "%s|again", tag)
	return p.script(ctx, tag, script, want.String())
}

func (p psql) transaction(ctx context.Context, tag string) error {
	const begin = `begin;
select pg_backend_pid() as pid \gset
insert into tagged select :'tag', n from generate_series(1, 3) n;
select tag, n from tagged where tag = :'tag' order by n;
savepoint s;
delete from tagged where tag = :'tag';
rollback to savepoint s;
select count(*), pg_backend_pid() = :pid from tagged where tag = :'tag';
`
	const end = "select count(*) from tagged where tag = :'tag';\n"
	script := fmt.Sprintf("\\set tag %s\n", tag) + begin + "rollback;\n" + end + begin + "commit;\n" + end
	rows := fmt.Sprintf("%[1]s|1\n%[1]s|2\n%[1]s|3\n3|t\n", tag)
	return p.script(ctx, tag, script, rows+"0\n"+rows+"3")
}

// batch sends several statements in one Query message.
func (p psql) batch(ctx context.Context, tag string) error {
	var script, want strings.Builder
	for i := range 10 {
		fmt.Fprintf(&script, "select '%s', %d%s", tag, i, map[bool]string{true: `\;` + "\n", false: ";\n"}[i < 9])
		fmt.Fprintf(&want, "%s|%d\n", tag, i)
	}
	return p.script(ctx, tag, strings.Repeat(script.String(), 5), strings.TrimSpace(strings.Repeat(want.String(), 5)))
}

func (p psql) batchError(ctx context.Context, tag string) error {
	script := fmt.Sprintf(`select '%[1]s', 'before'\; select 1/0\; select '%[1]s', 'never';
\echo :SQLSTATE
select '%[1]s', 'after';
`, tag)
	got, err := p.run(ctx, tag, strings.Repeat(script, 5), false)
	if err != nil {
		return err
	}
	return same(got, strings.TrimSpace(strings.Repeat(fmt.Sprintf("%[1]s|before\n22012\n%[1]s|after\n", tag), 5)))
}

func (p psql) error(ctx context.Context, tag string) error {
	script := fmt.Sprintf(`\set tag %s-error
selec 1;
\echo :SQLSTATE
begin;
insert into tagged values (:'tag', 1);
insert into tagged values (:'tag', 1);
\echo :SQLSTATE
select 1;
\echo :SQLSTATE
rollback;
select :'tag', count(*) from tagged where tag = :'tag';
`, tag)
	got, err := p.run(ctx, tag, strings.Repeat(script, 3), false)
	if err != nil {
		return err
	}
	return same(got, strings.TrimSpace(strings.Repeat(fmt.Sprintf("42601\n23505\n25P02\n%s-error|0\n", tag), 3)))
}

func (p psql) copy(ctx context.Context, tag string) error {
	var script, want strings.Builder
	script.WriteString("\\copy tagged from stdin\n")
	for i := range 500 {
		line := fmt.Sprintf("%s-copy\t%d\tbody %[1]s\n", tag, i)
		script.WriteString(line)
		want.WriteString(line)
	}
	fmt.Fprintf(&script, "\\.\n\\copy (select * from tagged where tag = '%s-copy' order by n) to stdout\n", tag)
	script.WriteString("\\copy tagged from stdin\nno number\tx\t\n\\.\n")
	fmt.Fprintf(&script, "select '%s', count(*) from tagged where tag = '%[1]s-copy';\n", tag)
	got, err := p.run(ctx, tag, script.String(), false)
	if err != nil {
		return err
	}
	return same(got, strings.TrimSpace(want.String())+fmt.Sprintf("\n%s|500", tag))
}

// cancel interrupts psql until its query has ended. That ends psql as well, when
// it reads a script. Where an interrupt comes before the query, psql ends without
// a word, and it is tried again.
func (p psql) cancel(ctx context.Context, tag string) error {
	for ctx.Err() == nil {
		stderr, err := p.interrupt(ctx, tag)
		if strings.Contains(stderr, "canceling statement due to user request") {
			return p.script(ctx, tag, fmt.Sprintf("select '%s';", tag), tag)
		}
		if ended, ok := errors.AsType[*exec.ExitError](err); !ok || stderr != "" || ended.ExitCode() != psqlInterrupted {
			return errors.Join(err, errors.New(stderr))
		}
	}
	return ctx.Err()
}

// psqlInterrupted is the exit status of a psql whose script was ended by an
// interrupt or an error.
const psqlInterrupted = 3

// interrupt runs psql with a long query, and interrupts it until it has ended.
func (p psql) interrupt(ctx context.Context, tag string) (stderr string, err error) {
	command, err := p.command(false)
	if err != nil {
		return "", err
	}
	cmd := newCommand(ctx, command, p.env(tag))
	cmd.Stdin = strings.NewReader("\\echo ready\nselect pg_sleep(60);\n")
	var said strings.Builder
	cmd.Stderr = &said
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	// Before it is ready, an interrupt would end psql without a query.
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		return "", errors.Join(fmt.Errorf("psql says %q: %w", line, err), cmd.Wait(), errors.New(said.String()))
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	again := time.NewTicker(300 * time.Millisecond)
	defer again.Stop()
	for {
		select {
		case err := <-ended:
			return said.String(), err
		case <-again.C:
			if err := cmd.Process.Signal(syscall.SIGINT); err != nil && !errors.Is(err, os.ErrProcessDone) {
				return "", errors.Join(err, cmd.Process.Kill(), <-ended)
			}
		}
	}
}

func (p psql) large(ctx context.Context, tag string) error {
	body := tag + strings.Repeat("x", 1<<20)
	script := fmt.Sprintf(`select '%[1]s';
insert into tagged values ('%[2]s-large', 1, '%[1]s');
select body from tagged where tag = '%[2]s-large';
`, body, tag)
	return p.script(ctx, tag, script, body+"\n"+body)
}

func (p psql) settings(ctx context.Context, tag string) error {
	var script, want strings.Builder
	for i := range 10 {
		script.WriteString("show application_name;\n")
		if i == 0 {
			fmt.Fprintf(&want, "%s\n", tag)
		} else {
			fmt.Fprintf(&want, "%s-%d\n", tag, i-1)
		}
		fmt.Fprintf(&script, "set application_name = '%s-%d';\n", tag, i)
	}
	return p.script(ctx, tag, script.String(), strings.TrimSpace(want.String()))
}
