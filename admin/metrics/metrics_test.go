package metrics

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/pool/latency"
)

// fakePools have one of everything, and names that no one would like.
type fakePools struct{ hang chan struct{} }

func (f fakePools) Snapshot() *configs.Snapshot { return &configs.Snapshot{} }
func (f fakePools) State() (bool, bool)         { return false, true }

func (f fakePools) Pools() []pool.PoolInfo {
	return []pool.PoolInfo{{Database: "app", User: "jo\xffe", ClWaiting: 3, SvActive: 2, MaxWait: 1500 * time.Millisecond}}
}

func (f fakePools) Waits() []pool.WaitInfo {
	return []pool.WaitInfo{{Database: "app", User: "joe", Reason: pool.WaitPool, Waiting: 3, Count: 40, Total: 20 * time.Second}}
}

func (f fakePools) Latencies() (all []pool.LatencyInfo) {
	for _, k := range []latency.Kind{
		latency.Wait, latency.Query, latency.Transaction, latency.Login, latency.Connect,
	} {
		h := new(latency.Histogram)
		h.Record(3 * time.Millisecond)
		h.Record(3 * time.Hour)
		all = append(all, pool.LatencyInfo{Database: "app", User: "joe", Kind: k, Recent: h, Total: h})
	}
	return all
}

func (f fakePools) Stats() []pool.StatsInfo {
	return []pool.StatsInfo{{Database: "app", Total: pool.Counters{Queries: 1 << 40}}}
}

func (f fakePools) Databases() []pool.DatabaseInfo {
	return []pool.DatabaseInfo{{Name: "app", PoolSize: 20, MaxConnections: 30}, {Name: "pgbouncer"}}
}

func (f fakePools) Users() []pool.UserInfo { return []pool.UserInfo{{Name: "joe", MaxConnections: 7}} }

func (f fakePools) Hosts() []pool.HostInfo {
	return []pool.HostInfo{{Database: "app", User: "joe", Host: "db", Port: 5432, Servers: 2, Skipped: time.Second}}
}

func (f fakePools) Plans() []pool.PlanInfo {
	return []pool.PlanInfo{{Plan: "gold", Name: "db:5432", Limit: 95, Source: "configured", Reserve: 5, Used: 3, Idle: 2}}
}

func (f fakePools) Lists() pool.ListsInfo { return pool.ListsInfo{UsedClients: 9, LoginClients: 1} }

func (f fakePools) Loops() []pool.LoopInfo {
	if f.hang != nil {
		<-f.hang
	}
	return []pool.LoopInfo{{Conns: 4}}
}

// get asks for a path and returns the status and the body.
func get(t *testing.T, s *Server, path string) (status int, body string) {
	t.Helper()
	w := httptest.NewRecorder()
	s.http.Handler.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w.Code, w.Body.String()
}

func ready() error { return nil }

// TestMetrics checks some values, the manners of all, and that docs/metrics.md
// names each metric with its labels, and no others.
func TestMetrics(t *testing.T) {
	s := New(Options{Pools: fakePools{}, Version: "1.2.3", Compatible: "1.26.1", Ready: ready})
	status, body := get(t, s, "/metrics")
	if status != http.StatusOK {
		t.Fatalf("status %d: %s", status, body)
	}
	for _, line := range []string{
		`pgweir_ready 1`,
		`pgweir_paused 1`,
		`pgweir_clients{state="login"} 1`,
		`pgweir_pool_clients{database="app",state="waiting",user="jo` + "\uFFFD" + `e"} 3`,
		`pgweir_pool_waits_seconds_total{database="app",reason="pool_size",user="joe"} 20`,
		`pgweir_database_max_servers{database="app"} 30`,
		`pgweir_queries_total{database="app"} 1.099511627776e+12`,
		`pgweir_wait_seconds_bucket{database="app",user="joe",le="0.0025"} 0`,
		`pgweir_wait_seconds_bucket{database="app",user="joe",le="0.005"} 1`,
		`pgweir_wait_seconds_bucket{database="app",user="joe",le="120"} 1`,
		`pgweir_wait_seconds_bucket{database="app",user="joe",le="+Inf"} 2`,
		`pgweir_wait_seconds_sum{database="app",user="joe"} 10800.003`,
		`pgweir_plan_servers{name="db:5432",plan="gold",scope="` + pool.PlanInfo{}.Scope.String() + `",state="idle"} 2`,
		`pgweir_host_skipped{database="app",host="db",port="5432",user="joe"} 1`,
	} {
		if !slices.Contains(strings.Split(body, "\n"), line) {
			t.Errorf("missing: %s", line)
		}
	}
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}

	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(pgweir_[a-z_]+)` \\| ([a-z, ]*) \\|").FindAllStringSubmatch(string(page), -1) {
		documented = append(documented, m[1]+" "+strings.TrimSpace(m[2]))
	}
	told := []string{"pgweir_build_info version, pgbouncer, go"}
	for _, f := range families {
		told = append(told, f.name+" "+strings.Join(f.labels, ", "))
		if !strings.Contains(body, "\n# TYPE "+f.name+" ") {
			t.Errorf("%s is not told", f.name)
		}
	}
	slices.Sort(documented)
	slices.Sort(told)
	if !slices.Equal(documented, told) {
		t.Errorf("docs/metrics.md has\n%s\nthere are\n%s", strings.Join(documented, "\n"), strings.Join(told, "\n"))
	}
}

func TestReadiness(t *testing.T) {
	var why error
	s := New(Options{Pools: fakePools{}, Ready: func() error { return why }})
	if status, body := get(t, s, "/readyz"); status != http.StatusOK || body != "ok\n" {
		t.Errorf("ready: %d %q", status, body)
	}
	why = errors.New("draining")
	if status, body := get(t, s, "/readyz"); status != http.StatusServiceUnavailable || body != "draining\n" {
		t.Errorf("not ready: %d %q", status, body)
	}
	if _, body := get(t, s, "/metrics"); !strings.Contains(body, "\npgweir_ready 0\n") {
		t.Error("the metric says something else")
	}
	if status, _ := get(t, s, "/"); status != http.StatusNotFound {
		t.Errorf("/ is answered with %d", status)
	}
}

// TestHealth has a loop hang: checks fail, and only one of them waits for it.
func TestHealth(t *testing.T) {
	f := fakePools{hang: make(chan struct{})}
	s := New(Options{Pools: f, Ready: ready})
	for range 2 {
		if status, body := get(t, s, "/healthz"); status != http.StatusServiceUnavailable || !strings.Contains(body, "does not answer") {
			t.Errorf("while a loop hangs: %d %q", status, body)
		}
	}
	f.hang <- struct{}{} // and nobody else is there to take another
	close(f.hang)
	if status, body := get(t, s, "/healthz"); status != http.StatusOK {
		t.Errorf("afterwards: %d %q", status, body)
	}
}

// TestSlowScraper has a client ask and not read: others are served meanwhile.
func TestSlowScraper(t *testing.T) {
	s := New(Options{Pools: fakePools{}, Ready: ready})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ln) }()
	slow, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	if _, err := io.WriteString(slow, "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReaderSize(slow, 16).ReadString('\n'); err != nil || line != "HTTP/1.1 200 OK\r\n" {
		t.Fatalf("%q, %v", line, err)
	}
	for range 2 * scrapes {
		r, err := http.Get("http://" + ln.Addr().String() + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil || r.StatusCode != http.StatusOK {
			t.Errorf("status %d, %v", r.StatusCode, err)
		}
		r.Body.Close()
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
