package pool

import (
	"time"

	"github.com/pgweir/pgweir/wire"
)

// Counters are what SHOW STATS counts, since the pool was made.
type Counters struct {
	ServerAssignments uint64 // times that a server was given to a client
	Xacts             uint64 // transactions that ended
	Queries           uint64 // queries that ended; a pipelined batch is one
	Received          uint64 // bytes from clients, passed on
	Sent              uint64 // bytes from servers, passed on

	XactTime  time.Duration
	QueryTime time.Duration
	WaitTime  time.Duration // of clients for a server

	ClientParses uint64 // named Parse messages from clients
	ServerParses uint64 // those that went to a server
	Binds        uint64
	ClientLogins uint64
}

// Add returns the sum of c and d.
func (c Counters) Add(d Counters) Counters {
	c.ServerAssignments += d.ServerAssignments
	c.Xacts += d.Xacts
	c.Queries += d.Queries
	c.Received += d.Received
	c.Sent += d.Sent
	c.XactTime += d.XactTime
	c.QueryTime += d.QueryTime
	c.WaitTime += d.WaitTime
	c.ClientParses += d.ClientParses
	c.ServerParses += d.ServerParses
	c.Binds += d.Binds
	c.ClientLogins += d.ClientLogins
	return c
}

// StatsInfo is what SHOW STATS knows of a database.
type StatsInfo struct {
	Database string
	Total    Counters

	// Previous is Total as it was at the begin of the window that averages are
	// taken over, which is Window long: from one to two stats periods.
	Previous Counters
	Window   time.Duration
}

// period is what the counters were at the begin of a stats period.
type period struct {
	at     wire.Time
	totals map[string]Counters
}

// Stats returns the statistics of all databases that have pools, in order of
// their names. It may block.
func (p *Pooler) Stats() []StatsInfo {
	now := p.Now()
	totals := p.totals()
	p.mu.Lock()
	from := p.periods[0]
	p.mu.Unlock()
	var all []StatsInfo
	for _, name := range sortedKeys(totals) {
		all = append(all, StatsInfo{
			Database: name, Total: totals[name], Previous: from.totals[name], Window: now.Sub(from.at),
		})
	}
	return all
}

// EndPeriod begins a new stats period. It is called every stats_period and may
// block.
func (p *Pooler) EndPeriod() {
	next := period{p.Now(), p.totals()}
	p.mu.Lock()
	p.periods[0], p.periods[1] = p.periods[1], next
	p.mu.Unlock()
	p.endLatencyPeriod()
}

// totals sums up the counters of each database.
func (p *Pooler) totals() map[string]Counters {
	sum := map[string]Counters{}
	p.gather(func(w *Worker) {
		for _, s := range w.all {
			sum[s.pool.db.Name] = sum[s.pool.db.Name].Add(s.stats)
		}
	})
	return sum
}
