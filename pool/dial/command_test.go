package dial

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgweir/pgweir/auth"
)

// asking is a request whose password a command tells.
func asking(line string) *Request {
	return &Request{
		PasswordCommand: line, Port: 5433, User: "app",
		Params: [][2]string{{"database", "shop"}, {"user", "app"}},
	}
}

func TestPasswordCommand(t *testing.T) {
	for line, want := range map[string]string{
		"echo s3cret":              "s3cret",
		"printf s3cret":            "s3cret",
		"printf 's3cret\\r\\n'":    "s3cret",
		"echo ' a b '":             " a b ",
		"echo noise >&2; echo out": "out",
		"cat; echo end":            "end",
		`echo "$PGUSER@$PGHOST:$PGPORT/$PGDATABASE"`: "app@db.example:5433/shop",
		"echo md5" + strings.Repeat("0", 32):         "md5" + strings.Repeat("0", 32),
		"head -c 65530 /dev/zero | tr '\\0' x; echo": strings.Repeat("x", 65530),
	} {
		got, err := asking(line).password(t.Context(), "db.example")
		if err != nil || !got.Equal(auth.Plain(want)) {
			t.Errorf("%s: %v, %v", line, got, err)
		}
	}
	const told = "; PGHOST=db.example PGPORT=5433 PGUSER=app PGDATABASE=shop, and its output is never logged"
	for line, want := range map[string]string{
		"echo s3cret; exit 7": "exit status 7",
		"kill -9 $$":          "signal: killed",
		"true":                "it printed nothing",
		"echo; echo":          "it printed nothing",
		"echo s3cret; echo 2": "it printed more than one line",
		"printf 's3\\0cret'":  "it printed more than one line",
		"yes":                 "it printed more than 65530 bytes",
	} {
		_, err := asking(line).password(t.Context(), "db.example")
		if err == nil || err.Kind != CommandFailed || err.Error() != "password_command failed: "+want+told {
			t.Errorf("%s: %v", line, err)
			continue
		}
		if err.Answered() || err.tryNext() {
			t.Errorf("%s: clients are told, or the next host is tried", line)
		}
	}
}

// TestPasswordCommandHangs: a command that does not end is killed with all that
// it has started.
func TestPasswordCommandHangs(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	r := asking("sleep 1000 & echo $! $$ > " + pids + ".new; mv " + pids + ".new " + pids + "; wait")
	ctx, cancel := context.WithCancel(t.Context())
	go func() { // the caller gives up as soon as the command runs
		for {
			if _, err := os.Stat(pids); err == nil {
				cancel()
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	if _, err := r.password(ctx, "h"); err == nil || err.Kind != Canceled {
		t.Errorf("the caller has given up: %v", err)
	}
	for _, pid := range strings.Fields(read(t, pids)) {
		n, err := strconv.Atoi(pid)
		if err != nil {
			t.Fatal(err)
		}
		for alive(n) {
			time.Sleep(time.Millisecond)
		}
	}

	r = asking("exec sleep 1000")
	r.ConnectTimeout = 10 * time.Millisecond
	_, err := r.password(t.Context(), "h")
	if err == nil || err.Kind != CommandFailed || !strings.HasPrefix(err.Detail, "it took longer than 10ms (server_connect_timeout);") {
		t.Errorf("the time is over: %v", err)
	}
}

// alive reports whether a process runs; one that is dead and not yet collected
// does not.
func alive(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err == nil {
		_, state, _ := strings.Cut(string(stat), ") ")
		return !strings.HasPrefix(state, "Z")
	}
	return syscall.Kill(pid, 0) == nil
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestPasswordCommandShared: who asks while a command runs gets what that run
// tells, and who asks later has it run anew.
func TestPasswordCommandShared(t *testing.T) {
	s := new(commands)
	r := asking("echo again")
	r.commands = s
	now := &run{done: make(chan struct{})}
	s.running = map[command]*run{{"echo again", "h", "5433", "app", "shop"}: now}

	shared := make(chan auth.Secret, 1)
	go func() {
		secret, _ := r.password(t.Context(), "h")
		shared <- secret
	}()
	if secret, err := r.password(t.Context(), "other"); err != nil || !secret.Equal(auth.Plain("again")) {
		t.Errorf("for another host: %v, %v", secret, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.password(ctx, "h"); err == nil || err.Kind != Canceled {
		t.Errorf("who gives up: %v", err)
	}
	now.secret = auth.Plain("once")
	close(now.done)
	if secret := <-shared; !secret.Equal(auth.Plain("once")) {
		t.Errorf("who waited is told another secret")
	}
	delete(s.running, command{"echo again", "h", "5433", "app", "shop"})
	if secret, err := r.password(t.Context(), "h"); err != nil || !secret.Equal(auth.Plain("again")) || len(s.running) != 0 {
		t.Errorf("later: %v, %v, %d still run", secret, err, len(s.running))
	}
}

// TestCommandGivenUp: who shares a run of a command that is given up by the one
// who began it has it run again.
func TestCommandGivenUp(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(dir+"/begun", 0o600); err != nil {
		t.Fatal(err)
	}
	c := command{line: "cd " + dir + "; mkdir once 2> /dev/null && { echo > begun; sleep 1000; }; echo tulip"}
	var s commands
	ctx, giveUp := context.WithCancel(t.Context())
	first := make(chan *LoginError, 1)
	go func() {
		_, err := s.share(ctx, c, time.Minute)
		first <- err
	}()
	if _, err := os.ReadFile(dir + "/begun"); err != nil { // waits for it
		t.Fatal(err)
	}
	giveUp()
	if secret, err := s.share(t.Context(), c, time.Minute); err != nil || !secret.Equal(auth.Plain("tulip")) {
		t.Errorf("%v, %v", secret, err)
	}
	if err := <-first; err == nil || err.Kind != Canceled {
		t.Errorf("who is not wanted: %v", err)
	}
}
