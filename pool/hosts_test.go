package pool

import (
	"slices"
	"testing"
	"time"

	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool/dial"
	"github.com/pgweir/pgweir/wire"
)

// TestHostsTurn: which host comes first, and which are skipped. In each step
// the first hosts fail, and the next one takes the connection.
func TestHostsTurn(t *testing.T) {
	list := []string{"a", "b", "c"}
	const longest = 4 * time.Second
	type step struct {
		after time.Duration
		fail  int
		want  string
	}
	for turn, steps := range map[configs.LoadBalanceHosts][]step{
		configs.HostsRoundRobin: {
			{0, 0, "abc"},
			{0, 0, "bca"},
			{0, 1, "cab"}, // c is down
			{0, 0, "abc"},
			{0, 0, "bac"},
			{0, 0, "abc"},               // its turn, but it is skipped
			{time.Second, 1, "abc"},     // a is down as well
			{0, 1, "bca"},               // c has its turn again, and works after b has failed
			{0, 0, "cab"},               // a and b are skipped
			{0, 2, "cab"},               // c and a fail, b works
			{2 * time.Second, 1, "bca"}, // all back-offs are over; b fails, c works
			{time.Second, 0, "cba"},     // b again, but a has failed twice
		},
		configs.HostsDisable: {
			{0, 0, "abc"},
			{0, 1, "abc"},
			{0, 0, "bca"}, // it stays with the one that works
			{time.Hour, 2, "bca"},
			{0, 0, "abc"},
			{time.Hour, 3, "abc"},
			{0, 1, "abc"}, // all are down: all are tried
			{0, 0, "bca"},
		},
	} {
		t.Run(turn.String(), func(t *testing.T) {
			var h hosts
			var now wire.Time
			for i, s := range steps {
				now = now.Add(s.after)
				got := h.order(list, turn, now, longest)
				for j, host := range got {
					if j == s.fail {
						h.works(host, list, turn)
						break
					}
					h.failed(down(host), now, longest)
				}
				if want := []string{s.want[:1], s.want[1:2], s.want[2:]}; !slices.Equal(got, want) {
					t.Errorf("step %d: %v, want %v", i, got, want)
				}
			}
		})
	}
}

// down is the failure of a host that says no.
func down(host string) *dial.LoginError {
	return &dial.LoginError{Kind: dial.ConnectFailed, Reason: "down", Host: host}
}

// TestHostSilent: a host that does not even answer is left out until its
// back-off is over, and then one connection tries it; unless all are like that.
func TestHostSilent(t *testing.T) {
	list := []string{"a", "b"}
	silent := func(host string) *dial.LoginError {
		return &dial.LoginError{Kind: dial.Timeout, Reason: "connect timeout", Host: host}
	}
	for _, turn := range []configs.LoadBalanceHosts{configs.HostsRoundRobin, configs.HostsDisable} {
		t.Run(turn.String(), func(t *testing.T) {
			var h hosts
			var now wire.Time
			want := func(want ...string) {
				t.Helper()
				got := h.order(list, turn, now, time.Minute)
				slices.Sort(got)
				if !slices.Equal(got, want) {
					t.Errorf("after %v: %v, want %v", time.Duration(now), got, want)
				}
			}
			h.failed(down("a"), now, time.Minute)
			h.failed(silent("b"), now, time.Minute)
			want("a")
			now = now.Add(time.Second)
			want("a", "b")
			want("a")
			h.failed(silent("a"), now, time.Minute)
			want("a", "b")
			h.works("a", list, turn)
			want("a")
			h.works("b", list, turn)
			want("a", "b")
		})
	}
}

// TestHostComesBack: of many who connect while a host fails, one alone tries it
// each time its back-off, which grows, is over.
func TestHostComesBack(t *testing.T) {
	list := []string{"a", "b"}
	var h hosts
	var now wire.Time
	var tries []time.Duration
	for range 2000 {
		if got := h.order(list, configs.HostsRoundRobin, now, 8*time.Second); got[0] == "a" {
			tries = append(tries, time.Duration(now))
			if news := h.failed(down("a"), now, 8*time.Second); news != (len(tries) == 1) {
				t.Errorf("try %d is news: %v", len(tries), news)
			}
		}
		now = now.Add(10 * time.Millisecond)
	}
	if n, skipped, reason := h.trouble("a", now); n != len(tries) || skipped <= 0 || reason != "down" {
		t.Errorf("%d failures, skipped for %v: %q", n, skipped, reason)
	}
	h.works("a", list, configs.HostsRoundRobin)
	if n, skipped, reason := h.trouble("a", now); n != 0 || skipped != 0 || reason != "" {
		t.Errorf("works, and still: %d failures, skipped for %v: %q", n, skipped, reason)
	}
	if len(tries) != 5 {
		t.Fatalf("tried at %v", tries)
	}
	for i, want := range []time.Duration{1, 2, 4, 8} {
		if gap := tries[i+1] - tries[i]; gap < want*time.Second || gap > want*time.Second+20*time.Millisecond {
			t.Errorf("gap %d is %v, want %v", i, gap, want*time.Second)
		}
	}
}
