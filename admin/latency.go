package admin

import (
	"time"

	"github.com/pgweir/pgweir/pool/latency"
)

var latencyColumns = columns("database t, user t, kind t, since t, count q, " +
	"p50_us q, p90_us q, p95_us q, p99_us q, p999_us q, max_us q")

// quantiles are the columns between count and max_us.
var quantiles = []float64{0.5, 0.9, 0.95, 0.99, 0.999}

// showLatency has two rows for each pool and kind: since the begin of the last
// stats period, as the averages of SHOW STATS, and since the start.
func showLatency(s *session) (rows []row) {
	for _, l := range s.pools.Latencies() {
		for _, span := range []struct {
			since string
			h     *latency.Histogram
		}{{"period", l.Recent}, {"start", l.Total}} {
			r := row{text(l.Database), text(l.User), text(l.Kind.String()), text(span.since), number(span.h.Count())}
			for _, q := range quantiles {
				r = append(r, roundMicros(span.h.Quantile(q)))
			}
			rows = append(rows, append(r, roundMicros(span.h.Max())))
		}
	}
	return rows
}

func roundMicros(d time.Duration) value { return number(d.Round(time.Microsecond).Microseconds()) }
