package sim

import (
	"flag"
	"fmt"
	"hash/fnv"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var (
	seedFlag     = flag.Uint64("seed", 0, "TestSeed: the `seed` to run again, with a trace under -v")
	seedsFlag    = flag.Int("seeds", 1000, "TestSeeds: how many seeds to run")
	fromFlag     = flag.Uint64("from", 1, "TestSeeds: the first seed")
	failuresFlag = flag.Int("failures", 20, "TestSeeds: how many seeds may fail until it has seen enough")
)

// TestSeed runs one seed again.
func TestSeed(t *testing.T) {
	if *seedFlag == 0 {
		t.Skip("no -seed")
	}
	var trace func(string)
	if testing.Verbose() {
		trace = func(line string) { fmt.Println(line) }
	}
	simulate(t, *seedFlag, trace)
}

// TestSeeds runs many, as many at once as there are processors. It goes on
// after one that fails, and says now and then how far it is.
func TestSeeds(t *testing.T) {
	if *seedFlag != 0 {
		t.Skip("-seed")
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // a run is short, and small
	p := &progress{t: t, start: time.Now(), told: time.Now()}
	t.Run("seeds", func(t *testing.T) {
		for range runtime.GOMAXPROCS(0) {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				for seed, ok := p.next(); ok; seed, ok = p.next() {
					p.over(run(t, seed, nil))
				}
			})
		}
	})
	fmt.Printf("%d seeds, %d steps, %d failed, %v\n", p.done, p.steps, p.failures, time.Since(p.start).Round(time.Second))
}

// progress is how far TestSeeds is.
type progress struct {
	t           *testing.T
	start, told time.Time

	mu                           sync.Mutex
	begun, done, steps, failures int
}

// next is the next seed to run; ok is false if there is none.
func (p *progress) next() (seed uint64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.begun == *seedsFlag || p.failures >= *failuresFlag {
		return 0, false
	}
	p.begun++
	return *fromFlag + uint64(p.begun-1), true
}

// over is told how a seed went.
func (p *progress) over(text string, steps int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done++
	p.steps += steps
	if text != "" {
		p.failures++
		p.t.Error(text)
		fmt.Println(text)
	}
	if time.Since(p.told) > 10*time.Second {
		p.told = time.Now()
		fmt.Printf("%d seeds, %.0f a second, %d failed\n", p.done, float64(p.done)/p.told.Sub(p.start).Seconds(), p.failures)
	}
}

// simulate runs one seed, which must not fail.
func simulate(t *testing.T, seed uint64, trace func(string)) {
	t.Helper()
	if text, _ := run(t, seed, trace); text != "" {
		t.Fatal(text)
	}
}

// run runs one seed. If it fails the text says why, and how to run it again.
func run(t *testing.T, seed uint64, trace func(string)) (text string, steps int) {
	over := make(chan struct{})
	go synctest.Test(t, func(t *testing.T) {
		var stuck bool
		if text, steps, stuck = Run(seed, trace); text != "" {
			text = fmt.Sprintf("seed %d failed %s\nreplay: make sim SEED=%d", seed, text, seed)
		}
		close(over)
		if stuck { // what waits for the pooler waits for ever, and so must the bubble
			<-forever
		}
	})
	<-over
	return text, steps
}

// forever is never closed. It is of no bubble, so a bubble whose last goroutine
// waits for it is not at its end.
var forever = make(chan struct{})

// TestRepeats holds the simulator to its word: a seed is always the same run.
func TestRepeats(t *testing.T) {
	for seed := uint64(1); seed <= repeated; seed++ {
		var first []uint64 // of all lines up to each
		simulate(t, seed, rolling(func(_ string, sum uint64) { first = append(first, sum) }))
		n, differs := 0, ""
		simulate(t, seed, rolling(func(line string, sum uint64) {
			if differs == "" && n < len(first) && first[n] != sum {
				differs = fmt.Sprintf("at line %d: %s", n+1, line)
			}
			n++
		}))
		if differs != "" || n != len(first) {
			t.Fatalf("seed %d runs in two ways, of %d and %d lines, %s", seed, len(first), n, differs)
		}
	}
}

// repeated is how many seeds TestRepeats runs twice.
const repeated = 100

// rolling is a trace that sums up the lines so far.
func rolling(see func(line string, sum uint64)) (trace func(line string)) {
	sum := fnv.New64a()
	return func(line string) {
		sum.Write([]byte(line))
		see(line, sum.Sum64())
	}
}
