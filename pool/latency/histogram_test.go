package latency

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// agrees reports whether got is within 1 % of want, or within the width of the
// smallest bucket.
func agrees(got, want time.Duration) bool {
	return math.Abs(float64(got-want)) <= max(0.01*float64(want), float64(unit))
}

// TestHistogramQuantiles: the percentiles of known distributions come back
// within 1 %.
func TestHistogramQuantiles(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for name, draw := range map[string]func() time.Duration{
		"constant":    func() time.Duration { return 1_000_001 },
		"uniform":     func() time.Duration { return time.Duration(rng.Int64N(int64(time.Second))) },
		"exponential": func() time.Duration { return time.Duration(rng.ExpFloat64() * float64(time.Millisecond)) },
		"log-normal": func() time.Duration {
			return time.Duration(math.Exp(rng.NormFloat64()*3) * float64(100*time.Microsecond))
		},
		"mostly zero": func() time.Duration { return max(0, time.Duration(rng.NormFloat64()*float64(time.Hour/4))) },
		"two peaks": func() time.Duration {
			return [2]time.Duration{137 * time.Microsecond, 2300 * time.Millisecond}[rng.IntN(2)] + time.Duration(rng.Int64N(1000))
		},
	} {
		var h, half Histogram
		var all []time.Duration
		var sum time.Duration
		for i := range 100_000 {
			d := draw()
			all = append(all, d)
			sum += d
			if i%3 == 0 {
				half.Record(d)
			} else {
				h.Record(d)
			}
		}
		h.Add(&half)
		slices.Sort(all)
		if h.Count() != uint64(len(all)) || h.Sum() != sum || h.Max() != all[len(all)-1] {
			t.Errorf("%s: count %d, sum %v, max %v", name, h.Count(), h.Sum(), h.Max())
		}
		for _, q := range []float64{0, 0.001, 0.25, 0.5, 0.9, 0.95, 0.99, 0.999, 1} {
			want := all[max(int(math.Ceil(q*float64(len(all)))), 1)-1]
			if got := h.Quantile(q); !agrees(got, want) {
				t.Errorf("%s: the quantile %v is %v, and said to be %v", name, q, want, got)
			}
		}
		limits := []time.Duration{0, time.Microsecond, 100 * time.Microsecond, time.Millisecond, time.Second, time.Hour}
		for i, n := range h.Cumulative(limits) {
			// Within 1 % of the limit, not of the count: no bucket is narrower.
			atLeast, _ := slices.BinarySearch(all, time.Duration(float64(limits[i])*0.99)-unit)
			atMost, _ := slices.BinarySearch(all, time.Duration(float64(limits[i])*1.01)+unit)
			if n < uint64(atLeast) || n > uint64(atMost) {
				t.Errorf("%s: %d are said not to be longer than %v, and between %d and %d are", name, n, limits[i], atLeast, atMost)
			}
		}
	}
}

// TestHistogramBuckets: every duration lies in its bucket, buckets follow upon
// each other, and what is too long for them is counted all the same.
func TestHistogramBuckets(t *testing.T) {
	next := time.Duration(0)
	for o := range octaves {
		for sub := range subBuckets {
			low, high := bounds(o, sub)
			if low != next {
				t.Fatalf("bucket %d of octave %d begins at %d, and the one before ends at %d", sub, o, low, next)
			}
			for _, d := range []time.Duration{low, (low + high) / 2, high - 1} {
				if gotO, gotSub := bucket(d); gotO != o || gotSub != sub {
					t.Fatalf("%d is counted in bucket %d of octave %d, and belongs into %d of %d", d, gotSub, gotO, sub, o)
				}
			}
			next = high
		}
	}
	var h Histogram
	h.Record(-time.Second)
	h.Record(1000 * time.Hour)
	if h.Quantile(0.5) != unit/2 && h.Quantile(0.5) != 0 || h.Max() != 1000*time.Hour || h.Count() != 2 {
		t.Errorf("p50 %v, max %v, count %d", h.Quantile(0.5), h.Max(), h.Count())
	}
	var empty Histogram
	if empty.Quantile(0.99) != 0 || empty.size() != 0 {
		t.Error("an empty one is not empty")
	}
}

// TestHistogramMemory: an octave takes 520 bytes, and a histogram never more
// than 32 of them.
func TestHistogramMemory(t *testing.T) {
	var h Histogram
	for i := range 100 {
		h.Record(300*time.Microsecond + time.Duration(i)*time.Microsecond)
	}
	if n := h.size(); n > 2*520 {
		t.Errorf("times between 300 and 400 µs take %d bytes", n)
	}
	for d := time.Duration(1); d > 0; d *= 2 {
		h.Record(d)
	}
	if n := h.size(); n != 32*520 {
		t.Errorf("all durations take %d bytes", n)
	}
	if n := testing.AllocsPerRun(100, func() { h.Record(350 * time.Microsecond) }); n != 0 {
		t.Errorf("%v allocations for each record", n)
	}
}

// BenchmarkRecord is what counting one duration costs. A transaction of one
// query counts three: its wait, its query, itself.
func BenchmarkRecord(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	times := make([]time.Duration, 1024)
	for i := range times {
		times[i] = time.Duration(rng.ExpFloat64() * float64(time.Millisecond))
	}
	var h Histogram
	for i := 0; b.Loop(); i++ {
		h.Record(times[i%len(times)])
	}
}
