package admin

import (
	"math"
	"os"
	"runtime/metrics"
	"strconv"
	"time"
)

// showRuntime shows the state of the process. It is pgweir's own; the keys
// below are stable, further ones may come.
func showRuntime(s *session) []row {
	samples := []metrics.Sample{
		{Name: "/sched/goroutines:goroutines"},
		{Name: "/sched/gomaxprocs:threads"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
		{Name: "/gc/cycles/total:gc-cycles"},
		{Name: "/sched/pauses/total/gc:seconds"},
	}
	metrics.Read(samples)
	pauses := samples[6].Value.Float64Histogram()
	held := samples[3].Value.Uint64() - samples[4].Value.Uint64()

	rows := []row{
		pair("uptime_seconds", uint64(s.console.opts.Now().Sub(s.console.opts.Started)/time.Second)),
		pair("goroutines", samples[0].Value.Uint64()),
		pair("gomaxprocs", samples[1].Value.Uint64()),
		pair("open_descriptors", openDescriptors()),
		pair("heap_bytes", samples[2].Value.Uint64()),
		pair("memory_bytes", held),
		pair("gc_count", samples[5].Value.Uint64()),
		pair("gc_pause_p50_us", micros(quantile(pauses, 0.50))),
		pair("gc_pause_p99_us", micros(quantile(pauses, 0.99))),
		pair("gc_pause_max_us", micros(quantile(pauses, 1))),
	}
	loops := s.pools.Loops()
	rows = append(rows, pair("loops", uint64(len(loops))))
	for i, l := range loops {
		rows = append(rows, pair("loop_"+strconv.Itoa(i)+"_connections", uint64(l.Conns)))
	}
	return rows
}

func pair(key string, n uint64) row { return row{text(key), text(strconv.FormatUint(n, 10))} }

func micros(seconds float64) uint64 { return uint64(math.Ceil(seconds * 1e6)) }

// quantile is an upper bound, to within a bucket of h, of the values among
// which a share of q lies; 0 if there are none.
func quantile(h *metrics.Float64Histogram, q float64) float64 {
	var total uint64
	for _, n := range h.Counts {
		total += n
	}
	rank := max(uint64(math.Ceil(q*float64(total))), 1)
	var seen uint64
	for i, n := range h.Counts {
		seen += n
		if seen < rank {
			continue
		}
		if upper := h.Buckets[i+1]; !math.IsInf(upper, 1) {
			return upper
		}
		return h.Buckets[i] // the last bucket has no end
	}
	return 0
}

// openDescriptors counts the files that the process has open, 0 where the
// system does not tell.
func openDescriptors() uint64 {
	dir, err := os.Open("/dev/fd") // a link to /proc/self/fd on Linux
	if err != nil {
		return 0
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil || len(names) == 0 {
		return 0
	}
	return uint64(len(names) - 1) // without dir itself
}
