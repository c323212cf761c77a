package pool

import (
	"testing"
	"time"

	"github.com/pgweir/pgweir/wire"
)

// TestWaitsSplit: no part of a wait is lost, also when the reason has changed
// more often than is remembered.
func TestWaitsSplit(t *testing.T) {
	var w waits
	for i := range 100 { // every second another of two
		w.changes[w.n%uint64(len(w.changes))] = change{wire.Time(i) * wire.Time(time.Second), WaitPool + WaitReason(i%2)}
		w.n++
	}
	const end = 100 * wire.Time(time.Second)
	for _, s := range []struct {
		since         wire.Time
		pool, reserve time.Duration
	}{
		{end, 0, 0},
		{end.Add(-500 * time.Millisecond), 0, 500 * time.Millisecond},
		{end.Add(-3500 * time.Millisecond), 1500 * time.Millisecond, 2 * time.Second},
		{end.Add(-16 * time.Second), 8 * time.Second, 8 * time.Second},
		{end.Add(-50 * time.Second), 42 * time.Second, 8 * time.Second}, // the oldest change that is known was to pool_size
	} {
		by := w.split(s.since, end)
		if by[WaitPool] != s.pool || by[WaitReserve] != s.reserve {
			t.Errorf("%v: %v and %v", end.Sub(s.since), by[WaitPool], by[WaitReserve])
		}
	}
}
