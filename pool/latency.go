package pool

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// LatencyKind is what took its time.
type LatencyKind uint8

const (
	// LatencyWait is the wait of a client that wants to ask for a server: until
	// it has one, or gives up. One that gets a server at once has waited for 0.
	LatencyWait LatencyKind = iota

	// LatencyQuery is a query, or a pipelined batch, on its server: until the
	// last ReadyForQuery. It begins with the request; after a wait, with the
	// end of that.
	LatencyQuery

	// LatencyTransaction is a transaction as the application sees it: from its
	// first request to its end, a wait for a server included.
	LatencyTransaction

	// LatencyLogin is the login of a client, from accept to its welcome.
	LatencyLogin

	// LatencyConnect is connecting and logging in to a server, if it succeeds.
	LatencyConnect

	latencyKinds // how many there are
)

// String is the kind's name in SHOW LATENCY and the metrics.
func (k LatencyKind) String() string {
	return [latencyKinds]string{"wait", "query", "transaction", "login", "connect"}[k]
}

// latencies are the histograms of a pool, or of one loop's part of it.
type latencies [latencyKinds]Histogram

func (l *latencies) add(other *latencies) {
	for k := range l {
		l[k].Add(&other[k])
	}
}

// history are the latencies of a pool that no loop has any more. It is guarded
// by Pooler.measuring.
type history struct {
	last  latencies // the stats period before this one
	total latencies // everything before this period
}

// LatencyInfo is a row of SHOW LATENCY.
type LatencyInfo struct {
	Database, User string
	Kind           LatencyKind

	// Recent is what the stats period before this one and this one have
	// counted, over Window: the same as SHOW STATS takes averages of.
	Recent *Histogram
	Window time.Duration

	Total *Histogram // since the pool was made
}

// Latencies returns the histograms of all pools that have counted anything, in
// order of database, user and kind. They are the caller's. It may block.
func (p *Pooler) Latencies() []LatencyInfo {
	p.measuring.Lock()
	defer p.measuring.Unlock()
	now := map[*Pool]*latencies{}
	p.gatherShards(func(s *Shard) {
		sum := now[s.pool]
		if sum == nil {
			sum = new(latencies)
			now[s.pool] = sum
		}
		sum.add(&s.latencies)
	})
	p.mu.Lock()
	window := p.Now().Sub(p.periods[0].at)
	p.mu.Unlock()
	var all []LatencyInfo
	for q, recent := range now {
		var total latencies
		total.add(recent)
		total.add(&q.history.total)
		recent.add(&q.history.last)
		for k := range latencyKinds {
			if total[k].count > 0 {
				all = append(all, LatencyInfo{q.db.Name, q.user.Name, k, &recent[k], window, &total[k]})
			}
		}
	}
	slices.SortFunc(all, func(a, b LatencyInfo) int {
		return cmp.Or(strings.Compare(a.Database, b.Database), strings.Compare(a.User, b.User), cmp.Compare(a.Kind, b.Kind))
	})
	return all
}

// endLatencyPeriod takes what the loops have counted off them.
func (p *Pooler) endLatencyPeriod() {
	p.measuring.Lock()
	defer p.measuring.Unlock()
	ended := map[*Pool]*latencies{}
	p.gatherShards(func(s *Shard) {
		mine := s.latencies
		s.latencies = latencies{}
		if sum := ended[s.pool]; sum == nil {
			ended[s.pool] = &mine
		} else {
			sum.add(&mine)
		}
	})
	for q, last := range ended {
		q.history.total.add(last)
		q.history.last = *last
	}
}

// shardsAtOnce bounds how many shards a loop looks at before it goes on with
// its sockets: with all their octaves they take about a tenth of a millisecond.
const shardsAtOnce = 16

// gatherShards calls fn for each shard, on its loop. It may block.
func (p *Pooler) gatherShards(fn func(s *Shard)) {
	for _, w := range p.workers {
		var rest []*Shard
		w.ask(func() { rest = slices.Clone(w.all) })
		for len(rest) > 0 {
			some := rest[:min(shardsAtOnce, len(rest))]
			rest = rest[len(some):]
			w.ask(func() {
				for _, s := range some {
					fn(s)
				}
			})
		}
	}
}
