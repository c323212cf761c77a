//go:build !race

package loop

import (
	"crypto/tls"
	"io"
	"net"
	"runtime"
	"testing"
)

// allocs is testing.AllocsPerRun without its GOMAXPROCS(1), under which a loop
// that spins would keep the test from running.
func allocs(runs uint64, fn func()) uint64 {
	var before, after runtime.MemStats
	fn()
	runtime.ReadMemStats(&before)
	for range runs {
		fn()
	}
	runtime.ReadMemStats(&after)
	return (after.Mallocs - before.Mallocs) / runs
}

func TestRoundTripDoesNotAllocate(t *testing.T) {
	l := start(t, Options{})
	a, client := socket(t)
	b, server := socket(t)
	relay(t, l, a, b)
	p := make([]byte, 80)
	trip := func(from, to net.Conn) {
		if _, err := from.Write(p); err != nil {
			t.Error(err)
		}
		if _, err := io.ReadFull(to, p); err != nil {
			t.Error(err)
		}
	}
	n := allocs(500, func() {
		trip(client, server)
		trip(server, client)
	})
	if n != 0 {
		t.Errorf("%v allocations for a request and its reply", n)
	}
}

func TestTLSRoundTripAllocatesLittle(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		l := start(t, Options{})
		a, client := secured(t, version)
		b, server := secured(t, version)
		relay(t, l, a, b)
		p := make([]byte, 80)
		trip := func(from, to net.Conn) {
			if _, err := from.Write(p); err != nil {
				t.Error(err)
			}
			if _, err := io.ReadFull(to, p); err != nil {
				t.Error(err)
			}
		}
		// crypto/tls allocates 32 bytes whenever it asks for more: twice for
		// each piece that the loop opens, once in each far end.
		if n := allocs(500, func() {
			trip(client, server)
			trip(server, client)
		}); n > 2*2+2 {
			t.Errorf("%s: %v allocations for a request and its reply", tls.VersionName(version), n)
		}
	}
}

func TestQueueDoesNotAllocate(t *testing.T) {
	l := start(t, Options{})
	h, c := connect(t, l)
	big := make([]byte, 3<<20)
	write := func() { h.conn.Write(big) }
	done := make(chan struct{}, 1)
	post := func() { write(); done <- struct{}{} }
	n := allocs(20, func() {
		l.Post(post)
		<-done
		if _, err := io.ReadFull(c, big); err != nil {
			t.Error(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations for a queue of chunks", n)
	}
}
