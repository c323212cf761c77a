package admin

import (
	"encoding/hex"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/pool/dial"
	"github.com/pgweir/pgweir/pool/latency"
	"github.com/pgweir/pgweir/wire"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// busyPools is one of everything: a forced user and none, values that are set
// and values that are not, and numbers of every size.
type busyPools struct{ emptyPools }

func (busyPools) State() (bool, bool) { return false, true }

func (busyPools) Statements() []pool.StatementInfo {
	return []pool.StatementInfo{{Number: 7, Name: "PGBOUNCER_7", Query: "select $1", Types: []uint32{23, 0}, Clients: 3, Servers: 2}}
}

func (busyPools) Plans() []pool.PlanInfo {
	return []pool.PlanInfo{{
		Plan: "gold", Scope: configs.ScopeRole, Name: "joe@db:5432", Limit: 15, Source: "configured", Reserve: 5,
		Used: 11, Idle: 4, Waiting: 2, Peak: 14, Refused: 1, Clients: 30, MaxClients: 100,
	}}
}

func (busyPools) Hosts() []pool.HostInfo {
	return []pool.HostInfo{{
		Database: "app", User: "joe", Host: "db", Port: 5432,
		Servers: 1, Failures: 2, Skipped: 3900 * time.Millisecond, Reason: "server is not primary",
	}}
}

func (busyPools) Waits() []pool.WaitInfo {
	return []pool.WaitInfo{
		{
			Database: "app", User: "joe", Reason: pool.WaitPool, Waiting: 2, Longest: 1500 * time.Millisecond,
			Count: 30, Total: 45 * time.Second, Max: 3 * time.Second,
		},
		{Database: "app", User: "joe", Reason: pool.WaitPause, Count: 1, Total: time.Second, Max: time.Second},
	}
}

func (busyPools) Latencies() []pool.LatencyInfo {
	total := new(latency.Histogram)
	for i := range 1000 {
		total.Record(time.Duration(i+1) * time.Millisecond)
	}
	return []pool.LatencyInfo{
		{Database: "app", User: "joe", Kind: latency.Wait, Recent: new(latency.Histogram), Window: time.Minute, Total: total},
	}
}

func (busyPools) Peers() []pool.PeerInfo {
	return []pool.PeerInfo{{ID: 2, Host: "/run/two", Port: 6432, PoolSize: 20, Sending: 3, Waiting: 4}}
}

func (busyPools) Names() ([]dial.NameInfo, []dial.ZoneInfo, int) {
	addrs := []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1")}
	return []dial.NameInfo{{Host: "db.example.com", TTL: 3900 * time.Millisecond, Addrs: addrs}},
		[]dial.ZoneInfo{{Zone: "example.com", Serial: 4294967295, Names: 1}}, 2
}

func (busyPools) Pools() []pool.PoolInfo {
	return []pool.PoolInfo{
		{
			Database: "app", User: "web", ClActive: 1, ClWaiting: 2, ClActiveCancelReq: 3, ClWaitingCancelReq: 4,
			SvActive: 5, SvActiveCancel: 6, SvBeingCanceled: 7, SvIdle: 8, SvUsed: 9, SvTested: 10, SvLogin: 11,
			MaxWait: 12*time.Second + 345678*time.Microsecond + 999, PoolMode: "transaction", LoadBalanceHosts: "round-robin",
		},
		{Database: "shop", User: "web", PoolMode: "session"},
	}
}

func (busyPools) Clients() []pool.ClientInfo {
	return []pool.ClientInfo{
		{
			ID: 1, User: "web", Database: "app", Replication: "none", State: "active",
			Addr: "10.0.0.7", Port: 50000, LocalAddr: "10.0.0.1", LocalPort: 6432,
			ConnectTime: started, RequestTime: now, Wait: 1500 * time.Millisecond, LinkID: 3,
			ApplicationName: "psql", PreparedStatements: 4, TLS: "TLSv1.3/TLS_AES_256_GCM_SHA384",
		},
		{
			ID: 5, User: "web", Database: "app", Replication: "none", State: "waiting",
			Addr: "10.0.0.7", Port: 50001, LocalAddr: "10.0.0.1", LocalPort: 6432,
			ConnectTime: started, RequestTime: now, Wait: 2 * time.Second, WaitReason: pool.WaitPool,
		},
		{
			ID: 2, User: "web", Database: "app", Replication: "none", State: "login",
			Addr: "unix", Port: 6432, LocalAddr: "unix", LocalPort: 6432, RemotePID: 99, ConnectTime: started,
		},
	}
}

func (busyPools) Servers() []pool.ServerInfo {
	return []pool.ServerInfo{
		{
			ID: 3, User: "web", Database: "app", Replication: "none", State: "active",
			Addr: "::1", Port: 5432, LocalAddr: "::1", LocalPort: 50001,
			ConnectTime: started, RequestTime: now, CloseNeeded: true, LinkID: 1, RemotePID: 4711,
		},
		{ID: 4, User: "web", Database: "app", Replication: "none", State: "idle", Addr: "unix", LocalAddr: "unix", ConnectTime: started, RequestTime: started},
	}
}

func (busyPools) Databases() []pool.DatabaseInfo {
	return []pool.DatabaseInfo{
		{
			Name: "app", Host: "db1,db2", Port: 5432, Database: "app_production", ForceUser: "web",
			PoolSize: 20, MinPoolSize: 2, ReservePoolSize: 3, ServerLifetime: time.Hour, PoolMode: "transaction",
			LoadBalanceHosts: "round-robin", MaxConnections: 100, CurrentConnections: 12,
			MaxClientConnections: 1000, CurrentClientConnections: 200, Paused: true, Disabled: true,
		},
		{Name: "pgbouncer", Port: 6432, Database: "pgbouncer", ForceUser: "pgbouncer", PoolSize: 2, PoolMode: "statement"},
		{Name: "shop", Host: "/tmp", Port: 5432, Database: "shop", PoolSize: 20},
	}
}

func (busyPools) Users() []pool.UserInfo {
	return []pool.UserInfo{
		{
			Name: "batch", PoolSize: 5, ReservePoolSize: 1, PoolMode: "session", MaxConnections: 6, CurrentConnections: 4,
			MaxClientConnections: 7, CurrentClientConnections: 3,
		},
		{Name: "web", PoolSize: configs.Inherit, ReservePoolSize: configs.Inherit},
	}
}

func (busyPools) Stats() []pool.StatsInfo {
	before := pool.Counters{
		ServerAssignments: 1000, Xacts: 2000, Queries: 3000, Received: 4000, Sent: 5000,
		XactTime: 6 * time.Second, QueryTime: 7 * time.Second, WaitTime: 8 * time.Second,
		ClientParses: 9000, ServerParses: 10000, Binds: 11000, ClientLogins: 12000,
	}
	step := pool.Counters{
		ServerAssignments: 10, Xacts: 100, Queries: 200, Received: 1 << 40, Sent: 55,
		XactTime: 3 * time.Second, QueryTime: time.Second, WaitTime: 15 * time.Microsecond,
		ClientParses: 25, ServerParses: 5, Binds: 100, ClientLogins: 15,
	}
	return []pool.StatsInfo{
		{Database: "app", Total: before.Add(step), Previous: before, Window: 10 * time.Second},
		{Database: "shop", Window: 10 * time.Second},
	}
}

func (busyPools) Lists() pool.ListsInfo {
	return pool.ListsInfo{
		Databases: 3, Users: 2, Pools: 2, FreeClients: 4, UsedClients: 5, LoginClients: 1, FreeServers: 6, UsedServers: 7,
	}
}

func (busyPools) Mem() []pool.MemInfo {
	return []pool.MemInfo{{Name: "iobuf_cache", Size: 64 << 10, Used: 3, Free: 2}}
}

func (busyPools) Loops() []pool.LoopInfo { return []pool.LoopInfo{{Conns: 3}, {Conns: 4}} }

// TestShowGolden compares the very bytes of each SHOW with those in testdata,
// so that no change of a column, a type or an encoding goes unnoticed.
func TestShowGolden(t *testing.T) {
	for i := range shows {
		name := shows[i].name
		if name == "RUNTIME" || name == "CONFIG" {
			continue // no two runs of the one, no two releases of the other are the same
		}
		t.Run(name, func(t *testing.T) {
			got := hex.Dump(ask(t, open(t, busyPools{}, false), "SHOW "+name))
			path := filepath.Join("testdata", "show", strings.ToLower(name)+".golden")
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("the bytes differ from %s (-update rewrites it)\n%s", path, got)
			}
		})
	}
}

// table asks for a SHOW and returns its columns, each as name and type, and its
// rows.
func table(t *testing.T, s pool.ConsoleSession, query string) (cols []string, rows [][]string) {
	t.Helper()
	for _, line := range decode(t, ask(t, s, query)) {
		switch kind, rest, _ := strings.Cut(line, " "); kind {
		case "RowDescription":
			for field := range strings.FieldsSeq(rest) {
				cols = append(cols, strings.TrimSuffix(field, "/0"))
			}
		case "DataRow":
			var cells []string
			for rest != "" {
				cell, err := strconv.QuotedPrefix(rest)
				if err != nil {
					cell = "NULL"
				}
				rest = strings.TrimPrefix(rest[len(cell):], " ")
				if text, err := strconv.Unquote(cell); err == nil {
					cell = text
				}
				cells = append(cells, cell)
			}
			rows = append(rows, cells)
		}
	}
	return cols, rows
}

// TestShowColumns holds each SHOW to PgBouncer's columns and types, and its
// rows to their number.
func TestShowColumns(t *testing.T) {
	const socket = "type:25 user:25 database:25 replication:25 state:25 addr:25 port:23 local_addr:25 local_port:23 " +
		"connect_time:25 request_time:25 wait:23 wait_us:23 close_needed:23 ptr:25 link:25 remote_pid:23 tls:25 " +
		"application_name:25 prepared_statements:23 id:23"
	const buffers = socket + " recv_pos:23 pkt_pos:23 pkt_remain:23 send_pos:23 send_remain:23 pkt_avail:23 send_avail:23"
	for name, want := range map[string]string{
		"VERSION": "version:25",
		"STATE":   "key:25 value:25",
		"CONFIG":  "key:25 value:25 default:25 changeable:25",
		"DATABASES": "name:25 host:25 port:23 database:25 force_user:25 pool_size:23 min_pool_size:23 reserve_pool_size:23 " +
			"server_lifetime:23 pool_mode:25 load_balance_hosts:25 max_connections:23 current_connections:23 " +
			"max_client_connections:23 current_client_connections:23 paused:23 disabled:23",
		"POOLS": "database:25 user:25 cl_active:23 cl_waiting:23 cl_active_cancel_req:23 cl_waiting_cancel_req:23 " +
			"sv_active:23 sv_active_cancel:23 sv_being_canceled:23 sv_idle:23 sv_used:23 sv_tested:23 sv_login:23 " +
			"maxwait:23 maxwait_us:23 pool_mode:25 load_balance_hosts:25",
		"CLIENTS":        socket + " wait_reason:25",
		"LATENCY":        "database:25 user:25 kind:25 since:25 count:20 p50_us:20 p90_us:20 p95_us:20 p99_us:20 p999_us:20 max_us:20",
		"WAITS":          "database:25 user:25 wait_reason:25 waiting:23 longest_us:20 waits:20 total_us:20 max_us:20",
		"SERVERS":        socket,
		"SOCKETS":        buffers,
		"ACTIVE_SOCKETS": buffers,
		"USERS": "name:25 pool_size:25 reserve_pool_size:25 pool_mode:25 max_user_connections:23 current_connections:23 " +
			"max_user_client_connections:23 current_client_connections:23",
		"LISTS": "list:25 items:23",
		"STATS": "database:25 total_server_assignment_count:1700 total_xact_count:1700 total_query_count:1700 " +
			"total_received:1700 total_sent:1700 total_xact_time:1700 total_query_time:1700 total_wait_time:1700 " +
			"total_client_parse_count:1700 total_server_parse_count:1700 total_bind_count:1700 total_client_login_count:1700 " +
			"avg_server_assignment_count:1700 avg_xact_count:1700 avg_query_count:1700 avg_recv:1700 avg_sent:1700 " +
			"avg_xact_time:1700 avg_query_time:1700 avg_wait_time:1700 avg_client_parse_count:1700 " +
			"avg_server_parse_count:1700 avg_bind_count:1700 avg_client_login_count:1700",
		"STATS_TOTALS": "database:25 server_assignment_count:1700 xact_count:1700 query_count:1700 bytes_received:1700 " +
			"bytes_sent:1700 xact_time:1700 query_time:1700 wait_time:1700 client_parse_count:1700 " +
			"server_parse_count:1700 bind_count:1700 client_login_count:1700",
		"STATS_AVERAGES": "database:25 server_assignment_count:1700 xact_count:1700 query_count:1700 bytes_received:1700 " +
			"bytes_sent:1700 xact_time:1700 query_time:1700 wait_time:1700 avg_client_parse_count:1700 " +
			"avg_server_parse_count:1700 avg_bind_count:1700 avg_client_login_count:1700",
		"TOTALS":              "name:25 value:1700",
		"MEM":                 "name:25 size:23 used:23 free:23 memtotal:23",
		"DNS_HOSTS":           "hostname:25 ttl:20 addrs:25",
		"PREPARED_STATEMENTS": "name:25 query:25 parameter_types:25 clients:23 servers:23",
		"PLANS":               "plan:25 scope:25 name:25 limit:23 source:25 reserve:23 used:23 idle:23 waiting:23 peak:23 refused:20 clients:23 max_clients:23",
		"HOSTS":               "database:25 user:25 host:25 port:23 servers:23 failures:23 skipped:23 reason:25",
		"PEERS":               "peer_id:23 host:25 port:23 pool_size:23",
		"PEER_POOLS":          "peer_id:23 cl_active_cancel_req:23 cl_waiting_cancel_req:23 sv_active_cancel:23 sv_login:23",
		"DNS_ZONES":           "zonename:25 serial:20 count:23",
		"RUNTIME":             "key:25 value:25",
	} {
		cols, rows := table(t, open(t, busyPools{}, false), "SHOW "+name)
		if got := strings.Join(cols, " "); got != want {
			t.Errorf("SHOW %s\n got  %s\n want %s", name, got, want)
		}
		for _, r := range rows {
			if len(r) != len(cols) {
				t.Errorf("SHOW %s: %d cells for %d columns: %q", name, len(r), len(cols), r)
			}
		}
	}
}

func TestShowAddresses(t *testing.T) {
	for name, want := range map[string]string{
		"DNS_HOSTS":           "db.example.com 3 10.0.0.1:0,[2001:db8::1]:0",
		"DNS_ZONES":           "example.com 4294967295 1",
		"PREPARED_STATEMENTS": "PGBOUNCER_7 select $1 23,0 3 2",
		"PLANS":               "gold role joe@db:5432 15 configured 5 11 4 2 14 1 30 100",
		"HOSTS":               "app joe db 5432 1 2 3 server is not primary",
		"PEERS":               "2 /run/two 6432 20",
		"PEER_POOLS":          "2 3 4 3 0",
	} {
		_, rows := table(t, open(t, busyPools{}, false), "SHOW "+name)
		if len(rows) != 1 || strings.Join(rows[0], " ") != want {
			t.Errorf("SHOW %s: %q", name, rows)
		}
	}
}

// Every SHOW gives the same values in binary as in text.
func TestShowBinary(t *testing.T) {
	for i := range shows {
		r := shows[i].rows(open(t, busyPools{}, true).(*session))
		for _, cells := range r {
			for j, v := range cells {
				if typ := shows[i].columns[j].typ; v.kind == textValue && typ != oidText || v.kind == numberValue && typ == oidText {
					t.Errorf("SHOW %s: %v in column %s of type %d", shows[i].name, v, shows[i].columns[j].name, typ)
				}
			}
		}
	}
}

func TestShowTotals(t *testing.T) {
	_, rows := table(t, open(t, busyPools{}, false), "SHOW TOTALS")
	var got []string
	for _, r := range rows {
		got = append(got, r[0]+"="+r[1])
	}
	want := "total_server_assignment_count=1010 total_xact_count=2101 total_query_count=3201 total_client_bytes=1099511631776 " +
		"total_server_bytes=5055 total_xact_time=9000000 total_query_time=8000000 total_wait_time=8000015 " +
		"total_ps_client_parse_count=9025 total_ps_server_parse_count=10005 total_ps_bind_count=11100 total_client_login_count=12016 " +
		"avg_server_assignment_count=1 avg_xact_count=10 avg_query_count=20 avg_client_bytes=109951162777 " +
		"avg_server_bytes=5 avg_xact_time=30000 avg_query_time=5000 avg_wait_time=1 " +
		"avg_ps_client_parse_count=2 avg_ps_server_parse_count=0 avg_ps_bind_count=10 avg_client_login_count=1"
	if strings.Join(got, " ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, " "), want)
	}
}

func TestStatsLine(t *testing.T) {
	want := "stats: 10 xacts/s, 20 queries/s, 2 client parses/s, 0 server parses/s, 10 binds/s, 1 client logins/s, " +
		"in 109951162777 B/s, out 5 B/s, xact 30000 us, query 5000 us, wait 1 us"
	if got := StatsLine(busyPools{}.Stats()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := StatsLine(nil); !strings.HasPrefix(got, "stats: 0 xacts/s, ") {
		t.Errorf("nothing to count: %s", got)
	}
}

// SHOW CONFIG has a row for each setting.
func TestShowConfig(t *testing.T) {
	snap := settings("listen_port = 7000\nquery_wait_timeout = 0.5\n")
	_, rows := table(t, open(t, configured{snap: snap}, false), "SHOW CONFIG")
	if len(rows) != len(configs.Table) {
		t.Errorf("%d rows for %d settings", len(rows), len(configs.Table))
	}
	for _, want := range [][]string{
		{"listen_port", "7000", "6432", "no"},
		{"query_wait_timeout", "0.5", "120", "yes"},
		{"auth_user", "NULL", "NULL", "yes"},
		{"admin_users", "", "", "yes"},
	} {
		if !slices.ContainsFunc(rows, func(r []string) bool { return slices.Equal(r, want) }) {
			t.Errorf("no row %q", want)
		}
	}
}

// configured has a configuration, and nothing else.
type configured struct {
	emptyPools
	snap *configs.Snapshot
}

func (c configured) Snapshot() *configs.Snapshot { return c.snap }

// What SET ignores must not hide a setting of pgweir's own.
func TestPostgresSettingsAreNotOurs(t *testing.T) {
	for _, s := range postgresSettings {
		if configs.Find(s.name) != nil {
			t.Errorf("%s is a setting of pgweir", s.name)
		}
	}
}

func TestShowRuntime(t *testing.T) {
	_, rows := table(t, open(t, busyPools{}, false), "SHOW RUNTIME")
	got := map[string]int{}
	for _, r := range rows {
		n, err := strconv.Atoi(r[1])
		if err != nil {
			t.Errorf("%s: %v", r[0], err)
		}
		got[r[0]] = n
	}
	for key, want := range map[string]int{
		"uptime_seconds": 90 * 60, "loops": 2, "loop_0_connections": 3, "loop_1_connections": 4,
	} {
		if got[key] != want {
			t.Errorf("%s is %d, want %d", key, got[key], want)
		}
	}
	for _, key := range []string{"goroutines", "gomaxprocs", "open_descriptors", "heap_bytes", "memory_bytes"} {
		if got[key] <= 0 {
			t.Errorf("%s is %d", key, got[key])
		}
	}
	if got["gc_pause_p50_us"] > got["gc_pause_p99_us"] || got["gc_pause_p99_us"] > got["gc_pause_max_us"] {
		t.Errorf("the quantiles of gc_pause are out of order: %v", got)
	}
}

// The console stands among the pools and databases that it shows.
func TestConsoleShowsItself(t *testing.T) {
	s := open(t, busyPools{}, false)
	ask(t, s, "SHOW VERSION")
	ask(t, s, "SHOW VERSION")
	_, rows := table(t, s, "SHOW POOLS")
	if len(rows) != 3 || rows[1][0] != "pgbouncer" || rows[1][2] != "1" || rows[1][15] != "statement" {
		t.Errorf("SHOW POOLS: %q", rows)
	}
	_, rows = table(t, s, "SHOW STATS")
	if len(rows) != 3 || rows[1][0] != "pgbouncer" || rows[1][2] != "4" || rows[1][12] != "1" {
		t.Errorf("SHOW STATS: %q", rows)
	}
}

func TestWelcome(t *testing.T) {
	snap := settings("login_notify_message = maintenance at noon\n")
	s := newConsole(configured{snap: snap}, Options{}).Open(pool.ConsoleClient{
		Params: [][2]string{{"application_name", "psql"}}, Key: wire.CancelKey{0, 0, 0, 7, 0, 0, 0, 9},
	})
	defer s.Close()
	reply := s.Welcome(nil)
	expect(t, "welcome", reply,
		"AuthenticationOk",
		"ParameterStatus", "ParameterStatus", "ParameterStatus", "ParameterStatus",
		"ParameterStatus", "ParameterStatus", "ParameterStatus", "ParameterStatus",
		"BackendKeyData", "NOTICE 00000 maintenance at noon", ready)
	for _, pair := range []string{"server_version\x001.26.1/bouncer\x00", "is_superuser\x00on\x00", "application_name\x00psql\x00"} {
		if !strings.Contains(string(reply), pair) {
			t.Errorf("%q is missing", pair)
		}
	}
}
