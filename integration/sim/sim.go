package sim

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"time"

	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/wire"
)

// Run lets a whole run happen, within a synctest bubble, and returns what went
// wrong, "" if nothing did. trace, which may be nil, is given a line for
// everything that happens. stuck reports whether goroutines of a failed run
// are left behind in the bubble.
func Run(seed uint64, trace func(line string)) (text string, steps int, stuck bool) {
	w := &World{
		seed: seed, rng: rand.New(rand.NewPCG(seed, 0x5eed)), trace: trace, now: wire.Time(time.Millisecond),
		sockets: map[int]*socket{}, lastFD: 1 << 24, books: newBooks(),
		chores: chores{number: map[string]int{}},
	}
	defer func() {
		steps, stuck = w.steps, w.chores.alive.Load() > 0
		switch r := recover().(type) {
		case nil:
		case failure:
			text = r.text
		default:
			text = fmt.Sprintf("panic: %v\n%s", r, debug.Stack())
		}
		if text != "" {
			text = fmt.Sprintf("at %v, step %d: %s", time.Duration(w.now), w.steps, text)
		}
	}()
	w.run()
	return "", w.steps, false
}

// run is the run.
func (w *World) run() {
	w.build()
	end := w.now.Add(w.set.chaos)
	for range w.set.clients {
		w.after(w.between(0, w.set.arrivals), func() { w.arrive() })
	}
	if w.chance(2) {
		w.after(w.between(0, w.set.chaos), w.operator.busy)
	}
	w.after(w.between(0, w.set.chaos), w.strangeCancels)
	w.after(0, w.pg.misbehave)
	w.runUntil(end, func() bool { return false })

	w.calmDown()
	if !w.runUntil(w.now.Add(5*time.Minute), w.deserted) {
		w.failf("%s", w.whoIsLeft())
	}
	w.runUntil(w.now.Add(15*time.Second), func() bool { return false })
	w.empty()
	w.shutdown()
}

// build draws the settings and makes the pooler and what it meets.
func (w *World) build() {
	w.set.draw(w)
	w.tracef("settings:\n%s", w.set.text())
	snap, err := w.set.snapshot()
	if err != nil {
		w.failf("BUG in sim: settings: %v", err)
	}
	w.pg = newPostgres(w)
	w.operator = &operator{w: w}
	var key [32]byte
	binary.BigEndian.PutUint64(key[:], w.seed)
	o := pool.Options{
		Snapshot: snap, Dialer: dialer{w}, Chore: w.chore, After: w.after, Random: rand.NewChaCha8(key), Seed: w.seed,
		Wall: time.Unix(0, 0), Now: func() wire.Time { return w.now }, UID: -2, Log: w,
		Console: w.operator, Reload: w.operator.reload, Stop: func() { w.stopped = true }, CloseListeners: func(closed func()) { closed() },
		Poison: true,
	}
	if w.set.clientTLS != "" {
		o.ClientTLS = serverTLS
	}
	for i := range w.set.loops {
		l := &Loop{w: w, index: i, now: w.now}
		w.loops = append(w.loops, l)
		o.Loops = append(o.Loops, l)
	}
	w.pooler = pool.New(o)
	for _, l := range w.loops {
		w.after(w.between(0, pool.TickEvery), l.tick)
	}
}

// strangeCancels sends cancel requests with keys that are nobody's.
func (w *World) strangeCancels() {
	if w.calm {
		return
	}
	key := make([]byte, 8)
	for i := range key {
		key[i] = byte(w.rng.Uint32())
	}
	w.requestCancel(key, "of nobody", func() {})
	w.after(w.between(0, 2*time.Second), w.strangeCancels)
}

// calmDown ends everything that goes wrong.
func (w *World) calmDown() {
	w.tracef("---- faults stop")
	w.calm = true
	w.pg.calmDown()
	w.spawn(w.operator.calmDown)
}

// deserted reports whether all clients are gone.
func (w *World) deserted() bool {
	for _, c := range w.clients {
		if c.stage != stageOver {
			return false
		}
	}
	return w.chores.alive.Load() == 0
}

// whoIsLeft tells of those who should be gone.
func (w *World) whoIsLeft() string {
	text := "no end:"
	for _, c := range w.clients {
		if c.stage != stageOver {
			text += fmt.Sprintf(" %v (stage %d, %d replies owed, asked at %v);", c.k, c.stage, len(c.queue), time.Duration(c.asked))
		}
	}
	return text + fmt.Sprintf(" %d chores", w.chores.alive.Load())
}

// empty checks that nothing is left of the clients, and that every descriptor
// is somebody's.
func (w *World) empty() {
	w.pooler.CheckEmpty()
	for _, fd := range slices.Sorted(maps.Keys(w.sockets)) {
		k := w.sockets[fd]
		b, server := k.peer.(*backend)
		switch {
		case !server && !k.shut:
			w.failf("%v: the pooler has not closed it", k)
		case server && b.up && k.conn == nil && !k.shut && w.quiet():
			w.failf("%v: the pooler has forgotten it", k)
		}
	}
}

// shutdown ends the pooler.
func (w *World) shutdown() {
	w.operator.stopping = true
	mode := pick(w, pool.ShutdownWaitForClients, pool.ShutdownWaitForServers, pool.ShutdownImmediate, pool.ShutdownDrain)
	if mode == pool.ShutdownDrain {
		w.drain()
		return
	}
	w.tracef("---- shutdown %d", mode)
	for range w.rng.IntN(3) {
		w.arrive()
	}
	w.runUntil(w.now.Add(w.between(0, 30*time.Millisecond)), func() bool { return false })
	w.spawn(func() { w.pooler.Shutdown(mode) })
	if !w.runUntil(w.now.Add(5*time.Minute), func() bool { return w.stopped && w.chores.alive.Load() == 0 }) {
		w.failf("the shutdown does not end: %s", w.whoIsLeft())
	}
	if mode == pool.ShutdownWaitForServers && len(w.pg.backends) > 0 {
		w.runUntil(w.now.Add(time.Minute), func() bool { return len(w.pg.backends) == 0 })
		if len(w.pg.backends) > 0 {
			w.failf("%d servers are open after the shutdown", len(w.pg.backends))
		}
	}
}

// drain ends the pooler as SHUTDOWN DRAIN does, while clients are at work: each
// one leaves between two transactions (see fatal), unless the grace is over.
func (w *World) drain() {
	grace := pick(w, 0, 50*time.Millisecond, time.Second, 20*time.Second)
	spread := pick(w, 0, grace/2, grace)
	w.tracef("---- drain within %v, spread over %v", grace, spread)
	for range w.rng.IntN(15) {
		w.arrive()
	}
	w.runUntil(w.now.Add(w.between(0, 300*time.Millisecond)), func() bool { return false })
	w.cutFrom = w.now.Add(grace)
	w.spawn(func() { w.pooler.Drain(grace, spread) })
	if !w.runUntil(w.cutFrom.Add(2*pool.TickEvery+100*time.Millisecond), func() bool { return w.stopped && w.chores.alive.Load() == 0 }) {
		w.failf("the drain does not end: %s", w.whoIsLeft())
	}
	// What was asked for clients that were cut off comes to its end by itself.
	w.runUntil(w.now.Add(15*time.Second), func() bool { return false })
	w.pooler.CheckEmpty()
}
