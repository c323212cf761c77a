package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/pgweir/pgweir/admin"
	"github.com/pgweir/pgweir/admin/logs"
	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/pool/certs"
	"github.com/pgweir/pgweir/pool/dial"
	"github.com/pgweir/pgweir/pool/ldap"
	"github.com/pgweir/pgweir/pool/pam"
	"github.com/pgweir/pgweir/wire"
	"github.com/pgweir/pgweir/wire/loop"
)

// gcPercent is GOGC unless the environment sets it. Relaying allocates nothing
// and logging in a few hundred bytes, so collections are rare anyway; but in the
// heap that 100 leaves to garbage thousands of idle clients would have room.
const gcPercent = 25

// process is a running pgweir. It is the pooler as the console sees it: Reload
// and Set take care of what the pooler itself doesn't know of.
type process struct {
	*pool.Pooler

	log     *logs.Log
	loops   []*loop.Loop
	sockets *listeners
	notify  notifier
	tls     *certs.Keeper // what clients get TLS by
	web     *web          // nil without http_listen

	ended    chan struct{} // closed when a shutdown has come to its end
	periods  chan struct{} // of capacity 1: stats_period may have changed
	changing sync.Mutex    // held over Reload and Set

	unapplied []string // TLS settings that were set, and wait for others that fit them: keys and values
}

// newProcess builds the object graph. Nothing happens until run.
func newProcess(snap *configs.Snapshot, sockets *listeners, log *logs.Log) (*process, error) {
	p := &process{
		log:     log,
		sockets: sockets,
		notify:  notifier(os.Getenv("NOTIFY_SOCKET")),
		tls:     new(certs.Keeper),
		ended:   make(chan struct{}),
		periods: make(chan struct{}, 1),
	}
	if err := p.configureTLS(snap); err != nil {
		return nil, err
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	procs := runtime.GOMAXPROCS(0)
	n := snap.Main.EventLoops(procs)
	runtime.GOMAXPROCS(max(procs, n+1)) // see loop.Options.Spin
	loops := make([]wire.Loop, n)
	for i := range n {
		l, err := loop.New(loop.Options{
			Name:    fmt.Sprintf("loop %d", i),
			Tick:    pool.TickEvery,
			OnTick:  func() { p.Worker(i).Tick() },
			OnPanic: func(h wire.Handler, v any, stack []byte) { p.bug(pool.Name(h), v, stack) },
			OnError: func(err error) { log.Log(pool.Error, "", err.Error()) },
		})
		if err != nil {
			return nil, err
		}
		loops[i] = l
		p.loops = append(p.loops, l)
	}
	resolver, err := dial.NewResolver(snap.Main.ResolvConf)
	if err != nil {
		return nil, err
	}
	settings := func() *configs.Main { return &p.Snapshot().Main }
	names := dial.NewNames(dial.NamesOptions{
		Resolver:    resolver,
		MaxTTL:      func() time.Duration { return settings().DNSMaxTTL },
		NXDomainTTL: func() time.Duration { return settings().DNSNXDomainTTL },
		ZoneCheck:   func() time.Duration { return settings().DNSZoneCheckPeriod },
		Now:         time.Now,
	})
	hostname, err := os.Hostname()
	if err != nil {
		hostname = "localhost"
	}
	console := admin.New(admin.Options{Version: productVersion(), Log: log, Started: time.Now()})
	p.Pooler = pool.New(pool.Options{
		Snapshot:  snap,
		Loops:     loops,
		Dialer:    &dial.Chores{Detach: loop.Detach, Context: context.Background()},
		Names:     names,
		ClientTLS: p.tls.Config,
		Chore:     func(fn func()) { go p.chore(fn) },
		After:     func(d time.Duration, fn func()) { time.AfterFunc(d, fn) },
		Random:    rand.Reader,
		Seed:      uint64(time.Now().UnixNano()),
		Wall:      loop.Epoch(),
		Now:       func() wire.Time { return wire.Time(time.Since(loop.Epoch())) },
		UID:       os.Getuid(),
		Hostname:  hostname,
		Log:       log,
		Console:   console,
		LDAP: func(o *configs.LDAP, user, password string) error {
			return ldap.Check(context.Background(), o, user, password)
		},
		PAM: func(user, password, host string) error {
			return pam.Check(context.Background(), user, password, host)
		},
		Reload:         p.read,
		Stop:           func() { close(p.ended) },
		CloseListeners: func(closed func()) { sockets.closeTCP(&p.Snapshot().Main, p.loops, closed); p.web.leave() },
	})
	console.Attach(p)
	if p.web, err = p.openWeb(snap); err != nil {
		return nil, err
	}
	err = sockets.attach(p.loops, func(i int) func(wire.Socket) {
		return func(s wire.Socket) { p.accept(i, s) }
	})
	return p, err
}

// accept takes in a client that loop i has accepted, where it is to stay. As
// long as one loop keeps up with all who come, the kernel wakes that one alone
// for all of them. So it hands them over once it has one in eight sockets more
// than another.
func (p *process) accept(i int, s wire.Socket) {
	at, least := i, p.loops[i].Conns()*8/9
	for j, l := range p.loops {
		if n := l.Conns(); n < least {
			at, least = j, n
		}
	}
	if at == i || !p.loops[at].Post(func() { p.Worker(at).Accept(s) }) {
		p.Worker(i).Accept(s)
	}
}

// run starts the loops. stop ends them.
func (p *process) run() (stop func()) {
	var running sync.WaitGroup
	for _, l := range p.loops {
		running.Go(l.Run)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go p.logStats(ctx)
	go p.watchTLS(ctx)
	go p.web.serve(p.log)
	return func() {
		cancel()
		p.web.close()
		for _, l := range p.loops {
			l.Stop()
		}
		stopped := make(chan struct{})
		go func() { running.Wait(); close(stopped) }()
		select {
		case <-stopped:
		case <-time.After(patience):
		}
	}
}

// patience bounds how long the end waits for the loops. They never block, so
// it takes them a moment; but a process that is told to stop must stop.
const patience = 2 * time.Second

// chore runs fn, which may block. A bug in it is not the end of everybody.
func (p *process) chore(fn func()) {
	defer func() {
		if v := recover(); v != nil {
			p.bug("", v, debug.Stack())
		}
	}()
	fn()
}

// bug logs a panic that was contained, with the name of whom it concerned.
func (p *process) bug(who string, v any, stack []byte) {
	text := strings.TrimPrefix(fmt.Sprint(v), "BUG: ") // as our own panics begin
	p.log.Log(pool.Error, who, fmt.Sprintf("BUG: %s\n%s", text, stack))
}

// Reload reads the configuration anew and applies it whole, or changes nothing
// and says why not.
func (p *process) Reload() error {
	p.changing.Lock()
	defer p.changing.Unlock()
	if err := p.Pooler.Reload(); err != nil {
		return err
	}
	p.apply()
	return nil
}

// read is the pooler's part of a Reload. What can fail comes before whatever
// changes something, and after it nothing can fail.
func (p *process) read(old *configs.Snapshot) (*configs.Snapshot, error) {
	next, err := old.Reload()
	if err != nil {
		return nil, err
	}
	commit, err := p.prepareTLS(next)
	if err != nil {
		return nil, err
	}
	if err := configureLog(p.log, &next.Main); err != nil {
		return nil, err
	}
	commit()
	p.unapplied = nil
	warn(p.log, next)
	return next, nil
}

// Set changes one setting until the next Reload.
func (p *process) Set(key, value string) error {
	p.changing.Lock()
	defer p.changing.Unlock()
	if strings.Contains(key, "_tls") {
		return p.setTLS(key, value)
	}
	next, err := p.Snapshot().With(key, value)
	if err != nil {
		return err
	}
	if key == "logfile" || key == "verbose" || strings.HasPrefix(key, "syslog") {
		if err := configureLog(p.log, &next.Main); err != nil {
			return err
		}
	}
	p.Use(next)
	p.apply()
	return nil
}

// setTLS changes a TLS setting, with those that waited for it. If they can't be
// put in force as they are it returns [*admin.Unapplied], and they wait.
func (p *process) setTLS(key, value string) error {
	pairs := []string{key, value}
	for i := 0; i < len(p.unapplied); i += 2 {
		if p.unapplied[i] != key {
			pairs = append(pairs, p.unapplied[i:i+2]...)
		}
	}
	next, err := p.Snapshot().With(pairs...)
	if err != nil && !errors.As(err, new(*configs.Conflict)) {
		return err
	}
	if err == nil {
		err = p.configureTLS(next)
	}
	if err != nil {
		p.unapplied = pairs
		p.log.Log(pool.Error, "", err.Error()+"; what was in force stays")
		return &admin.Unapplied{Err: err}
	}
	p.unapplied = nil
	p.Use(next)
	p.apply()
	return nil
}

// apply brings the new configuration to where the pooler doesn't.
func (p *process) apply() {
	p.sockets.tune(&p.Snapshot().Main)
	select {
	case p.periods <- struct{}{}:
	default:
	}
}

// configureLog opens the log file anew, or changes nothing; when it returns the
// former one is not written to any more. If the process crashes its trace goes
// to the file too: with -d or -q nobody would see it otherwise.
func configureLog(log *logs.Log, m *configs.Main) error {
	var crash *os.File
	if m.LogFile != "" {
		var err error
		if crash, err = logs.Open(m.LogFile); err != nil {
			return err
		}
		defer crash.Close() // SetCrashOutput keeps a duplicate
	}
	if err := log.Configure(m.LogFile, m.Verbose); err != nil {
		return err
	}
	var to logs.Syslog
	if m.Syslog {
		to = logs.Syslog{Facility: m.SyslogFacility, Ident: m.SyslogIdent}
	}
	if err := log.Syslog(to); err != nil {
		return err // but package configs lets no facility pass that there is not
	}
	log.Flush()
	if err := debug.SetCrashOutput(crash, debug.CrashOptions{}); err != nil {
		log.Printf(pool.Warning, "logfile: the trace of a crash would not be written there: %v", err)
	}
	return nil
}
