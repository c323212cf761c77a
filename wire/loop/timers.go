package loop

import (
	"time"

	"github.com/pgweir/pgweir/wire"
)

// Timer is a function that a loop will call, see [Loop.After]. The zero Timer
// has fired.
type Timer struct {
	loop *Loop
	t    *timer
	seq  uint64
}

// Stop prevents the function from being called. It reports false if that was
// called already, or the timer stopped. It runs on the loop.
func (t Timer) Stop() bool {
	if t.t == nil || t.t.seq != t.seq {
		return false
	}
	t.loop.timers.remove(t.t.index)
	return true
}

// After calls fn on the loop in the first turn that is d or more after this
// one, which may be up to a millisecond later than asked for. Timers that are
// due in the same turn are called in the order of their moments, then of the
// calls of After.
func (l *Loop) After(d time.Duration, fn func()) Timer {
	t := l.timers.push(l.now.Add(max(d, 1)), fn)
	return Timer{l, t, t.seq}
}

// timer is one entry of timers.
type timer struct {
	when  wire.Time
	seq   uint64 // order of After; 0 when not set, and never used again
	index int    // in the heap
	fn    func()
}

// timers is a binary heap of timers, the next one first. Timers that have
// fired are used again, so that a steady number of them allocates nothing.
type timers struct {
	heap []*timer
	free []*timer
	seq  uint64
}

func (h *timers) len() int { return len(h.heap) }

// next is the moment of the first timer; there must be one.
func (h *timers) next() wire.Time { return h.heap[0].when }

// due reports whether a timer should have been called by now.
func (h *timers) due(now wire.Time) bool { return len(h.heap) > 0 && h.heap[0].when <= now }

// push sets a timer.
func (h *timers) push(when wire.Time, fn func()) *timer {
	var t *timer
	if n := len(h.free); n > 0 {
		t, h.free = h.free[n-1], h.free[:n-1]
	} else {
		t = new(timer)
	}
	h.seq++
	*t = timer{when: when, seq: h.seq, index: len(h.heap), fn: fn}
	h.heap = append(h.heap, t)
	h.up(t.index)
	return t
}

// pop removes the first timer and returns its function.
func (h *timers) pop() func() {
	fn := h.heap[0].fn
	h.remove(0)
	return fn
}

// remove removes the timer at index i of the heap.
func (h *timers) remove(i int) {
	last := len(h.heap) - 1
	t := h.heap[i]
	if i != last {
		h.swap(i, last)
	}
	h.heap[last] = nil
	h.heap = h.heap[:last]
	if i != last && !h.up(i) {
		h.down(i)
	}
	*t = timer{}
	if len(h.free) <= len(h.heap) {
		h.free = append(h.free, t)
	}
}

func (h *timers) less(i, j int) bool {
	a, b := h.heap[i], h.heap[j]
	return a.when < b.when || a.when == b.when && a.seq < b.seq
}

func (h *timers) swap(i, j int) {
	h.heap[i], h.heap[j] = h.heap[j], h.heap[i]
	h.heap[i].index, h.heap[j].index = i, j
}

// up moves the timer at i towards the front and reports whether it moved.
func (h *timers) up(i int) bool {
	from := i
	for i > 0 && h.less(i, (i-1)/2) {
		h.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
	return i != from
}

// down moves the timer at i towards the back.
func (h *timers) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(h.heap) {
			return
		}
		if child+1 < len(h.heap) && h.less(child+1, child) {
			child++
		}
		if !h.less(child, i) {
			return
		}
		h.swap(i, child)
		i = child
	}
}
