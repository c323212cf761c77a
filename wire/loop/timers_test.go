package loop

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/pgweir/pgweir/wire"
)

// TestTimersOrder sets and stops timers at random, and compares the order in
// which they come with a sorted list.
func TestTimersOrder(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 0))
		var h timers
		type entry struct {
			when wire.Time
			id   int
		}
		var want, got []entry
		set := map[int]*timer{}
		for id := range 100 {
			e := entry{wire.Time(r.IntN(20)), id}
			set[id] = h.push(e.when, func() { got = append(got, e) })
			want = append(want, e)
			if r.IntN(3) == 0 {
				victim := want[r.IntN(len(want))]
				h.remove(set[victim.id].index)
				delete(set, victim.id)
				want = slices.DeleteFunc(want, func(e entry) bool { return e == victim })
			}
		}
		slices.SortStableFunc(want, func(a, b entry) int { return int(a.when - b.when) })
		for now := wire.Time(-1); h.len() > 0; now++ {
			for h.due(now) {
				h.pop()()
			}
			if h.len() > 0 && h.next() <= now {
				t.Fatal("due and not due")
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("seed %d: %v, want %v", seed, got, want)
		}
	}
}

func TestAfter(t *testing.T) {
	l := start(t, Options{})
	type result struct {
		name     string
		set, now wire.Time
	}
	results := make(chan result, 10)
	var stopped Timer
	on(t, l, func() {
		set := l.Now()
		after := func(name string, d time.Duration) Timer {
			return l.After(d, func() { results <- result{name, set, l.Now()} })
		}
		after("third", 30*time.Millisecond)
		after("second", 20*time.Millisecond)
		stopped = after("stopped", 10*time.Millisecond)
		after("first", 0)
		if !stopped.Stop() || stopped.Stop() || (Timer{}).Stop() {
			t.Error("Stop reports the wrong thing")
		}
	})
	for i, name := range []string{"first", "second", "third"} {
		r := <-results
		if r.name != name {
			t.Errorf("timer %d is the %s", i, r.name)
		}
		if d := r.now.Sub(r.set); d < time.Duration(i)*10*time.Millisecond || i > 0 && d < time.Duration(i+1)*10*time.Millisecond {
			t.Errorf("the %s timer came after %v", name, d)
		}
	}
	on(t, l, func() {
		if n := l.Stats().Timers; n != 0 {
			t.Errorf("%d timers left", n)
		}
	})
}

func TestTimerUsedAgain(t *testing.T) {
	// A Timer must not stop the one that got its memory.
	l := start(t, Options{})
	fired := make(chan struct{}, 2)
	var old Timer
	on(t, l, func() { old = l.After(0, func() { fired <- struct{}{} }) })
	<-fired
	on(t, l, func() {
		again := l.After(time.Millisecond, func() { fired <- struct{}{} })
		if again.t != old.t {
			t.Error("the timer's memory is not used again")
		}
		if old.Stop() {
			t.Error("a timer that has fired was stopped")
		}
	})
	<-fired
}

func TestTimerWithinTimer(t *testing.T) {
	// A timer that sets itself for now does not keep the loop from its sockets.
	l := start(t, Options{})
	n := 0
	var again func()
	again = func() { n++; l.After(0, again) }
	on(t, l, func() { again() })
	h, c := connect(t, l)
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	h.until(t, "bytes", func() bool { return h.got.String() == "hello" })
	eventually(t, "timers", func() (ok bool) {
		on(t, l, func() { ok = n > 10 })
		return ok
	})
}

func TestTick(t *testing.T) {
	ticks := make(chan wire.Time, 100)
	var l *Loop
	ready := make(chan struct{})
	l = start(t, Options{Tick: time.Millisecond, OnTick: func() {
		<-ready
		select {
		case ticks <- l.Now():
		default:
		}
	}})
	close(ready)
	last := <-ticks
	for range 5 {
		now := <-ticks
		if now.Sub(last) < time.Millisecond {
			t.Errorf("ticks %v apart", now.Sub(last))
		}
		last = now
	}
}

func TestClock(t *testing.T) {
	a := clock()
	b := clock()
	if a <= 0 || b < a {
		t.Errorf("the clock says %d, then %d", a, b)
	}
	if d := time.Since(Epoch().Add(time.Duration(b))); d < 0 || d > time.Minute {
		t.Errorf("the clock is %v off the wall clock", d)
	}
}
