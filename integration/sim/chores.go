package sim

import (
	"bytes"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"
)

// chores are the goroutines of a run but the one that takes the steps: what the
// pooler does where it may block, and the peers' handshakes. Within a step
// several of them may run, in an order that no seed draws, so nothing may hang
// on that: see Loop.Post.
type chores struct {
	busy  int          // that are to begin
	begun int          // so far
	alive atomic.Int32 // begun and not at their end

	mu     sync.Mutex
	number map[string]int // by goroutine
	failed any            // what one has panicked with
}

// chore is Options.Chore: fn runs later, on a goroutine of its own, in a step
// that lasts until fn has ended or waits for something.
func (w *World) chore(fn func()) {
	w.chores.busy++
	w.after(w.between(0, 3*time.Millisecond), func() {
		w.chores.busy--
		w.spawn(fn)
	})
}

// spawn runs fn in this step, on a goroutine.
func (w *World) spawn(fn func()) {
	c := &w.chores
	c.begun++
	c.alive.Add(1)
	go c.run(c.begun, fn)
	w.settle()
}

// run runs a chore.
func (c *chores) run(number int, fn func()) {
	id := goroutine()
	c.mu.Lock()
	c.number[id] = number
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.number, id)
		switch r := recover().(type) {
		case nil:
		case failure:
			c.failed = r
		default:
			c.failed = failure{fmt.Sprintf("a chore panicked: %v\n%s", r, debug.Stack())}
		}
		c.alive.Add(-1)
	}()
	fn()
}

// settle waits until every chore has ended or waits for something.
func (w *World) settle() {
	if w.chores.alive.Load() > 0 {
		synctest.Wait()
	}
	if w.chores.failed != nil {
		panic(w.chores.failed)
	}
	for _, l := range w.loops {
		l.collect()
	}
}

// caller is the number of the chore that calls it, 0 if it is none.
func (c *chores) caller() int {
	if c.alive.Load() == 0 {
		return 0
	}
	id := goroutine()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.number[id]
}

// goroutine is a name of the goroutine that calls it.
func goroutine() string {
	var b [32]byte
	name, _, _ := bytes.Cut(b[:runtime.Stack(b[:], false)], []byte(" ["))
	return string(name)
}
