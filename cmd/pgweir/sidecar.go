package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgweir/pgweir/admin/logs"
	"github.com/pgweir/pgweir/auth"
	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/configs/dyno"
	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/pool/dial"
	"github.com/pgweir/pgweir/wire/loop"
)

// sidecar is a pooler beside an app: both live in one container, and end
// together. The app is a child of this process.
type sidecar struct {
	options execOptions
	dyno    *dyno.Sidecar
	snap    *configs.Snapshot
	log     *logs.Log
	began   time.Time

	process *process
	host    string // an address, or the folder of a unix socket
	port    int
	signals chan os.Signal
}

// newSidecar reads the configuration from the environment. Nothing is started.
func newSidecar(o execOptions, environ []string) (*sidecar, error) {
	s := &sidecar{options: o, began: time.Now()}
	var err error
	if s.dyno, err = dyno.New(environ, o.dyno); err != nil {
		return nil, err
	}
	if s.snap, err = s.dyno.Snapshot(); err != nil {
		return nil, err
	}
	s.log = logs.New(logOptions(false))
	return s, nil
}

// passedOn are the signals that are meant for the command.
var passedOn = []os.Signal{
	syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2,
	syscall.SIGALRM, syscall.SIGCONT, syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGWINCH,
}

// run starts the pooler, then the command, whose program is at path, and
// returns the exit status when both have ended. The status that goes with an
// error is 0 for statusPooler.
func (s *sidecar) run(ctx context.Context, path string) (status int, err error) {
	// What is ignored stays so, for the command too: nohup(1) asks for that.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	s.signals = make(chan os.Signal, 32)
	signal.Notify(s.signals, slices.DeleteFunc(slices.Clone(passedOn), signal.Ignored)...)

	stop, err := s.start(ctx)
	if err != nil {
		return 0, err
	}
	defer stop()
	if status, err := s.awaitDatabases(ctx); status != 0 || err != nil {
		return status, err
	}
	c, err := startChild(path, s.options.command, s.dyno.Environ(s.host, s.port), func(pid int) {
		s.log.Printf(pool.Debug, "reaped an orphan (pid %d)", pid)
	})
	if err != nil {
		return statusNotExecutable, err
	}
	s.log.Printf(pool.Info, "started %s (pid %d)", c.name, c.pid)
	return s.accompany(c), nil
}

// start starts the pooler.
func (s *sidecar) start(ctx context.Context) (stop func(), err error) {
	if err := configureLog(s.log, &s.snap.Main); err != nil {
		return nil, err
	}
	for _, text := range s.dyno.Warnings {
		s.log.Log(pool.Warning, "", text)
	}
	warn(s.log, s.snap)
	sockets, err := listen(ctx, &s.snap.Main, s.log)
	if err != nil {
		return nil, err
	}
	s.host, s.port = "127.0.0.1", s.snap.Main.ListenPort
	if s.options.dyno.UnixDir != "" {
		s.host = s.options.dyno.UnixDir
	} else if s.port, err = sockets.port(); err != nil {
		return nil, err
	}
	if s.process, err = newProcess(s.snap, sockets, s.log); err != nil {
		return nil, err
	}
	s.process.notify = "" // the service manager waits for the app
	adoptOrphans()
	halt := s.process.run()
	return func() {
		halt()
		_ = sockets.removeFile() // its folder goes, too
	}, nil
}

// port is the TCP port that the system has chosen, or that was asked for.
func (ls *listeners) port() (int, error) {
	address, err := unix.Getsockname(ls.tcp[0].fd)
	if err != nil {
		return 0, os.NewSyscallError("getsockname", err)
	}
	return address.(*unix.SockaddrInet4).Port, nil
}

// sayAfter is how long nothing is said about a database that does not answer.
const sayAfter = 500 * time.Millisecond

// awaitDatabases waits until each database serves a client, within bounds. It
// returns a status other than 0 if the command is not to be started: a signal
// has come meanwhile.
func (s *sidecar) awaitDatabases(ctx context.Context) (status int, err error) {
	if s.options.wait == 0 {
		return 0, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.options.wait)
	defer cancel()
	down := make(chan string, 1) // those that did not answer, in the end
	go func() { down <- strings.Join(s.probe(ctx), ", ") }()
	patience := time.NewTimer(sayAfter)
	defer patience.Stop()
	for {
		select {
		case names := <-down:
			switch {
			case names == "":
				s.log.Printf(pool.Info, "ready on %s:%d after %v", s.host, s.port, time.Since(s.began).Round(time.Millisecond))
				return 0, nil
			case s.options.ifDown == "fail":
				return 0, fmt.Errorf("%s: no answer within %v", names, s.options.wait)
			}
			s.log.Printf(pool.Warning, "%s: no answer within %v; the command is started all the same", names, s.options.wait)
			return 0, nil
		case <-patience.C:
			s.log.Printf(pool.Info, "waiting for an answer of %s, for %v at most", s.servers(), s.options.wait)
		case sig := <-s.signals:
			if n := sig.(syscall.Signal); slices.Contains([]syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP}, n) {
				s.log.Printf(pool.Info, "got %s before the command was started", unix.SignalName(n))
				return 128 + int(n), nil
			}
		}
	}
}

// servers names where the URLs lead.
func (s *sidecar) servers() string {
	var names []string
	for _, l := range s.dyno.Logins() {
		names = append(names, fmt.Sprintf("%s (%s)", l.Variable, l.Server))
	}
	return strings.Join(names, ", ")
}

// probe logs in to each database as the app will, through the pooler, again and
// again until it works or ctx ends. It returns the variables whose database did
// not answer.
func (s *sidecar) probe(ctx context.Context) (down []string) {
	var all sync.WaitGroup
	var mu sync.Mutex
	for _, l := range s.dyno.Logins() {
		all.Go(func() {
			if !s.logIn(ctx, l) {
				mu.Lock()
				defer mu.Unlock()
				down = append(down, l.Variable)
			}
		})
	}
	all.Wait()
	slices.Sort(down)
	return down
}

// logIn reports whether l has worked before ctx ended. Each new reason why not
// is logged.
func (s *sidecar) logIn(ctx context.Context, l dyno.Login) bool {
	last := ""
	for ctx.Err() == nil {
		session, err := dial.Connect(ctx, dial.Request{
			Hosts: []string{s.host}, Port: s.port, User: l.User, Secret: auth.ParseSecret(l.Password),
			Params: [][2]string{{"database", l.Database}, {"user", l.User}, {"application_name", "pgweir exec"}},
			Random: rand.Reader, Detach: loop.Detach,
		})
		if err == nil {
			session.Close()
			return true
		}
		if text := err.Error(); text != last && ctx.Err() == nil {
			last = text
			s.log.Printf(pool.Warning, "%s: %s", l.Variable, text)
		}
		select {
		case <-ctx.Done():
		case <-time.After(probeEvery):
		}
	}
	return false
}

// probeEvery is the time between two attempts when the pooler refuses one.
const probeEvery = 250 * time.Millisecond

// accompany passes signals on to the command, sees to it that it ends in time
// once it was told to, and ends the pooler behind it. It returns the exit status.
func (s *sidecar) accompany(c *child) (status int) {
	p := s.process
	var deadline time.Time
	var over <-chan time.Time
	hurry := func() {
		if deadline.IsZero() {
			deadline = time.Now().Add(s.options.grace)
			over = time.After(s.options.grace)
		}
	}
	tell := func(sig syscall.Signal) {
		if err := c.signal(sig); err != nil {
			s.log.Printf(pool.Error, "can't send %s to %s (pid %d): %v", unix.SignalName(sig), c.name, c.pid, err)
		}
	}
	ended := p.ended
	for running := true; running; {
		select {
		case <-c.done:
			running = false
		case sig := <-s.signals:
			if sig == syscall.SIGTERM {
				if deadline.IsZero() {
					s.log.Printf(pool.Info, "got SIGTERM, serving until %s has ended, for %v at most", c.name, s.options.grace)
				}
				hurry()
				if !s.forwards() {
					continue
				}
			}
			tell(sig.(syscall.Signal))
		case <-ended:
			ended = nil
			status = statusPooler
			s.log.Printf(pool.Error, "the pooler has been shut down; telling %s to end", c.name)
			hurry()
			tell(syscall.SIGTERM)
		case <-over:
			s.log.Printf(pool.Error, "the grace period of %v is over, killing %s (pid %d)", s.options.grace, c.name, c.pid)
			ended = nil
			p.Drain(0, 0) // which tells what it cuts
			c.kill()
		}
	}
	s.log.Printf(pool.Info, "%s has ended: %s", c.name, c.state)
	if status == statusPooler {
		return status
	}
	rest := closing
	if !deadline.IsZero() {
		rest = min(rest, max(0, time.Until(deadline)))
	}
	p.Drain(rest, 0)
	select {
	case <-p.ended:
	case <-time.After(rest + patience):
		s.log.Printf(pool.Error, "the pooler has not closed its servers in time")
	}
	return c.status()
}

// closing bounds how long the pooler waits for clients that have outlived the
// command: its children, perhaps.
const closing = 2 * time.Second

// forwards reports whether to pass SIGTERM on to the command. Heroku sends it to
// all processes of a dyno, and a second one would hurry programs that take the
// first as a wish and the second as an order. Whoever is process 1 is told alone.
func (s *sidecar) forwards() bool {
	if s.options.forward == "auto" {
		return os.Getenv("DYNO") == "" || os.Getpid() == 1
	}
	return s.options.forward == "yes"
}
