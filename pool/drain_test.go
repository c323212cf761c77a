package pool

import (
	"slices"
	"testing"
	"time"

	"github.com/pgweir/pgweir/wire"
)

// However many clients there are, their turns to leave are spread evenly.
func TestTurns(t *testing.T) {
	for _, n := range []int{10, 100, 10_000} {
		d := &draining{began: wire.Time(time.Hour), spread: 20 * time.Second}
		var turns []wire.Time
		for i := range n {
			turns = append(turns, d.turn(uint64(7000+i)))
		}
		slices.Sort(turns)
		if turns[0] < d.began || turns[n-1] >= d.began.Add(d.spread) {
			t.Errorf("%d clients leave from %v to %v", n, turns[0].Sub(d.began), turns[n-1].Sub(d.began))
		}
		last := d.began
		for _, turn := range append(turns, d.began.Add(d.spread)) {
			if gap := turn.Sub(last); gap > 3*d.spread/time.Duration(n) {
				t.Errorf("of %d clients none leaves for %v", n, gap)
			}
			last = turn
		}
	}
}
