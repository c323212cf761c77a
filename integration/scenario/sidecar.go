package main

import (
	"cmp"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/pgweir/pgweir/integration/load"
	"github.com/pgweir/pgweir/integration/sandbox"
)

// figures are what the pooler beside an app costs.
type figures struct {
	static   bool
	resident int64         // bytes, with idleClients that have asked once each
	idle     float64       // of a core, with them; negative: not measured
	ready    time.Duration // from the start until it can serve, the median
	readyMax time.Duration
	faults   []string
}

// The size of the measurement of the sidecar, and what it must keep to.
const (
	idleClients = 100
	idleTime    = 30 * time.Second
	starts      = 9

	mostResident = 25 << 20
	mostIdle     = 0.002
	mostReady    = 50 * time.Millisecond
)

// readyLine is what pgweir exec logs when it can serve.
var readyLine = regexp.MustCompile(`ready on 127\.0\.0\.1:(\d+) after (\S+)`)

// sidecar measures a pooler whose app does nothing.
func (s *stage) sidecar(ctx context.Context) (f *figures, err error) {
	if !s.only.MatchString("sidecar") {
		return nil, nil
	}
	f = &figures{idle: -1}
	if f.static, err = static(s.options.pgweir); err != nil {
		return nil, err
	}
	var times []time.Duration
	for range starts {
		p, _, ready, err := s.startSidecar(ctx)
		if err != nil {
			return nil, err
		}
		times = append(times, ready)
		if err := p.Stop(); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(times, cmp.Compare)
	f.ready, f.readyMax = times[len(times)/2], times[len(times)-1]
	if err := s.idlers(ctx, f); err != nil {
		return nil, err
	}
	if !f.static {
		f.faults = append(f.faults, "the program needs shared libraries")
	}
	if f.resident > mostResident {
		f.faults = append(f.faults, fmt.Sprintf("%d bytes are resident with %d clients", f.resident, idleClients))
	}
	return f, nil
}

// startSidecar starts pgweir exec with a command that sleeps, and returns on
// which port and after what time it was ready.
func (s *stage) startSidecar(ctx context.Context) (p *sandbox.Process, port string, ready time.Duration, err error) {
	p, err = s.sandbox.Start(sandbox.Command{
		Path: s.options.pgweir, Args: []string{"exec", "--", "sleep", "3600"}, Name: s.name("sidecar"), Own: true,
		Env: []string{"DATABASE_URL=" + s.url(s.postgres.Port, "require"), "PGWEIR_BIN=", "PGWEIR_BUILD=", "PGWEIR_PG_BIN="},
	})
	if err != nil {
		return nil, "", 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	err = p.Await(ctx, func(context.Context) error {
		m := readyLine.FindStringSubmatch(p.Log())
		if m == nil {
			return errors.New("it does not say that it is ready")
		}
		port = m[1]
		ready, err = time.ParseDuration(m[2])
		return err
	})
	return p, port, ready, err
}

// idlers measures what clients cost that do nothing.
func (s *stage) idlers(ctx context.Context, f *figures) (err error) {
	p, port, _, err := s.startSidecar(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	var clients []*load.Client
	defer func() {
		for _, c := range clients {
			err = errors.Join(err, c.Close())
		}
	}()
	for i := range idleClients {
		c, err := load.Dial(ctx, load.Login{Address: "127.0.0.1:" + port, User: role, Password: s.password, Database: database})
		if err != nil {
			return err
		}
		clients = append(clients, c)
		if _, err := c.Query("select " + strconv.Itoa(i)); err != nil {
			return err
		}
	}
	if f.resident, _, err = p.Memory(); err != nil {
		return err
	}
	if s.quick {
		return nil
	}
	fmt.Printf("%d idle clients for %v\n", idleClients, idleTime)
	wait(ctx, 5*time.Second) // what follows a login is over then
	user, system, err := p.CPU()
	if err != nil {
		return err
	}
	wait(ctx, idleTime)
	userAfter, systemAfter, err := p.CPU()
	if err != nil {
		return err
	}
	f.idle = (userAfter + systemAfter - user - system).Seconds() / idleTime.Seconds()
	return ctx.Err()
}

// static reports whether a program needs no other file to run.
func static(path string) (bool, error) {
	file, err := elf.Open(path)
	if err != nil {
		return false, err
	}
	defer file.Close()
	return !slices.ContainsFunc(file.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC }), nil
}
