// Package load puts work on a Postgres or a pooler and measures how long each
// piece of it takes.
package load

import (
	"math/bits"
	"sync"
	"time"
)

// subBuckets is the number of buckets for each power of two: a quantile is off
// by 1/64 at most.
const subBuckets = 32

// Histogram counts durations. The zero value is empty.
type Histogram struct {
	counts [(64 - 5) * subBuckets]uint64
	n      uint64
	max    time.Duration
}

// bucket returns the index for d: durations below 64 ns have a bucket each, and
// from there on every power of two has subBuckets of equal width.
func bucket(d time.Duration) int {
	shift := max(0, bits.Len64(uint64(d))-6)
	return shift*subBuckets + int(d>>shift)
}

// middle is the duration in the middle of bucket i.
func middle(i int) time.Duration {
	if i < 2*subBuckets {
		return time.Duration(i)
	}
	shift := i/subBuckets - 1
	low := time.Duration(i-shift*subBuckets) << shift
	return low + time.Duration(1)<<shift/2
}

// Record counts d. A negative duration counts as zero.
func (h *Histogram) Record(d time.Duration) {
	d = max(d, 0)
	h.counts[bucket(d)]++
	h.n++
	h.max = max(h.max, d)
}

// Add counts all that other has counted.
func (h *Histogram) Add(other *Histogram) {
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.n += other.n
	h.max = max(h.max, other.max)
}

// Count is the number of durations.
func (h *Histogram) Count() uint64 { return h.n }

// Max is the longest duration.
func (h *Histogram) Max() time.Duration { return h.max }

// Quantile returns the duration below which the share q of all lies, 0 < q <=
// 1, and zero for an empty histogram.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank := uint64(q * float64(h.n))
	var seen uint64
	for i, n := range h.counts {
		seen += n
		if n > 0 && seen >= rank {
			return min(middle(i), h.max)
		}
	}
	return 0
}

// Meter collects the durations of many workers.
type Meter struct {
	mu     sync.Mutex
	total  Histogram
	recent Histogram
}

// Record counts d. It may be called from any goroutine.
func (m *Meter) Record(d time.Duration) {
	m.mu.Lock()
	m.recent.Record(d)
	m.mu.Unlock()
}

// Recent returns what was recorded since the last call.
func (m *Meter) Recent() Histogram {
	m.mu.Lock()
	defer m.mu.Unlock()
	recent := m.recent
	m.total.Add(&recent)
	m.recent = Histogram{}
	return recent
}

// Total returns all that was recorded.
func (m *Meter) Total() Histogram {
	m.mu.Lock()
	defer m.mu.Unlock()
	total := m.total
	total.Add(&m.recent)
	return total
}
