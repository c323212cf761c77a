package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Command says how a program is started.
type Command struct {
	Path string
	Args []string // without the program's name
	Env  []string // added to the caller's environment, as "key=value"

	// Name names the log file of the program in the sandbox (Name + ".log").
	// Empty means the base name of Path.
	Name string

	// Stop is the signal that ends the program in an orderly way. Zero means
	// SIGTERM.
	Stop syscall.Signal

	// Grace bounds how long an orderly end may take. Zero means a minute.
	Grace time.Duration

	// Own has the program run as the caller, for what only the caller may read.
	Own bool
}

// Process is a running program of a Sandbox.
type Process struct {
	sandbox *Sandbox
	command Command
	cmd     *exec.Cmd
	log     string
	done    chan struct{}
	err     error // of Wait, set before done is closed
}

// Start starts a program in the sandbox's folder. Its output goes to a file,
// which several programs of the same Name share.
func (s *Sandbox) Start(c Command) (*Process, error) {
	if c.Name == "" {
		c.Name = filepath.Base(c.Path)
	}
	if c.Stop == 0 {
		c.Stop = syscall.SIGTERM
	}
	if c.Grace == 0 {
		c.Grace = time.Minute
	}
	p := &Process{sandbox: s, command: c, log: s.Path(c.Name + ".log"), done: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()

	p.cmd = exec.Command(c.Path, c.Args...)
	p.cmd.Env = s.environ(c.Env)
	p.cmd.Dir = s.dir
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if !c.Own {
		p.cmd.SysProcAttr.Credential = s.cred
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fmt.Errorf("start %s: the sandbox is closed", c.Name)
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	fmt.Fprintf(s.pipe, "+ %d\n", p.PID())
	s.procs = append(s.procs, p)
	go p.wait()
	return p, nil
}

// environ is the environment of the programs: the caller's, without what would
// lead a Postgres program astray, and with a home that exists.
func (s *Sandbox) environ(more []string) []string {
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "PG") && !strings.HasPrefix(kv, "PGWEIR") || strings.HasPrefix(kv, "NOTIFY_SOCKET=")
	})
	return append(append(env, "HOME="+s.dir, "LC_ALL=C", "TZ=UTC"), more...)
}

func (p *Process) wait() {
	p.err = p.cmd.Wait()
	s := p.sandbox
	s.mu.Lock()
	fmt.Fprintf(s.pipe, "- %d\n", p.PID())
	s.procs = slices.DeleteFunc(s.procs, func(q *Process) bool { return q == p })
	s.mu.Unlock()
	close(p.done)
}

// PID is the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err is how the program ended; nil after exit status 0. It may be called once
// Done is closed.
func (p *Process) Err() error { return p.err }

// Signal sends sig to the program, if it still runs.
func (p *Process) Signal(sig syscall.Signal) error {
	err := p.cmd.Process.Signal(sig)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// Stop ends the program in its orderly way and waits for it. A program that
// does not end in time is killed, which is an error; its exit status is not.
func (p *Process) Stop() error {
	if err := p.Signal(p.command.Stop); err != nil {
		return err
	}
	timeout := time.NewTimer(p.command.Grace)
	defer timeout.Stop()
	select {
	case <-p.done:
		return nil
	case <-timeout.C:
		p.Kill()
		return fmt.Errorf("%s (pid %d) did not end within %v after %v and was killed; its log ends:\n%s",
			p.command.Name, p.PID(), p.command.Grace, p.command.Stop, tail(p.Log()))
	}
}

// Kill ends the program by SIGKILL and waits for it.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.done
}

// Log is all that the program has written so far.
func (p *Process) Log() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// Await calls ready again and again until it returns nil. It gives up, with an
// error that ends in the program's log, when the program ends or ctx does.
func (p *Process) Await(ctx context.Context, ready func(context.Context) error) error {
	pause := time.NewTicker(20 * time.Millisecond)
	defer pause.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended (%v) before it was ready; its log ends:\n%s", p.command.Name, p.err, tail(p.Log()))
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w (last: %w); its log ends:\n%s", p.command.Name, ctx.Err(), err, tail(p.Log()))
		case <-pause.C:
		}
	}
}

// Run starts a program, waits for it and returns what it wrote to its standard
// output. A failure carries what it wrote to its standard error.
func (s *Sandbox) Run(ctx context.Context, c Command) (string, error) {
	cmd := exec.CommandContext(ctx, c.Path, c.Args...)
	cmd.Env = s.environ(c.Env)
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: s.cred}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // and its children
	cmd.WaitDelay = 10 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		return "", err
	}
	s.tell("+", cmd.Process.Pid)
	err := cmd.Wait()
	s.tell("-", cmd.Process.Pid)
	if err != nil {
		return stdout.String(), fmt.Errorf("%s: %w\n%s", filepath.Base(c.Path), err, tail(stderr.String()))
	}
	return stdout.String(), nil
}

// tell keeps the guard's list of running programs up to date. The guard lives
// as long as the sandbox, so the write can't fail before Close.
func (s *Sandbox) tell(verb string, pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.pipe, "%s %d\n", verb, pid)
}

// tail is the end of a log, enough to see why a program failed.
func tail(log string) string {
	const most = 4 << 10
	if len(log) > most {
		return "..." + log[len(log)-most:]
	}
	return log
}
