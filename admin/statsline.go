package admin

import (
	"fmt"

	"github.com/pgweir/pgweir/pool"
)

// overAll adds up the statistics of all databases. Their windows are the same.
func overAll(list []pool.StatsInfo) (sum pool.StatsInfo) {
	for i := range list {
		s := &list[i]
		sum.Window = max(sum.Window, s.Window)
		sum.Total = sum.Total.Add(s.Total)
		sum.Previous = sum.Previous.Add(s.Previous)
	}
	return sum
}

// StatsLine is the line that is logged every stats_period: averages over the
// window of stats, over all databases.
func StatsLine(stats []pool.StatsInfo) string {
	sum := overAll(stats)
	average := make(map[string]any, len(counters))
	for i := range counters {
		average[counters[i].total] = counters[i].averageOf(&sum)
	}
	return fmt.Sprintf("stats: %d xacts/s, %d queries/s, %d client parses/s, %d server parses/s, %d binds/s, "+
		"%d client logins/s, in %d B/s, out %d B/s, xact %d us, query %d us, wait %d us",
		average["xact_count"], average["query_count"], average["client_parse_count"],
		average["server_parse_count"], average["bind_count"], average["client_login_count"],
		average["received"], average["sent"],
		average["xact_time"], average["query_time"], average["wait_time"])
}
