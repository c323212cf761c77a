package pool_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/pgweir/pgweir/pool/latency"
)

// latencies are the histograms, as "kind recent/total p50".
func (w *world) latencies() (all map[string]string) {
	all = map[string]string{}
	w.outside(func() {
		for _, l := range w.p.Latencies() {
			all[l.Kind.String()] = fmt.Sprintf("%d/%d %v", l.Recent.Count(), l.Total.Count(), l.Total.Max())
		}
	})
	return all
}

// TestLatencies: each kind counts what it says, and stats periods end.
func TestLatencies(t *testing.T) {
	w := newWorld(t, "auth_type = trust\npool_mode = transaction\ndefault_pool_size = 1", "")
	a := w.connect().startup("user", "alice", "database", "app")
	server := len(w.loop.conns)
	w.pass(time.Second)
	w.serve() // both the login and the connection took 1 s
	v := w.loop.conns[server]
	b := w.connect().startup("user", "alice", "database", "app")
	a.send(query)
	w.pass(2 * time.Second)
	b.send(query)
	w.pass(3 * time.Second)
	v.handler.Data(replies('C', 'Z')) // a: 5 s
	w.settle()
	w.pass(4 * time.Second)
	v.handler.Data(replies('C', 'Z')) // b: waited 3 s, ran 4 s
	w.settle()
	want := func(want map[string]string) {
		t.Helper()
		if got := w.latencies(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got  %v\nwant %v", got, want)
		}
	}
	counted := map[string]string{
		"connect": "1/1 1s", "login": "2/2 1s", "query": "2/2 5s", "transaction": "2/2 7s", "wait": "2/2 3s",
	}
	want(counted)
	w.outside(w.p.EndPeriod)
	want(counted) // the window begins with the period before
	a.send(query)
	w.pass(6 * time.Second)
	v.handler.Data(replies('C', 'Z'))
	w.settle()
	want(map[string]string{
		"connect": "1/1 1s", "login": "2/2 1s", "query": "3/3 6s", "transaction": "3/3 7s", "wait": "3/3 3s",
	})
	w.outside(w.p.EndPeriod)
	want(map[string]string{
		"connect": "0/1 1s", "login": "0/2 1s", "query": "1/3 6s", "transaction": "1/3 7s", "wait": "1/3 3s",
	})
	w.outside(func() {
		for _, l := range w.p.Latencies() {
			if l.Kind == latency.Wait && (l.Recent.Max() != 0 || l.Total.Quantile(0.99) != 3*time.Second) {
				t.Errorf("recently %v, ever %v", l.Recent.Max(), l.Total.Quantile(0.99))
			}
		}
	})
}

// TestLatencyOfGivenUpWaits: a wait that ends with an error counts too, or the
// worst ones would be missing.
func TestLatencyOfGivenUpWaits(t *testing.T) {
	w := newWorld(t, "auth_type = trust\npool_mode = transaction\ndefault_pool_size = 1\nquery_wait_timeout = 9", "")
	a := w.connect().startup("user", "alice", "database", "app")
	w.serve()
	a.send(query)
	w.connect().startup("user", "alice", "database", "app").send(query)
	w.pass(10 * time.Second)
	if got := w.latencies()["wait"]; got != "2/2 10s" {
		t.Errorf("wait: %s", got)
	}
}
