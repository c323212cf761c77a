package load

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestBuckets(t *testing.T) {
	last := -1
	for d := time.Duration(0); d < 1<<20; d++ {
		i := bucket(d)
		if i != last && i != last+1 {
			t.Fatalf("bucket(%d) = %d after %d", d, i, last)
		}
		last = i
		if off := math.Abs(float64(middle(i)-d)) / float64(max(d, 1)); off > 1.0/64 {
			t.Fatalf("middle(bucket(%d)) = %d, off by %.3f", d, middle(i), off)
		}
	}
	if i := bucket(math.MaxInt64); i >= len(Histogram{}.counts) {
		t.Errorf("bucket(MaxInt64) = %d", i)
	}
}

func TestQuantile(t *testing.T) {
	var h Histogram
	if got := h.Quantile(0.5); got != 0 {
		t.Errorf("empty: %v", got)
	}
	r := rand.New(rand.NewPCG(1, 2))
	var all []time.Duration
	for range 10_000 {
		d := time.Duration(r.ExpFloat64() * float64(time.Millisecond))
		all = append(all, d)
		h.Record(d)
	}
	slices.Sort(all)
	for _, q := range []float64{0.01, 0.5, 0.99, 1} {
		want := all[min(int(q*10_000), 9_999)]
		got := h.Quantile(q)
		if off := math.Abs(float64(got-want)) / float64(want); off > 0.05 {
			t.Errorf("Quantile(%v) = %v, want about %v", q, got, want)
		}
	}
	if h.Quantile(1) > h.Max() {
		t.Errorf("Quantile(1) = %v above Max = %v", h.Quantile(1), h.Max())
	}
}
