package admin

import (
	"time"

	"github.com/pgweir/pgweir/pool"
)

// counter is one of the statistics: its names, and how to read it.
type counter struct {
	total, average string // in SHOW STATS, behind total_ and avg_
	bare           string // in SHOW STATS_TOTALS
	bareAverage    string // in SHOW STATS_AVERAGES
	name           string // in SHOW TOTALS, behind total_ and avg_

	value func(c *pool.Counters) int64

	// per is what the average of a time is taken over; nil means the average
	// is one per second.
	per func(c *pool.Counters) int64
}

// counters is in the order of PgBouncer's columns.
var counters = []counter{
	count("server_assignment_count", assignments),
	count("xact_count", xacts),
	count("query_count", queries),
	{
		"received", "recv", "bytes_received", "bytes_received", "client_bytes",
		func(c *pool.Counters) int64 { return int64(c.Received) }, nil,
	},
	{
		"sent", "sent", "bytes_sent", "bytes_sent", "server_bytes",
		func(c *pool.Counters) int64 { return int64(c.Sent) }, nil,
	},
	timing("xact_time", func(c *pool.Counters) time.Duration { return c.XactTime }, xacts),
	timing("query_time", func(c *pool.Counters) time.Duration { return c.QueryTime }, queries),
	timing("wait_time", func(c *pool.Counters) time.Duration { return c.WaitTime }, assignments),
	message("client_parse_count", func(c *pool.Counters) int64 { return int64(c.ClientParses) }),
	message("server_parse_count", func(c *pool.Counters) int64 { return int64(c.ServerParses) }),
	message("bind_count", func(c *pool.Counters) int64 { return int64(c.Binds) }),
	{
		"client_login_count", "client_login_count", "client_login_count", "avg_client_login_count", "client_login_count",
		func(c *pool.Counters) int64 { return int64(c.ClientLogins) }, nil,
	},
}

func assignments(c *pool.Counters) int64 { return int64(c.ServerAssignments) }
func xacts(c *pool.Counters) int64       { return int64(c.Xacts) }
func queries(c *pool.Counters) int64     { return int64(c.Queries) }

func count(name string, value func(*pool.Counters) int64) counter {
	return counter{name, name, name, name, name, value, nil}
}

// timing is a sum of times, in microseconds.
func timing(name string, sum func(*pool.Counters) time.Duration, per func(*pool.Counters) int64) counter {
	return counter{name, name, name, name, name, func(c *pool.Counters) int64 { return sum(c).Microseconds() }, per}
}

// message counts messages of the extended protocol.
func message(name string, value func(*pool.Counters) int64) counter {
	return counter{name, name, name, "avg_" + name, "ps_" + name, value, nil}
}

var (
	statsColumns = statisticColumns(
		func(c counter) string { return "total_" + c.total },
		func(c counter) string { return "avg_" + c.average },
	)
	totalsColumns   = statisticColumns(func(c counter) string { return c.bare })
	averagesColumns = statisticColumns(func(c counter) string { return c.bareAverage })
)

func statisticColumns(names ...func(counter) string) []column {
	cols := columns("database t")
	for _, name := range names {
		for _, c := range counters {
			cols = append(cols, column{name(c), oidNumeric})
		}
	}
	return cols
}

// appendTotals appends a cell for each counter.
func appendTotals(r row, s *pool.StatsInfo) row {
	for _, c := range counters {
		r = append(r, number(c.value(&s.Total)))
	}
	return r
}

// appendAverages appends a cell for each counter's average over the window.
func appendAverages(r row, s *pool.StatsInfo) row {
	for _, c := range counters {
		r = append(r, number(c.averageOf(s)))
	}
	return r
}

// averageOf is c per second over the window; a time, per what it was spent on.
// Like PgBouncer's it is rounded down.
func (c *counter) averageOf(s *pool.StatsInfo) int64 {
	n := c.value(&s.Total) - c.value(&s.Previous)
	if c.per != nil {
		if times := c.per(&s.Total) - c.per(&s.Previous); times > 0 {
			return n / times
		}
		return 0
	}
	if s.Window <= 0 {
		return 0
	}
	return int64(float64(n) / s.Window.Seconds())
}

func showStats(s *session) (rows []row) {
	for _, d := range s.console.listedStats() {
		rows = append(rows, appendAverages(appendTotals(row{text(d.Database)}, &d), &d))
	}
	return rows
}

func showStatsTotals(s *session) (rows []row) {
	for _, d := range s.console.listedStats() {
		rows = append(rows, appendTotals(row{text(d.Database)}, &d))
	}
	return rows
}

func showStatsAverages(s *session) (rows []row) {
	for _, d := range s.console.listedStats() {
		rows = append(rows, appendAverages(row{text(d.Database)}, &d))
	}
	return rows
}

func showTotals(s *session) (rows []row) {
	sum := overAll(s.console.listedStats())
	for _, c := range counters {
		rows = append(rows, row{text("total_" + c.name), number(c.value(&sum.Total))})
	}
	for _, c := range counters {
		rows = append(rows, row{text("avg_" + c.name), number(c.averageOf(&sum))})
	}
	return rows
}
