package latency

import (
	"math"
	"math/bits"
	"time"
)

// Histogram counts durations. Each octave, which is a power of two, has
// 64 buckets of the same width, so that a percentile is off by less
// than 0.8 % (below 4 µs: by 32 ns), whatever was counted. An octave takes
// memory once something was counted in it, 512 bytes, and there are 32 at
// most.
//
// The zero value is empty. There is no lock. After an assignment one of the two
// must not be used any more.
type Histogram struct {
	count   uint64
	sum     time.Duration
	longest time.Duration
	have    uint32    // the octaves that have memory, the shortest in the lowest bit
	octaves []*octave // of those, in order
}

const (
	subBits    = 6
	subBuckets = 1 << subBits
	unit       = 64 * time.Nanosecond // the width of the buckets of the two lowest octaves
	octaves    = 32
)

type octave [subBuckets]uint64

// bucket says where d is counted. The last octave ends at 2.4 hours; what is
// longer counts as that.
func bucket(d time.Duration) (octave, sub int) {
	units := uint64(d / unit)
	shift := bits.Len64(units) - subBits - 1
	if shift < 0 {
		return 0, int(units)
	}
	if shift >= octaves-1 {
		return octaves - 1, subBuckets - 1
	}
	return shift + 1, int(units>>shift) - subBuckets
}

// bounds are the durations that are counted in a bucket: from low up to, and
// without, high.
func bounds(octave, sub int) (low, high time.Duration) {
	if octave == 0 {
		return time.Duration(sub) * unit, time.Duration(sub+1) * unit
	}
	width := unit << (octave - 1)
	low = time.Duration(subBuckets+sub) * width
	return low, low + width
}

// octave is the octave i of h, which gets memory if it has none.
func (h *Histogram) octave(i int) *octave {
	at := bits.OnesCount32(h.have & (1<<i - 1))
	if h.have&(1<<i) == 0 {
		h.have |= 1 << i
		h.octaves = append(h.octaves, nil)
		copy(h.octaves[at+1:], h.octaves[at:])
		h.octaves[at] = new(octave)
	}
	return h.octaves[at]
}

// Record counts d. A negative duration counts as zero.
func (h *Histogram) Record(d time.Duration) {
	d = max(d, 0)
	o, sub := bucket(d)
	h.octave(o)[sub]++
	h.count++
	h.sum += d
	h.longest = max(h.longest, d)
}

// Add counts all that other has counted.
func (h *Histogram) Add(other *Histogram) {
	for i := range octaves {
		if other.have&(1<<i) == 0 {
			continue
		}
		to := h.octave(i)
		for sub, n := range other.octave(i) {
			to[sub] += n
		}
	}
	h.count += other.count
	h.sum += other.sum
	h.longest = max(h.longest, other.longest)
}

// Count is how many durations were counted.
func (h *Histogram) Count() uint64 { return h.count }

// Sum is their sum, exactly.
func (h *Histogram) Sum() time.Duration { return h.sum }

// Max is the longest, exactly; 0 if there is none.
func (h *Histogram) Max() time.Duration { return h.longest }

// Quantile is the duration that a share of q, from 0 to 1, does not exceed; 0
// if nothing was counted.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank := max(uint64(math.Ceil(q*float64(h.count))), 1)
	var seen uint64
	for i := range octaves {
		if h.have&(1<<i) == 0 {
			continue
		}
		for sub, n := range h.octave(i) {
			if seen += n; n > 0 && seen >= rank {
				low, high := bounds(i, sub)
				return min((low+high)/2, h.longest)
			}
		}
	}
	return h.longest
}

// Cumulative returns how many durations are not longer than each of limits,
// which ascend. A bucket that lies across a limit counts as longer if its
// middle is.
func (h *Histogram) Cumulative(limits []time.Duration) []uint64 {
	counts := make([]uint64, len(limits))
	at, seen := 0, uint64(0)
	for i := range octaves {
		if h.have&(1<<i) == 0 {
			continue
		}
		for sub, n := range h.octave(i) {
			low, high := bounds(i, sub)
			for at < len(limits) && limits[at] < (low+high)/2 {
				counts[at] = seen
				at++
			}
			seen += n
		}
	}
	for ; at < len(limits); at++ {
		counts[at] = seen
	}
	return counts
}

// size is the memory that h takes behind its own, in bytes.
func (h *Histogram) size() int { return len(h.octaves) * (subBuckets + 1) * 8 }
