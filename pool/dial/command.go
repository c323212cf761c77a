package dial

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pgweir/pgweir/auth"
	"github.com/pgweir/pgweir/configs"
)

// longestCommand is how long a password command may take where
// Request.ConnectTimeout sets no limit.
const longestCommand = time.Minute

// commands are the password commands that run now. The zero value is ready.
type commands struct {
	mu      sync.Mutex // held for a look at the map
	running map[command]*run
}

// command is a password command and what it is told.
type command struct{ line, host, port, user, database string }

// run is one run of a command, whose outcome is there once done is closed.
type run struct {
	done   chan struct{}
	secret auth.Secret
	err    *LoginError
}

// password returns what r's password command says for host. Those who ask the
// same while the command runs share its outcome, and nobody later does.
func (r *Request) password(ctx context.Context, host string) (auth.Secret, *LoginError) {
	c := command{r.PasswordCommand, host, strconv.Itoa(r.Port), r.User, ""}
	for _, param := range r.Params {
		if param[0] == "database" {
			c.database = param[1]
		}
	}
	timeout := r.ConnectTimeout
	if timeout == 0 {
		timeout = longestCommand
	}
	if r.commands == nil {
		return c.run(ctx, timeout)
	}
	return r.commands.share(ctx, c, timeout)
}

// share runs c, or waits for the run under way, which may end because whoever
// began it is not wanted any more.
func (s *commands) share(ctx context.Context, c command, timeout time.Duration) (auth.Secret, *LoginError) {
	s.mu.Lock()
	for s.running[c] != nil {
		now := s.running[c]
		s.mu.Unlock()
		select {
		case <-now.done:
			if now.err == nil || now.err.Kind != Canceled {
				return now.secret, now.err
			}
		case <-ctx.Done():
			return auth.Secret{}, ended(ctx)
		}
		s.mu.Lock()
	}
	if s.running == nil {
		s.running = make(map[command]*run)
	}
	now := &run{done: make(chan struct{})}
	s.running[c] = now
	s.mu.Unlock()

	now.secret, now.err = c.run(ctx, timeout)
	s.mu.Lock()
	delete(s.running, c)
	s.mu.Unlock()
	close(now.done)
	return now.secret, now.err
}

// run runs the command by the shell, in a process group of its own that is
// killed when the time is over.
func (c command) run(ctx context.Context, timeout time.Duration) (auth.Secret, *LoginError) {
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	sh := exec.CommandContext(limited, "/bin/sh", "-c", c.line)
	sh.Env = append(os.Environ(), "PGHOST="+c.host, "PGPORT="+c.port, "PGUSER="+c.user, "PGDATABASE="+c.database)
	sh.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	sh.Cancel = func() error { return syscall.Kill(-sh.Process.Pid, syscall.SIGKILL) }
	sh.WaitDelay = time.Second // for what has left the group and holds the pipe
	var out output
	sh.Stdout = &out
	err := sh.Run()
	switch {
	case ended(ctx) != nil:
		return auth.Secret{}, ended(ctx)
	case limited.Err() != nil:
		return auth.Secret{}, c.failed(fmt.Sprintf("it took longer than %v (server_connect_timeout)", timeout))
	case out.tooLong:
		return auth.Secret{}, c.failed(fmt.Sprintf("it printed more than %d bytes", configs.MaxSecret))
	case err != nil:
		return auth.Secret{}, c.failed(err.Error())
	}
	password := strings.TrimRight(string(out.text), "\r\n")
	switch {
	case password == "":
		return auth.Secret{}, c.failed("it printed nothing")
	case strings.ContainsAny(password, "\x00\n"):
		return auth.Secret{}, c.failed("it printed more than one line")
	}
	return auth.Plain(password), nil
}

// failed says what the command has done wrong. What it printed may be a secret.
func (c command) failed(why string) *LoginError {
	return &LoginError{
		Kind: CommandFailed, Reason: reasonCommand,
		Detail: fmt.Sprintf("%s; PGHOST=%s PGPORT=%s PGUSER=%s PGDATABASE=%s, and its output is never logged", why, c.host, c.port, c.user, c.database),
	}
}

// output is what a command prints, up to the longest password and a line's end.
type output struct {
	text    []byte
	tooLong bool
}

func (o *output) Write(b []byte) (int, error) {
	if o.tooLong = len(o.text)+len(b) > configs.MaxSecret+len("\r\n"); o.tooLong {
		return 0, io.ErrShortBuffer // and a command that goes on to print is killed by its pipe
	}
	o.text = append(o.text, b...)
	return len(b), nil
}
