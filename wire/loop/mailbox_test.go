package loop

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgweir/pgweir/wire"
)

func TestPostStorm(t *testing.T) {
	l := start(t, Options{})
	const posters, posts = 8, 5000
	var wg sync.WaitGroup
	var next [posters]int // touched on the loop
	for p := range posters {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range posts {
				ok := l.Post(func() {
					if next[p] != i {
						t.Errorf("poster %d: number %d came when %d was due", p, i, next[p])
					}
					next[p]++
				})
				if !ok {
					t.Error("refused")
				}
			}
		}()
	}
	wg.Wait()
	on(t, l, func() {
		for p, n := range next {
			if n != posts {
				t.Errorf("poster %d: %d of %d were run", p, n, posts)
			}
		}
		if cap(l.posted) > 2*posters*posts {
			t.Errorf("the list of posts has grown to %d", cap(l.posted))
		}
	})
}

// TestPostWakes posts one by one to a loop that has gone to sleep each time or
// is about to: none may be left lying.
func TestPostWakes(t *testing.T) {
	for _, spin := range []time.Duration{-1, DefaultSpin} {
		l := start(t, Options{Spin: spin})
		done := make(chan struct{})
		fn := func() { done <- struct{}{} }
		for range 2000 {
			l.Post(fn)
			<-done
		}
	}
}

func TestPostFromWithin(t *testing.T) {
	// What is posted from within a posted function runs in the next turn.
	l := start(t, Options{})
	var order []int
	done := make(chan struct{})
	on(t, l, func() {
		turn := l.stats.Turns
		l.Post(func() {
			order = append(order, 1)
			if l.stats.Turns != turn+1 {
				t.Error("run in the same turn")
			}
			l.Post(func() { order = append(order, 3); close(done) })
		})
		l.Post(func() { order = append(order, 2) })
	})
	<-done
	if len(order) != 3 || order[0] != 1 || order[1] != 2 || order[2] != 3 {
		t.Errorf("order %v", order)
	}
}

// TestStopInStorm stops a loop while others post to it. Every post that was
// taken must run, and none that was refused.
func TestStopInStorm(t *testing.T) {
	for range 10 {
		l, err := New(Options{})
		if err != nil {
			t.Fatal(err)
		}
		var taken, run atomic.Int64
		var posters, loop sync.WaitGroup
		for range 4 {
			posters.Add(1)
			go func() {
				defer posters.Done()
				for l.Post(func() { run.Add(1) }) {
					taken.Add(1)
				}
			}()
		}
		loop.Add(1)
		go func() { defer loop.Done(); l.Run() }()
		eventually(t, "some posts", func() bool { return run.Load() > 10 })
		l.Stop()
		l.Stop()
		loop.Wait()
		posters.Wait()
		if taken.Load() != run.Load() {
			t.Fatalf("%d posts taken, %d run", taken.Load(), run.Load())
		}
		l.Stop()
		if _, err := l.Attach(wire.Socket{FD: -1}, nil); err != ErrStopped {
			t.Errorf("Attach after Run: %v", err)
		}
		if _, err := l.Listen(-1, nil); err != ErrStopped {
			t.Errorf("Listen after Run: %v", err)
		}
	}
}

func TestStopBeforeRun(t *testing.T) {
	before := openFDs(t)
	l, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	ran := false
	l.Post(func() { ran = true })
	l.Stop()
	l.Run()
	if !ran || openFDs(t) != before {
		t.Errorf("posted function run: %v; %d descriptors, %d before", ran, openFDs(t), before)
	}
}

func BenchmarkPost(b *testing.B) {
	l := start(b, Options{})
	done := make(chan struct{})
	fn, last := func() {}, func() { close(done) }
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		l.Post(fn)
	}
	l.Post(last)
	<-done
}
