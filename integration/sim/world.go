package sim

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/wire"
)

// World is one run. It must live within a synctest bubble: that is how a step
// that starts a chore knows when the chore has come to its end, or waits.
type World struct {
	seed uint64
	rng  *rand.Rand
	now  wire.Time

	events  events
	drawn   uint64 // events made so far
	steps   int
	current *Loop // whose step runs; nil in a step of anybody else

	set      settings
	loops    []*Loop
	pg       *Postgres
	pooler   *pool.Pooler
	sockets  map[int]*socket
	lastFD   int
	clients  []*client
	operator *operator
	books    books
	attempts []*attempt

	chores  chores
	calm    bool // no more faults
	stopped bool // the pooler says that the process may exit

	rested wire.Time // when no loop had posted functions to run

	cutFrom wire.Time // from when a drain cuts clients in their transactions; 0: there is no drain

	trace func(string) // nil: nobody listens
}

// failure is what a run that fails panics with.
type failure struct{ text string }

// failf ends the run.
func (w *World) failf(format string, args ...any) {
	panic(failure{fmt.Sprintf(format, args...)})
}

// tracef adds a line to the trace.
func (w *World) tracef(format string, args ...any) {
	if w.trace != nil {
		w.trace(fmt.Sprintf("%11.6f  ", time.Duration(w.now).Seconds()) + fmt.Sprintf(format, args...))
	}
}

// tracing reports whether anybody listens to the trace.
func (w *World) tracing() bool { return w.trace != nil }

// event is something that is going to happen.
type event struct {
	at   wire.Time
	rank uint64 // drawn: the order of what happens at the same time
	seq  uint64
	run  func()
}

type events []*event

func (e events) Len() int { return len(e) }

func (e events) Less(i, j int) bool {
	a, b := e[i], e[j]
	if a.at != b.at {
		return a.at < b.at
	}
	if a.rank != b.rank {
		return a.rank < b.rank
	}
	return a.seq < b.seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(*event)) }
func (e *events) Pop() any {
	old := *e
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*e = old[:len(old)-1]
	return last
}

// after lets fn happen in d.
func (w *World) after(d time.Duration, fn func()) {
	w.drawn++
	heap.Push(&w.events, &event{at: w.now.Add(d), rank: w.rng.Uint64(), seq: w.drawn, run: fn})
}

// chance is true in one of n cases.
func (w *World) chance(n int) bool { return w.rng.IntN(n) == 0 }

// between draws a duration.
func (w *World) between(from, to time.Duration) time.Duration {
	if to <= from {
		return from
	}
	return from + time.Duration(w.rng.Int64N(int64(to-from)))
}

// pick draws one of list.
func pick[T any](w *World, list ...T) T { return list[w.rng.IntN(len(list))] }

// step lets the next event happen, and checks everything. It reports false
// when there is none, or none before until.
func (w *World) step(until wire.Time) bool {
	if len(w.events) == 0 || w.events[0].at > until {
		w.now = max(w.now, until)
		return false
	}
	e := heap.Pop(&w.events).(*event)
	w.now = max(w.now, e.at)
	w.steps++
	if !w.posted() {
		w.rested = w.now
	}
	e.run()
	w.current = nil
	w.settle()
	w.dropUnwanted()
	for _, l := range w.loops {
		l.schedule()
	}
	w.check()
	return true
}

// runUntil takes steps until done says so, or the time is over.
func (w *World) runUntil(at wire.Time, done func() bool) (ok bool) {
	for !done() {
		if !w.step(at) {
			return done()
		}
	}
	return true
}

// quiet reports whether nothing is under way between the pooler's parts, nor
// from a connection that has broken, which can't change loops and ends at once.
func (w *World) quiet() bool {
	if w.chores.busy > 0 || w.posted() {
		return false
	}
	for _, k := range w.sockets {
		if k.reset && k.inDue {
			return false
		}
	}
	return true
}

// posted reports whether any loop has posted functions to run.
func (w *World) posted() bool {
	return slices.ContainsFunc(w.loops, func(l *Loop) bool { return len(l.mail) > 0 })
}

// restless is how long the loops may go on posting without a pause. Who does so
// for longer, however much there is to do, is turning in circles.
const restless = 2 * time.Second

// check is what must hold after each step.
func (w *World) check() {
	if w.posted() && w.now.Sub(w.rested) > restless {
		w.failf("the loops have posted functions to each other without a pause since %v", time.Duration(w.rested))
	}
	w.pooler.Check(w.quiet())
	w.books.check(w)
}

// Enabled implements pool.Logger.
func (w *World) Enabled(level pool.Level) bool { return level < pool.Noise }

// Log implements pool.Logger.
func (w *World) Log(level pool.Level, prefix, text string) {
	if w.tracing() {
		w.tracef("log %v %s %s", level, prefix, text)
	}
	for _, bad := range []string{"BUG", "answers nothing that was asked", "broken ParameterStatus", "bad pkt header"} {
		if strings.Contains(text, bad) {
			w.failf("the pooler logs: %s %s", prefix, text)
		}
	}
}
