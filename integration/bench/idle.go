package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pgweir/pgweir/integration/load"
)

// idleWork is what idle clients cost.
type idleWork struct {
	name    string
	goal    int64 // bytes per client
	clients int   // who come, ask once and stay
	work    work  // how they come
}

// memory is what became of an idleWork, for pgweir and PgBouncer.
type memory struct {
	idleWork
	of map[string]idleFigures
}

// idleFigures are about the memory of a pooler with idle clients.
type idleFigures struct {
	rss, pss int64 // growth in bytes per client
}

func (b *bench) idleWorks() []idleWork {
	return []idleWork{
		{"memory of idle clients", 512, 5000, work{}},
		{"memory of idle clients, TLS", 16 << 10, 2000, b.encrypted(keyP256, work{})},
	}
}

// measureIdle measures what idle clients cost.
func (b *bench) measureIdle(ctx context.Context) (all []memory, err error) {
	for _, i := range b.idleWorks() {
		if !b.only.MatchString(i.name) {
			continue
		}
		m := memory{i, map[string]idleFigures{}}
		for _, name := range []string{pgweir, pgbouncer} {
			var rounds []idleFigures
			for range b.rounds {
				f, err := b.idle(ctx, i, name)
				if err != nil {
					return nil, fmt.Errorf("%s: %s: %w", i.name, name, err)
				}
				rounds = append(rounds, f)
			}
			slices.SortFunc(rounds, func(a, b idleFigures) int { return cmp.Compare(a.rss, b.rss) })
			m.of[name] = rounds[len(rounds)/2]
		}
		all = append(all, m)
	}
	return all, nil
}

// idle measures how much larger a pooler's process is for each idle client.
func (b *bench) idle(ctx context.Context, i idleWork, name string) (f idleFigures, err error) {
	fmt.Printf("\n%s: %s\n", i.name, name)
	t, err := b.start(ctx, name, i.work.settings)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, t.stop()) }()
	// The server connections, which are not the clients', come first.
	busy := i.work
	busy.clients = 4 * servers
	if _, err := queries(always("select pg_sleep(0.01)"))(ctx, busy, t, time.Second); err != nil {
		return f, err
	}
	rss, pss, err := t.process.Memory()
	if err != nil {
		return f, err
	}
	var clients []*load.Client
	defer func() {
		for _, c := range clients {
			err = errors.Join(err, c.Close())
		}
	}()
	for range i.clients {
		c, err := load.Dial(ctx, t.login(i.work))
		if err != nil {
			return f, err
		}
		clients = append(clients, c)
		if _, err := c.Query("select 1"); err != nil {
			return f, err
		}
	}
	rssAfter, pssAfter, err := t.process.Memory()
	if err != nil {
		return f, err
	}
	n := int64(i.clients)
	f = idleFigures{rss: (rssAfter - rss) / n, pss: (pssAfter - pss) / n}
	fmt.Printf("  %d clients: %d bytes of resident memory each (Pss %d)\n", n, f.rss, f.pss)
	return f, nil
}
