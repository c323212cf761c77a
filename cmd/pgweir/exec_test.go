package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"
)

// nowhere is a URL that leads to no server.
const nowhere = "DATABASE_URL=postgres://app:secret@127.0.0.1:1/app"

// sidecarProcess is a `pgweir exec` and what its command writes to stdout. That
// ends when all are gone who might write to it.
type sidecarProcess struct {
	*instance
	stdout *bufio.Reader
}

// runCommand starts `pgweir exec` with args, and env added to an environment
// without any of the variables that it looks at.
func runCommand(t *testing.T, env []string, args ...string) *sidecarProcess {
	t.Helper()
	in := &instance{t: t}
	in.cmd = exec.Command(os.Args[0], append([]string{"exec"}, args...)...)
	in.cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "PG") || strings.HasPrefix(kv, "DYNO=") || strings.HasPrefix(kv, "DATABASE_URL")
	})
	in.cmd.Env = append(append(in.cmd.Env, asProgram+"=1"), env...)
	stdout, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	in.cmd.Stdout = theirs
	in.launch()
	t.Cleanup(func() { stdout.Close() })
	if err := theirs.Close(); err != nil {
		t.Fatal(err)
	}
	if err := stdout.SetReadDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	return &sidecarProcess{in, bufio.NewReader(stdout)}
}

// line reads a line of the command's output.
func (p *sidecarProcess) line() string {
	p.t.Helper()
	line, err := p.stdout.ReadString('\n')
	if err != nil {
		p.t.Fatalf("the command says nothing: %v", err)
	}
	return strings.TrimSpace(line)
}

// rest waits until pgweir and all that it has started are gone, and returns what
// they still had to say.
func (p *sidecarProcess) rest() string {
	p.t.Helper()
	text, err := io.ReadAll(p.stdout)
	if err != nil {
		p.t.Errorf("somebody is left: %v", err)
	}
	return string(text)
}

// exits checks the exit status, that the log holds each text, and that no
// process is left.
func (p *sidecarProcess) exits(want int, texts ...string) {
	p.t.Helper()
	p.rest()
	status, log := p.end()
	if status != want {
		p.t.Errorf("exit status %d, want %d", status, want)
	}
	for _, text := range texts {
		if !strings.Contains(log, text) {
			p.t.Errorf("no %q in the log", text)
		}
	}
	if strings.Contains(log, "secret") {
		p.t.Error("the log tells the password")
	}
	if p.t.Failed() {
		p.t.Logf("the log:\n%s", log)
	}
}

func TestExecStatus(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		status int
		args   []string
		says   string
	}{
		{"success", 0, []string{"--wait", "0", "true"}, "true has ended"},
		{"failure", 7, []string{"--wait=0", "--", "sh", "-c", "exit 7"}, "sh has ended"},
		{"killed", 137, []string{"-wait", "0s", "--", "sh", "-c", "kill -KILL $$"}, ""}, // which nobody can ignore
		{"terminated", 143, []string{"--wait=0", "--", "sh", "-c", "kill -TERM $$"}, ""},
		{"no such program", 127, []string{"there-is-no-such-program"}, "executable file not found"},
		{"no program", 126, []string{"/"}, "exec: \"/\": is a directory"},
		{"no command", 125, []string{"--wait=0"}, "no command to start"},
		{"no such option", 125, []string{"--pool-sise", "3", "true"}, "-pool-sise"},
		{"a bad value", 125, []string{"--grace", "soon", "true"}, "must be a time, such as 25s"},
		{"a bad setting", 125, []string{"--set", "pool_mode=often", "true"}, "the command line: pool_mode: invalid value"},
		{"no setting", 125, []string{"--set", "auth_file=/x", "true"}, "auth_file can't be set"},
		{"database down", 125, []string{"--wait=0.1", "--if-down=fail", "true"}, "DATABASE_URL: no answer within 100ms"},
		{"database down, start", 3, []string{"--wait=0.1", "--", "sh", "-c", "exit 3"}, "the command is started all the same"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			runCommand(t, []string{nowhere}, test.args...).exits(test.status, test.says)
		})
	}
	t.Run("no URL", func(t *testing.T) {
		t.Parallel()
		runCommand(t, nil, "true").exits(125, "DATABASE_URL is not set")
	})
	t.Run("a bad variable", func(t *testing.T) {
		t.Parallel()
		runCommand(t, []string{nowhere, "PGBOUNCER_POOL_MODE=often"}, "true").exits(125, "PGBOUNCER_POOL_MODE: pool_mode: invalid value")
	})
	t.Run("disabled", func(t *testing.T) {
		t.Parallel()
		p := runCommand(t, []string{nowhere, "PGBOUNCER_ENABLED=0"}, "sh", "-c", "echo $DATABASE_URL; exit 9")
		if got := "DATABASE_URL=" + p.line(); got != nowhere {
			t.Errorf("the command gets %s", got)
		}
		p.exits(9)
	})
}

// The command finds the pooler where its URL leads, on a port that was free or
// on a unix socket.
func TestExecURL(t *testing.T) {
	t.Parallel()
	p := runCommand(t, []string{nowhere + "?application_name=a%20b"}, "--wait=0", "--", "sh", "-c", "echo $DATABASE_URL; read stop")
	url := p.line()
	rest, ok := strings.CutPrefix(url, "postgres://app:secret@127.0.0.1:")
	port, options, _ := strings.Cut(rest, "/app?")
	if !ok || options != "application_name=a%20b&sslmode=disable" {
		t.Errorf("the command gets %s", url)
	}
	if answer, err := ask("tcp", "127.0.0.1:"+port); answer != 'S' || err != nil { // TLS can be had
		t.Errorf("the pooler answers %q, %v", answer, err)
	}
	p.signal(syscall.SIGTERM)
	p.exits(143, "got SIGTERM, serving until sh has ended, for 25s at most")

	p = runCommand(t, []string{nowhere}, "--wait=0", "--listen=unix", "--", "sh", "-c", "echo $DATABASE_URL; read stop")
	url = p.line()
	rest, ok = strings.CutPrefix(url, "postgres://app:secret@")
	dir, _, _ := strings.Cut(strings.ReplaceAll(rest, "%2F", "/"), ":")
	if !ok || !strings.HasPrefix(dir, "/") {
		t.Errorf("the command gets %s", url)
	}
	serves(t, "unix", dir+"/.s.PGSQL.5432")
	p.signal(syscall.SIGTERM)
	p.exits(143)
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s is left: %v", dir, err)
	}
}

// Signals are the command's. On Heroku all processes get SIGTERM, and the
// command gets it once.
func TestExecSignals(t *testing.T) {
	t.Parallel()
	const script = `for s in HUP INT QUIT USR1 USR2 TERM TTIN; do trap "echo $s" $s; done; trap "echo ALRM; exit 4" ALRM; echo ready; while :; do sleep 0.02; done`
	p := runCommand(t, []string{nowhere}, "--wait=0", "--", "sh", "-c", script)
	p.line()
	for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGTERM, syscall.SIGTTIN} {
		if signal.Ignored(s) {
			continue // by whoever runs the tests, like nohup: no shell can trap it then
		}
		p.signal(s)
		if got := p.line(); "SIG"+got != unix.SignalName(s) {
			t.Errorf("the command gets %s for %v", got, s)
		}
	}
	p.signal(syscall.SIGALRM)
	p.exits(4)

	p = runCommand(t, []string{nowhere, "DYNO=web.1"}, "--wait=0", "--", "sh", "-c", script)
	p.line()
	p.signal(syscall.SIGTERM)
	p.await("got SIGTERM")
	p.signal(syscall.SIGUSR1)
	if got := p.line(); got != "USR1" {
		t.Errorf("the command gets %s, and SIGTERM was Heroku's to send", got)
	}
	p.signal(syscall.SIGALRM)
	p.exits(4)
}

// A command that does not care about SIGTERM is killed when the grace period is
// over, with all that it has started.
func TestExecGrace(t *testing.T) {
	t.Parallel()
	p := runCommand(t, []string{nowhere}, "--wait=0", "--grace=0.3", "--", "sh", "-c", `trap "" TERM; sleep 1000 & echo ready; wait; while :; do sleep 1000; done`)
	p.line()
	p.signal(syscall.SIGTERM)
	p.exits(137, "the grace period of 300ms is over, killing sh")
}

// A kill -9 takes the command along.
func TestExecKilled(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells a process that its parent has died")
	}
	p := runCommand(t, []string{nowhere}, "--wait=0", "--", "sh", "-c", `trap "echo told; exit 0" TERM; echo ready; while :; do sleep 0.02; done`)
	p.line()
	p.signal(syscall.SIGKILL)
	// Each thread that dies may tell it.
	if rest := p.rest(); !strings.HasPrefix(rest, "told\n") {
		t.Errorf("the command says %q", rest)
	}
}

// A port that was asked for and is taken is an error; two that don't ask don't
// meet.
func TestExecPort(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := strconv.Itoa(taken.Addr().(*net.TCPAddr).Port)
	runCommand(t, []string{nowhere}, "--wait=0", "--port", port, "true").exits(125, "address already in use")
	runCommand(t, []string{nowhere, "PGWEIR_PORT=" + port}, "--wait=0", "true").exits(125, "address already in use")

	const script = "echo $DATABASE_URL; read stop"
	one := runCommand(t, []string{nowhere}, "--wait=0", "--", "sh", "-c", script)
	two := runCommand(t, []string{nowhere}, "--wait=0", "--", "sh", "-c", script)
	if a, b := one.line(), two.line(); a == b {
		t.Errorf("both have %s", a)
	}
	for _, p := range []*sidecarProcess{one, two} {
		p.signal(syscall.SIGTERM)
		p.exits(143)
	}
}

// A signal while databases are waited for ends it all, and no command begins.
func TestExecWaits(t *testing.T) {
	t.Parallel()
	p := runCommand(t, []string{nowhere}, "--wait=1h", "--", "echo", "started")
	p.await("waiting for an answer of DATABASE_URL (127.0.0.1:1/app), for 1h0m0s at most")
	p.signal(syscall.SIGTERM)
	if line, err := p.stdout.ReadString('\n'); err == nil {
		t.Errorf("the command was started: %s", line)
	}
	p.exits(143, "got SIGTERM before the command was started")
}

// Orphans of the command are adopted, and reaped.
func TestExecReaps(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere process 1 adopts them")
	}
	p := runCommand(t, []string{nowhere, "PGWEIR_VERBOSE=1"}, "--wait=0", "--", "sh", "-c", `(sh -c 'echo $$; exec sleep 0.1' &); read stop`)
	pid := p.line()
	p.await("reaped an orphan (pid " + pid + ")")
	if _, err := os.Stat("/proc/" + pid); !os.IsNotExist(err) {
		t.Errorf("process %s is still there: %v", pid, err)
	}
	p.signal(syscall.SIGTERM)
	p.exits(143)
}

// When the pooler ends first, the command is told, and the status says so.
func TestExecShutdown(t *testing.T) {
	t.Parallel()
	p := runCommand(t, []string{nowhere, "PGWEIR_ADMIN_USERS=app"}, "--wait=0", "--", "sh", "-c",
		`trap "echo told; exit 0" TERM; echo $DATABASE_URL; while :; do sleep 0.02; done`)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c, err := pgconn.Connect(ctx, strings.Replace(p.line(), "/app?", "/pgbouncer?", 1))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(ctx)
	_, _ = c.Exec(ctx, "SHUTDOWN").ReadAll() // which may end the session first
	if got := p.line(); got != "told" {
		t.Errorf("the command says %q", got)
	}
	p.exits(125, "the pooler has been shut down; telling sh to end")
}

// docs/heroku.md has each variable that the help names.
func TestExecPage(t *testing.T) {
	_, help, err := parseExec([]string{"--help"}, nil)
	if !errors.Is(err, flag.ErrHelp) {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/heroku.md")
	if err != nil {
		t.Fatal(err)
	}
	variables := regexp.MustCompile(`\[(PGWEIR_\w+)\]`).FindAllStringSubmatch(help, -1)
	if len(variables) < 10 {
		t.Errorf("the help names %d variables", len(variables))
	}
	for _, v := range variables {
		if v[1] != "PGWEIR_NAME" && !strings.Contains(string(page), "| `"+v[1]+"` |") {
			t.Errorf("the page lacks %s", v[1])
		}
	}
}

func TestExecPrintConfig(t *testing.T) {
	t.Parallel()
	p := runCommand(t, []string{nowhere, "PGWEIR_POOL_SIZE=7"}, "--print-config", "--plan=heroku:standard-0")
	text, err := io.ReadAll(p.stdout)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\n'app' = host='127.0.0.1' port='1' dbname='app' user='app' password='********'\n", "\ndefault_pool_size = 7\n", "\nplan = heroku:standard-0\n"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	p.exits(0)
	p = runCommand(t, nil, "--help")
	text, err = io.ReadAll(p.stdout)
	if err != nil || !strings.Contains(string(text), "--pool-size N [PGWEIR_POOL_SIZE]") {
		t.Errorf("the help: %v\n%s", err, text)
	}
	p.exits(0)
}
