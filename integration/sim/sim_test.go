package sim

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "TestSeed: the `seed` to run again, with a trace under -v")
	seedsFlag = flag.Int("seeds", 300, "TestSeeds: how many seeds to run")
	fromFlag  = flag.Uint64("from", 1, "TestSeeds: the first seed")
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

// TestSeeds runs many.
func TestSeeds(t *testing.T) {
	if *seedFlag != 0 {
		t.Skip("-seed")
	}
	start, steps := time.Now(), 0
	for i := range *seedsFlag {
		steps += simulate(t, *fromFlag+uint64(i), nil)
		if n := i + 1; n%100 == 0 && *seedsFlag > 300 {
			fmt.Printf("%d seeds, %d steps, %v\n", n, steps, time.Since(start).Round(time.Second))
		}
	}
	t.Logf("%d seeds, %d steps", *seedsFlag, steps)
}

// simulate runs one seed and fails with the command that runs it again.
func simulate(t *testing.T, seed uint64, trace func(string)) (steps int) {
	t.Helper()
	var text string
	synctest.Test(t, func(t *testing.T) {
		var stuck bool
		text, steps, stuck = Run(seed, trace)
		if text != "" {
			text = fmt.Sprintf("seed %d failed %s\nreplay: make sim SEED=%d", seed, text, seed)
			if stuck { // what waits for the pooler would wait for ever
				fmt.Println(text)
				os.Exit(1)
			}
		}
	})
	if text != "" {
		t.Fatal(text)
	}
	return steps
}

// TestRepeats holds the simulator to its word: a seed is always the same run.
func TestRepeats(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		var first, second []string
		simulate(t, seed, func(line string) { first = append(first, line) })
		simulate(t, seed, func(line string) { second = append(second, line) })
		for i := range first {
			if i >= len(second) || first[i] != second[i] {
				t.Fatalf("seed %d runs in two ways: %s", seed, first[i])
			}
		}
	}
}
