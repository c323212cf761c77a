package sim

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgweir/pgweir/configs"
)

// settings are what a run draws before it begins.
type settings struct {
	main      map[string]string
	databases map[string]map[string]string
	users     map[string]map[string]string
	plans     map[string]map[string]string
	shared    bool // all entries lead to one server
	accounts  []account
	loops     int
	clients   int

	// mixed lets pool modes differ and change: then clients leave nothing
	// behind in a session.
	mixed bool

	clientTLS   string // client_tls_sslmode, "" where there is none
	serverTLS   bool
	attachFails bool
	faults      time.Duration // one fault of the server process every so often; 0: none
	dialFaults  int           // one login of so many fails; 0: none
	chaos       time.Duration // how long everything goes wrong
	arrivals    time.Duration // within how long all clients come
	slack       bool          // requests to cancel may be slow on their way to the server

	// least is the shortest that a timeout has been set to, in a run whose
	// settings change.
	least map[string]time.Duration
	// buffer is the largest client_buffer so far.
	buffer int
	// removals counts the databases that a reload has removed.
	removals int
}

// account is a user that clients may log in as.
type account struct {
	name, password string
	secret         string // as in the auth_file
}

// draw draws the settings.
func (s *settings) draw(w *World) {
	mode := pick(w, "session", "session", "transaction", "transaction", "transaction", "statement")
	s.loops = pick(w, 1, 2, 2, 3)
	s.clients = 2 + w.rng.IntN(14)
	s.mixed = w.chance(6)
	s.attachFails = w.chance(8)
	s.chaos = w.between(2*time.Second, 6*time.Second)
	if s.arrivals = s.chaos; w.chance(3) { // a crowd
		s.arrivals = 100 * time.Millisecond
		s.clients *= 2
	}
	s.slack = w.chance(2)
	if w.chance(3) {
		s.faults = pick(w, 200*time.Millisecond, time.Second, 3*time.Second)
	}
	if w.chance(3) {
		s.dialFaults = pick(w, 2, 4, 10)
	}
	s.accounts = []account{
		{name: "ann", password: "tulip"},
		{name: "bob", password: "it's \"quoted\""},
		{name: "cyd", password: "md5 is old"},
	}
	for i := range s.accounts {
		s.accounts[i].secret = s.accounts[i].password
	}
	s.main = map[string]string{
		"pool_mode":                   mode,
		"auth_type":                   pick(w, "trust", "trust", "plain", "md5", "scram-sha-256", "any", "passthrough"),
		"scram_iterations":            "2",
		"admin_users":                 "root",
		"unix_socket_dir":             "",
		"server_tls_sslmode":          "disable",
		"loops":                       strconv.Itoa(s.loops),
		"default_pool_size":           pick(w, "1", "1", "2", "3", "4", "0"),
		"min_pool_size":               pick(w, "0", "0", "0", "1", "2"),
		"reserve_pool_size":           pick(w, "0", "0", "1", "2"),
		"reserve_pool_timeout":        pick(w, "0", "0.2", "1"),
		"max_client_conn":             pick(w, "100", "100", "100", "5"),
		"max_db_connections":          pick(w, "0", "0", "1", "2", "4"),
		"max_user_connections":        pick(w, "0", "0", "0", "1", "2", "3"),
		"max_prepared_statements":     pick(w, "0", "1", "3", "200"),
		"max_login_concurrency":       pick(w, "1", "2", "4"),
		"query_wait_timeout":          pick(w, "120", "120", "3", "1", "0"),
		"query_wait_notify":           pick(w, "0", "1", "5"),
		"query_timeout":               pick(w, "0", "0", "0", "2"),
		"idle_transaction_timeout":    pick(w, "0", "0", "1"),
		"transaction_timeout":         pick(w, "0", "0", "2"),
		"client_idle_timeout":         pick(w, "0", "0", "0", "1"),
		"client_login_timeout":        pick(w, "60", "60", "2"),
		"cancel_wait_timeout":         pick(w, "10", "1", "0.05"),
		"server_idle_timeout":         pick(w, "600", "1", "0"),
		"server_lifetime":             pick(w, "3600", "3600", "1", "0"),
		"server_check_delay":          pick(w, "30", "0.2", "0"),
		"server_check_query":          pick(w, "<empty>", "select 0/0", ""),
		"server_reset_query":          pick(w, "DISCARD ALL", "DISCARD ALL", ""),
		"server_reset_query_always":   pick(w, "0", "0", "1"),
		"server_login_retry":          pick(w, "0.3", "1", "2"),
		"server_connect_timeout":      pick(w, "0.5", "2", "15"),
		"server_round_robin":          pick(w, "0", "1"),
		"client_buffer":               pick(w, "262144", "2000", "1"),
		"ignore_startup_parameters":   "extra_float_digits",
		"application_name_add_host":   pick(w, "0", "0", "1"),
		"login_notify_message":        pick(w, "", "", "hello"),
		"autodb_idle_timeout":         pick(w, "3600", "1"),
		"pool_idle_timeout":           pick(w, "0", "0", "1"),
		"max_db_client_connections":   pick(w, "0", "0", "0", "6"),
		"max_user_client_connections": pick(w, "0", "0", "0", "6"),
	}
	if w.chance(6) {
		s.main["max_client_prepared_statements"] = "3"
	}
	s.main["client_tls_sslmode"] = "disable"
	switch {
	case s.passthrough(): // over unix sockets, where there is no TLS
		s.main["unix_socket_dir"] = "/run"
		s.main["auth_passthrough_cache"] = pick(w, "60", "1", "0")
	case w.chance(3):
		s.clientTLS = pick(w, "allow", "require")
		s.main["client_tls_sslmode"] = s.clientTLS
	}
	s.serverTLS = w.chance(5)
	if w.chance(3) { // nobody but the owner is in the auth_file
		s.main["auth_user"], s.main["auth_query"] = "owner", "lookup"
		s.main["auth_query_cache"] = pick(w, "0", "0.5", "60")
	}
	s.drawPlans(w)
	s.databases = map[string]map[string]string{}
	for _, name := range []string{"a", "b"} {
		s.databases[name] = s.drawDatabase(w, name)
	}
	if w.chance(4) {
		s.databases["*"] = s.drawDatabase(w, "auto")
	}
	if s.main["auth_type"] == "any" {
		for _, d := range s.databases {
			d["user"] = "owner"
		}
	}
	if s.passthrough() {
		for _, d := range s.databases {
			delete(d, "user")
		}
	}
	s.users = map[string]map[string]string{}
	for _, a := range s.accounts {
		u := map[string]string{}
		if w.chance(5) {
			u["pool_size"] = pick(w, "1", "2")
		}
		if w.chance(8) {
			u["max_user_connections"] = pick(w, "1", "2")
		}
		if w.chance(8) {
			u["query_timeout"] = "2"
		}
		if s.mixed && w.chance(3) {
			u["pool_mode"] = pick(w, "session", "transaction")
		}
		if len(u) > 0 {
			s.users[a.name] = u
		}
	}
	s.least = map[string]time.Duration{}
	s.note()
}

// drawPlans draws the plans that entries may have.
func (s *settings) drawPlans(w *World) {
	s.plans = map[string]map[string]string{}
	if w.chance(2) {
		return
	}
	s.shared = w.chance(2)
	s.main["plan"] = pick(w, "none", "auto", "gold", "gold")
	for _, name := range []string{"gold", "free"} {
		s.plans[name] = s.drawPlan(w)
	}
}

func (s *settings) drawPlan(w *World) map[string]string {
	p := map[string]string{
		"max_server_connections": pick(w, "2", "3", "4", "6"),
		"reserve":                pick(w, "0", "0", "1"),
		"scope":                  pick(w, "server", "server", "role", "database"),
	}
	if w.chance(4) {
		p["pool_size"] = pick(w, "1", "3")
	}
	if w.chance(6) {
		p["max_client_connections"] = "4"
	}
	return p
}

// drawDatabase draws an entry.
func (s *settings) drawDatabase(w *World, name string) map[string]string {
	d := map[string]string{"host": name + ".1", "port": "5432"}
	if w.chance(2) {
		d["host"] += "," + name + ".2"
	}
	if s.shared {
		d["host"] = "all.1"
	}
	if len(s.plans) > 0 && w.chance(3) {
		d["plan"] = pick(w, "none", "auto", "gold", "free")
	}
	if w.chance(3) {
		d["pool_size"] = pick(w, "1", "2", "3")
	}
	if w.chance(5) {
		d["min_pool_size"] = "1"
	}
	if w.chance(5) {
		d["max_db_connections"] = pick(w, "1", "2", "3")
	}
	if w.chance(6) {
		d["user"] = "owner"
	}
	if w.chance(6) {
		d["connect_query"] = pick(w, "select 0/0", "set work_mem='7'", "fail 0/0", "prepare everybodys as select 0/1")
	}
	if w.chance(6) {
		d["load_balance_hosts"] = "disable"
	}
	if w.chance(6) {
		d["query_wait_timeout"] = pick(w, "1", "0")
	}
	if w.chance(8) {
		d["timezone"] = "Asia/Tokyo"
	}
	if s.mixed && w.chance(2) {
		d["pool_mode"] = pick(w, "session", "transaction")
	}
	return d
}

// timeouts are the settings that end clients after a time.
var timeouts = []string{
	"query_wait_timeout", "query_timeout", "idle_transaction_timeout", "transaction_timeout",
	"client_idle_timeout", "client_login_timeout",
}

// note remembers the shortest timeouts and the largest buffer.
func (s *settings) note() {
	see := func(from map[string]string) {
		for _, key := range timeouts {
			sec, err := strconv.ParseFloat(from[key], 64)
			d := time.Duration(sec * float64(time.Second))
			if err == nil && d > 0 && (s.least[key] == 0 || d < s.least[key]) {
				s.least[key] = d
			}
		}
	}
	if n, err := strconv.Atoi(s.main["client_buffer"]); err == nil {
		s.buffer = max(s.buffer, n)
	}
	see(s.main)
	for _, d := range s.databases {
		see(d)
	}
	for _, u := range s.users {
		see(u)
	}
}

// change redraws a few settings, as an operator does before a RELOAD.
func (s *settings) change(w *World) {
	s.main["default_pool_size"] = pick(w, "1", "2", "3", "4")
	s.main["max_db_connections"] = pick(w, "0", "0", "1", "2", "4")
	s.main["max_user_connections"] = pick(w, "0", "0", "1", "3")
	s.main["reserve_pool_size"] = pick(w, "0", "1")
	s.main["query_wait_timeout"] = pick(w, "120", "3", "1")
	s.main["server_round_robin"] = pick(w, "0", "1")
	s.main["server_lifetime"] = pick(w, "3600", "1")
	s.main["client_buffer"] = pick(w, "262144", "2000", "1")
	if s.mixed {
		s.main["pool_mode"] = pick(w, "session", "transaction")
	}
	for _, name := range slices.Sorted(maps.Keys(s.plans)) {
		s.plans[name]["max_server_connections"] = pick(w, "2", "3", "4", "6")
	}
	if len(s.plans) > 0 && w.chance(3) { // another plan
		s.databases["a"]["plan"] = pick(w, "none", "auto", "gold", "free")
		s.main["plan"] = pick(w, "none", "auto", "gold", "gold")
	}
	if w.chance(4) { // other servers
		s.databases["a"]["host"] = pick(w, "a.1", "a.2", "a.1,a.2")
	}
	if w.chance(4) {
		s.databases["a"]["pool_size"] = pick(w, "1", "2", "3")
	}
	if w.chance(4) {
		if s.databases["b"] != nil {
			delete(s.databases, "b")
			s.removals++
		} else {
			s.databases["b"] = s.drawDatabase(w, "b")
			if s.main["auth_type"] == "any" {
				s.databases["b"]["user"] = "owner"
			}
			if s.passthrough() {
				delete(s.databases["b"], "user")
			}
		}
	}
	s.note()
}

// text writes the settings as a pgbouncer.ini.
func (s *settings) text() string {
	var b strings.Builder
	b.WriteString("[pgbouncer]\n")
	for _, key := range slices.Sorted(maps.Keys(s.main)) {
		fmt.Fprintf(&b, "%s = %s\n", key, s.main[key])
	}
	entries := func(section string, of map[string]map[string]string) {
		fmt.Fprintf(&b, "[%s]\n", section)
		for _, name := range slices.Sorted(maps.Keys(of)) {
			fmt.Fprintf(&b, "%s =", name)
			for _, key := range slices.Sorted(maps.Keys(of[name])) {
				fmt.Fprintf(&b, " %s='%s'", key, strings.ReplaceAll(of[name][key], "'", "''"))
			}
			b.WriteString("\n")
		}
	}
	entries("databases", s.databases)
	entries("users", s.users)
	entries("plans", s.plans)
	return b.String()
}

// snapshot is what the pooler makes of the settings.
func (s *settings) snapshot() (*configs.Snapshot, error) {
	snap, err := configs.Parse("sim.ini", s.text())
	if err != nil {
		return nil, err
	}
	var list strings.Builder
	quote := func(t string) string { return `"` + strings.ReplaceAll(t, `"`, `""`) + `"` }
	known := s.accounts
	if s.main["auth_user"] != "" || s.passthrough() {
		known = nil
	}
	for _, a := range append(slices.Clone(known), account{name: "root", secret: "toor"}, account{name: "owner", secret: "deed"}) {
		list.WriteString(quote(a.name) + " " + quote(a.secret) + "\n")
	}
	snap.Auth, err = configs.ParseUserlist("userlist.txt", list.String())
	return snap, err
}

// passthrough reports whether the database judges passwords.
func (s *settings) passthrough() bool { return s.main["auth_type"] == "passthrough" }

// password is that of an account, "" if there is none of that name.
func (s *settings) password(name string) string {
	for _, a := range s.accounts {
		if a.name == name {
			return a.password
		}
	}
	return ""
}

// session reports whether clients keep their servers, in every pool and for
// the whole run.
func (s *settings) session() bool { return !s.mixed && s.main["pool_mode"] == "session" }

// statement reports whether transaction blocks are refused somewhere.
func (s *settings) statement() bool { return s.main["pool_mode"] == "statement" }

// named reports whether clients may count on the statements that they have
// prepared, by name: their session keeps them, or the pooler does.
func (s *settings) named() bool {
	return s.session() || !s.mixed && s.main["max_prepared_statements"] != "0"
}

// resets reports whether a session leaves nothing behind for the next.
func (s *settings) resets() bool { return s.main["server_reset_query"] != "" }
