package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"time"

	"github.com/pgweir/pgweir/pool/latency"
)

// histogramsWork is what counting the durations for SHOW LATENCY costs. It can't
// be left out of a pooler that is measured, and two runs differ by more; so the
// counting is measured by itself and held against all of a transaction.
const histogramsWork = "histograms"

// perTransaction is how many durations a transaction of one query has counted:
// its wait, its query, itself.
const perTransaction = 3

// countingCost is the processor time for counting the durations of one
// transaction. Those of 500 pools are counted in turn, some 10 MB, so that no
// counter is in the processor's cache from the last time: in a pooler it would
// not be either.
func countingCost() (time.Duration, error) {
	const pools, transactions = 500, 2_000_000
	rng := rand.New(rand.NewPCG(1, 2))
	times := make([]time.Duration, 1<<16)
	for i := range times {
		times[i] = time.Duration(rng.ExpFloat64() * float64(time.Millisecond))
	}
	histograms := make([][perTransaction]latency.Histogram, pools)
	count := func(n int) {
		for i := range n {
			of := &histograms[i*7919%pools]
			for k := range of {
				of[k].Record(times[(i*perTransaction+k)%len(times)])
			}
		}
	}
	count(transactions / 4) // until all memory is there
	before, err := ownTime()
	if err != nil {
		return 0, err
	}
	count(transactions)
	after, err := ownTime()
	return (after - before) / transactions, err
}

// ownTime is the processor time that this process has used.
func ownTime() (time.Duration, error) {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0, err
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), nil
}

func (r report) histograms(b *strings.Builder) {
	if r.results.counting == 0 || len(r.results.loads) == 0 {
		return
	}
	const goal = 0.02
	first := r.results.loads[0]
	all := first.of(pgweir).cpu()
	share := float64(r.results.counting.Nanoseconds()) / 1000 / all
	fmt.Fprintf(b, "| histograms: %d ns for each transaction, of the %.1f µs that pgweir takes for %s (no PgBouncer in it) | %.1f %% | ≤ %.0f %% | %s |\n",
		r.results.counting.Nanoseconds(), all, first.work.name, 100*share, 100*goal, verdict(share <= goal))
}
