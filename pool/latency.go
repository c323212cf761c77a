package pool

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/pgweir/pgweir/pool/latency"
)

// history are the latencies of a pool that no loop has any more. It is guarded
// by Pooler.measuring.
type history struct {
	last  latency.Histograms // the stats period before this one
	total latency.Histograms // everything before this period
}

// LatencyInfo is a row of SHOW LATENCY.
type LatencyInfo struct {
	Database, User string
	Kind           latency.Kind

	// Recent is what the stats period before this one and this one have
	// counted, over Window: the same as SHOW STATS takes averages of.
	Recent *latency.Histogram
	Window time.Duration

	Total *latency.Histogram // since the pool was made
}

// Latencies returns the histograms of all pools that have counted anything, in
// order of database, user and kind. They are the caller's. It may block.
func (p *Pooler) Latencies() []LatencyInfo {
	p.measuring.Lock()
	defer p.measuring.Unlock()
	now := map[*Pool]*latency.Histograms{}
	p.gatherShards(func(s *Shard) {
		sum := now[s.pool]
		if sum == nil {
			sum = new(latency.Histograms)
			now[s.pool] = sum
		}
		sum.Add(&s.latencies)
	})
	p.mu.Lock()
	window := p.Now().Sub(p.periods[0].at)
	p.mu.Unlock()
	var all []LatencyInfo
	for q, recent := range now {
		var total latency.Histograms
		total.Add(recent)
		total.Add(&q.history.total)
		recent.Add(&q.history.last)
		for k := range latency.Kinds {
			if total[k].Count() > 0 {
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
	ended := map[*Pool]*latency.Histograms{}
	p.gatherShards(func(s *Shard) {
		mine := s.latencies
		s.latencies = latency.Histograms{}
		if sum := ended[s.pool]; sum == nil {
			ended[s.pool] = &mine
		} else {
			sum.Add(&mine)
		}
	})
	for q, last := range ended {
		q.history.total.Add(last)
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
