package metrics

import (
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool"
)

// Pooler is what /metrics needs of the pools: *pool.Pooler, or a test's
// stand-in. Its methods may block, and be called from any goroutine but a
// loop's.
type Pooler interface {
	Snapshot() *configs.Snapshot
	State() (active, paused bool)
	Pools() []pool.PoolInfo
	Waits() []pool.WaitInfo
	Latencies() []pool.LatencyInfo
	Stats() []pool.StatsInfo
	Databases() []pool.DatabaseInfo
	Users() []pool.UserInfo
	Hosts() []pool.HostInfo
	Lists() pool.ListsInfo
	Loops() []pool.LoopInfo
	Plans() []pool.PlanInfo
}

// consoleDatabase stands among the databases, and is none.
const consoleDatabase = "pgbouncer"

// limits are the bounds of the histograms' buckets.
var limits = []time.Duration{
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second,
	10 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute,
}

// family is a metric with all its labels' values.
type family struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

// collector asks the pools anew for each scrape.
type collector struct {
	pools    Pooler
	ready    func() error
	families map[string]family
}

// families names every metric, with what it tells and its labels. Counters end
// in _total. docs/metrics.md has the same list.
var families = []struct {
	name, help string
	labels     []string
}{
	{"pgweir_ready", "1 if new clients are let in, as /readyz says.", nil},
	{"pgweir_paused", "1 while everything is paused.", nil},
	{"pgweir_clients", "Client connections by state: login, or other.", []string{"state"}},
	{"pgweir_max_clients", "max_client_conn.", nil},
	{"pgweir_loop_connections", "Sockets of each event loop.", []string{"loop"}},

	{"pgweir_pool_clients", "Clients of a pool by state.", []string{"database", "user", "state"}},
	{"pgweir_pool_servers", "Servers of a pool by state.", []string{"database", "user", "state"}},
	{"pgweir_pool_longest_wait_seconds", "How long the client that has waited for longest has waited so far.", []string{"database", "user"}},
	{"pgweir_pool_waiting_clients", "Clients that wait for a server, by what keeps them waiting.", []string{"database", "user", "reason"}},
	{"pgweir_pool_waits_total", "Waits that are over, by what kept them waiting.", []string{"database", "user", "reason"}},
	{"pgweir_pool_waits_seconds_total", "Time that those waits took.", []string{"database", "user", "reason"}},

	{"pgweir_wait_seconds", "Time from wanting a server to having it, or giving up; 0 for those who get one at once.", []string{"database", "user"}},
	{"pgweir_query_seconds", "Time of queries and batches on their servers.", []string{"database", "user"}},
	{"pgweir_transaction_seconds", "Time of transactions as the application sees them, waits included.", []string{"database", "user"}},
	{"pgweir_login_seconds", "Time of clients' logins.", []string{"database", "user"}},
	{"pgweir_connect_seconds", "Time of connecting and logging in to servers.", []string{"database", "user"}},

	{"pgweir_database_clients", "Client connections of a database.", []string{"database"}},
	{"pgweir_database_max_clients", "max_db_client_connections; 0 is no limit.", []string{"database"}},
	{"pgweir_database_servers", "Server connections of a database, those being opened included.", []string{"database"}},
	{"pgweir_database_max_servers", "max_db_connections; 0 is no limit.", []string{"database"}},
	{"pgweir_database_pool_size", "pool_size of each of its pools; 0 is no limit.", []string{"database"}},
	{"pgweir_database_reserve_pool_size", "reserve_pool_size of each of its pools.", []string{"database"}},
	{"pgweir_database_paused", "1 while it is paused.", []string{"database"}},
	{"pgweir_database_disabled", "1 while it is disabled.", []string{"database"}},
	{"pgweir_user_clients", "Client connections of a user.", []string{"user"}},
	{"pgweir_user_max_clients", "max_user_client_connections; 0 is no limit.", []string{"user"}},
	{"pgweir_user_servers", "Server connections of a user, those being opened included.", []string{"user"}},
	{"pgweir_user_max_servers", "max_user_connections; 0 is no limit.", []string{"user"}},
	{"pgweir_plan_limit", "Server connections that a plan, or Postgres itself, allows, its reserve taken off; the source says why.", []string{"plan", "scope", "name", "source"}},
	{"pgweir_plan_reserve", "Server connections that are left to others.", []string{"plan", "scope", "name"}},
	{"pgweir_plan_servers", "Server connections under the limit, by state: used or idle.", []string{"plan", "scope", "name", "state"}},
	{"pgweir_plan_peak_servers", "Most of them at a time.", []string{"plan", "scope", "name"}},
	{"pgweir_plan_waiting_clients", "Clients that wait because the limit is reached.", []string{"plan", "scope", "name"}},
	{"pgweir_plan_refused_total", "Logins that Postgres refused because it was full.", []string{"plan", "scope", "name"}},
	{"pgweir_plan_clients", "Client connections under the plan.", []string{"plan", "scope", "name"}},
	{"pgweir_plan_max_clients", "Client connections that the plan allows; 0 is no limit.", []string{"plan", "scope", "name"}},
	{"pgweir_host_servers", "Servers of a pool on each host.", []string{"database", "user", "host", "port"}},
	{"pgweir_host_failures", "Failures of a host in a row.", []string{"database", "user", "host", "port"}},
	{"pgweir_host_skipped", "1 while a host is skipped because it failed.", []string{"database", "user", "host", "port"}},

	{"pgweir_server_assignments_total", "Times that a server was given to a client.", []string{"database"}},
	{"pgweir_transactions_total", "Transactions that ended.", []string{"database"}},
	{"pgweir_queries_total", "Queries that ended; a batch is one.", []string{"database"}},
	{"pgweir_received_bytes_total", "Bytes from clients, passed on to servers.", []string{"database"}},
	{"pgweir_sent_bytes_total", "Bytes from servers, passed on to clients.", []string{"database"}},
	{"pgweir_client_parses_total", "Named Parse messages from clients.", []string{"database"}},
	{"pgweir_server_parses_total", "Those that went on to a server.", []string{"database"}},
	{"pgweir_binds_total", "Bind messages of named statements.", []string{"database"}},
	{"pgweir_client_logins_total", "Logins of clients that succeeded.", []string{"database"}},
}

func newCollector(pools Pooler, ready func() error) *collector {
	c := &collector{pools: pools, ready: ready, families: make(map[string]family, len(families))}
	for _, f := range families {
		kind := prometheus.GaugeValue
		if n := len(f.name) - len("_total"); f.name[n:] == "_total" {
			kind = prometheus.CounterValue
		}
		c.families[f.name] = family{prometheus.NewDesc(f.name, f.help, f.labels, nil), kind}
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, f := range c.families {
		ch <- f.desc
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	put := func(name string, v float64, labels ...string) {
		f := c.families[name]
		ch <- prometheus.MustNewConstMetric(f.desc, f.kind, v, readable(labels)...)
	}
	c.process(put)
	c.ofPools(put)
	c.histograms(ch)
	c.ofLimits(put)
	c.counters(put)
}

type put func(name string, v float64, labels ...string)

func (c *collector) process(put put) {
	_, paused := c.pools.State()
	put("pgweir_ready", bit(c.ready() == nil))
	put("pgweir_paused", bit(paused))
	lists := c.pools.Lists()
	put("pgweir_clients", float64(lists.LoginClients), "login")
	put("pgweir_clients", float64(lists.UsedClients), "other")
	put("pgweir_max_clients", float64(c.pools.Snapshot().Main.MaxClientConn))
	for i, l := range c.pools.Loops() {
		put("pgweir_loop_connections", float64(l.Conns), strconv.Itoa(i))
	}
}

func (c *collector) ofPools(put put) {
	for _, p := range c.pools.Pools() {
		for state, n := range map[string]int{
			"active": p.ClActive, "waiting": p.ClWaiting,
			"active_cancel_req": p.ClActiveCancelReq, "waiting_cancel_req": p.ClWaitingCancelReq,
		} {
			put("pgweir_pool_clients", float64(n), p.Database, p.User, state)
		}
		for state, n := range map[string]int{
			"active": p.SvActive, "active_cancel": p.SvActiveCancel, "being_canceled": p.SvBeingCanceled,
			"idle": p.SvIdle, "used": p.SvUsed, "tested": p.SvTested, "login": p.SvLogin,
		} {
			put("pgweir_pool_servers", float64(n), p.Database, p.User, state)
		}
		put("pgweir_pool_longest_wait_seconds", p.MaxWait.Seconds(), p.Database, p.User)
	}
	for _, w := range c.pools.Waits() {
		reason := w.Reason.String()
		put("pgweir_pool_waiting_clients", float64(w.Waiting), w.Database, w.User, reason)
		put("pgweir_pool_waits_total", float64(w.Count), w.Database, w.User, reason)
		put("pgweir_pool_waits_seconds_total", w.Total.Seconds(), w.Database, w.User, reason)
	}
	for _, h := range c.pools.Hosts() {
		port := strconv.Itoa(h.Port)
		put("pgweir_host_servers", float64(h.Servers), h.Database, h.User, h.Host, port)
		put("pgweir_host_failures", float64(h.Failures), h.Database, h.User, h.Host, port)
		put("pgweir_host_skipped", bit(h.Skipped > 0), h.Database, h.User, h.Host, port)
	}
}

func (c *collector) histograms(ch chan<- prometheus.Metric) {
	for _, l := range c.pools.Latencies() {
		buckets := make(map[float64]uint64, len(limits))
		for i, n := range l.Total.Cumulative(limits) {
			buckets[limits[i].Seconds()] = n
		}
		f := c.families["pgweir_"+l.Kind.String()+"_seconds"]
		ch <- prometheus.MustNewConstHistogram(f.desc, l.Total.Count(), l.Total.Sum().Seconds(), buckets,
			readable([]string{l.Database, l.User})...)
	}
}

// readable makes labels UTF-8, which Prometheus insists on: names come from
// clients that may have sent anything.
func readable(labels []string) []string {
	for i, l := range labels {
		labels[i] = strings.ToValidUTF8(l, "\uFFFD")
	}
	return labels
}

func (c *collector) ofLimits(put put) {
	for _, d := range c.pools.Databases() {
		if d.Name == consoleDatabase {
			continue
		}
		put("pgweir_database_clients", float64(d.CurrentClientConnections), d.Name)
		put("pgweir_database_max_clients", float64(d.MaxClientConnections), d.Name)
		put("pgweir_database_servers", float64(d.CurrentConnections), d.Name)
		put("pgweir_database_max_servers", float64(d.MaxConnections), d.Name)
		put("pgweir_database_pool_size", float64(d.PoolSize), d.Name)
		put("pgweir_database_reserve_pool_size", float64(d.ReservePoolSize), d.Name)
		put("pgweir_database_paused", bit(d.Paused), d.Name)
		put("pgweir_database_disabled", bit(d.Disabled), d.Name)
	}
	for _, p := range c.pools.Plans() {
		scope := p.Scope.String()
		put("pgweir_plan_limit", float64(p.Limit), p.Plan, scope, p.Name, p.Source)
		put("pgweir_plan_reserve", float64(p.Reserve), p.Plan, scope, p.Name)
		put("pgweir_plan_servers", float64(p.Used), p.Plan, scope, p.Name, "used")
		put("pgweir_plan_servers", float64(p.Idle), p.Plan, scope, p.Name, "idle")
		put("pgweir_plan_peak_servers", float64(p.Peak), p.Plan, scope, p.Name)
		put("pgweir_plan_waiting_clients", float64(p.Waiting), p.Plan, scope, p.Name)
		put("pgweir_plan_refused_total", float64(p.Refused), p.Plan, scope, p.Name)
		put("pgweir_plan_clients", float64(p.Clients), p.Plan, scope, p.Name)
		put("pgweir_plan_max_clients", float64(p.MaxClients), p.Plan, scope, p.Name)
	}
	for _, u := range c.pools.Users() {
		put("pgweir_user_clients", float64(u.CurrentClientConnections), u.Name)
		put("pgweir_user_max_clients", float64(u.MaxClientConnections), u.Name)
		put("pgweir_user_servers", float64(u.CurrentConnections), u.Name)
		put("pgweir_user_max_servers", float64(u.MaxConnections), u.Name)
	}
}

func (c *collector) counters(put put) {
	for _, s := range c.pools.Stats() {
		for name, n := range map[string]uint64{
			"pgweir_server_assignments_total": s.Total.ServerAssignments,
			"pgweir_transactions_total":       s.Total.Xacts,
			"pgweir_queries_total":            s.Total.Queries,
			"pgweir_received_bytes_total":     s.Total.Received,
			"pgweir_sent_bytes_total":         s.Total.Sent,
			"pgweir_client_parses_total":      s.Total.ClientParses,
			"pgweir_server_parses_total":      s.Total.ServerParses,
			"pgweir_binds_total":              s.Total.Binds,
			"pgweir_client_logins_total":      s.Total.ClientLogins,
		} {
			put(name, float64(n), s.Database)
		}
	}
}

func bit(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
