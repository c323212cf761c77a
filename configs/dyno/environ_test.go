package dyno

import (
	"slices"
	"strings"
	"testing"

	"github.com/pgweir/pgweir/configs"
)

// setUp makes a sidecar and its configuration.
func setUp(t *testing.T, o Options, environ ...string) (*Sidecar, *configs.Snapshot) {
	t.Helper()
	s, err := New(environ, o)
	if err != nil {
		t.Fatal(err)
	}
	snap, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	return s, snap
}

const someURL = "DATABASE_URL=postgres://u:p@h/d"

// Each of the buildpack's variables arrives where it belongs.
func TestBuildpackSettings(t *testing.T) {
	_, snap := setUp(t, Options{}, someURL, "DYNO=web.1",
		"PGBOUNCER_POOL_MODE=session", "PGBOUNCER_DEFAULT_POOL_SIZE=3", "PGBOUNCER_MIN_POOL_SIZE=2",
		"PGBOUNCER_RESERVE_POOL_SIZE=4", "PGBOUNCER_RESERVE_POOL_TIMEOUT=1.5", "PGBOUNCER_MAX_CLIENT_CONN=77",
		"PGBOUNCER_MAX_PREPARED_STATEMENTS=9", "PGBOUNCER_SERVER_RESET_QUERY=DISCARD ALL;",
		"PGBOUNCER_SERVER_LIFETIME=60", "PGBOUNCER_SERVER_IDLE_TIMEOUT=30", "PGBOUNCER_SERVER_TLS_SSLMODE=prefer",
		"PGBOUNCER_QUERY_WAIT_TIMEOUT=5", "PGBOUNCER_IGNORE_STARTUP_PARAMETERS=extra_float_digits",
		"PGBOUNCER_AUTH_TYPE=scram-sha-256", "PGBOUNCER_LOG_CONNECTIONS=1", "PGBOUNCER_LOG_DISCONNECTIONS=1",
		"PGBOUNCER_LOG_POOLER_ERRORS=0", "PGBOUNCER_STATS_PERIOD=10", "PGBOUNCER_CONFIG_DIR=/app", "PGBOUNCER_ENABLED=1")
	for key, want := range map[string]string{
		"pool_mode": "session", "default_pool_size": "3", "min_pool_size": "2", "reserve_pool_size": "4",
		"reserve_pool_timeout": "1.5", "max_client_conn": "77", "max_prepared_statements": "9",
		"server_reset_query": "DISCARD ALL;", "server_lifetime": "60", "server_idle_timeout": "30",
		"server_tls_sslmode": "prefer", "query_wait_timeout": "5", "ignore_startup_parameters": "extra_float_digits",
		"auth_type": "scram-sha-256", "log_connections": "1", "log_disconnections": "1", "log_pooler_errors": "0",
		"stats_period": "10",
	} {
		if got, _, ok := snap.Value(key); got != want || !ok {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
}

// The command line wins over pgweir's variables, and these over the buildpack's.
func TestPrecedence(t *testing.T) {
	for _, test := range []struct {
		environ []string
		options map[string]string
		want    string
	}{
		{nil, nil, "5"},
		{[]string{"PGBOUNCER_STATS_PERIOD=9"}, nil, "1"},
		{[]string{"PGBOUNCER_DEFAULT_POOL_SIZE=2"}, nil, "2"},
		{[]string{"PGBOUNCER_DEFAULT_POOL_SIZE=2", "PGWEIR_POOL_SIZE=3"}, nil, "3"},
		{[]string{"PGWEIR_DEFAULT_POOL_SIZE=4", "PGBOUNCER_DEFAULT_POOL_SIZE=2"}, nil, "4"},
		{[]string{"PGWEIR_POOL_SIZE=3"}, map[string]string{"default_pool_size": "6"}, "6"},
		{[]string{"PGWEIR_POOL_SIZE="}, nil, "5"},
	} {
		s, err := New(append([]string{someURL}, test.environ...), Options{Settings: test.options})
		if err != nil {
			t.Fatal(err)
		}
		if got := s.settings["default_pool_size"].value; got != test.want {
			t.Errorf("%v and %v: %s connections, want %s", test.environ, test.options, got, test.want)
		}
	}
}

// Several URLs have entries of their own, and one pooler.
func TestSeveralURLs(t *testing.T) {
	environ := []string{
		"A_URL=postgres://u:p@one/d", "B_URL=postgres://u:other@two/d?sslmode=require", "C_URL=postgres://v@three/pgbouncer",
		"PGBOUNCER_URLS=A_URL B_URL C_URL A_URL", "C_URL_DIRECT=kept",
	}
	s, snap := setUp(t, Options{}, environ...)
	var got []string
	for _, l := range s.Logins() {
		got = append(got, l.Variable+" "+l.Database+" "+l.User+" "+l.Server)
		if snap.Database(l.Database) == nil {
			t.Errorf("no entry %s", l.Database)
		}
	}
	want := []string{"A_URL d u one:5432/d", "B_URL db2 u two:5432/d", "C_URL db3 v three:5432/pgbouncer"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	password := s.Logins()[2].Password
	if len(password) < 20 {
		t.Errorf("a user without a password gets %q", password)
	}
	env := s.Environ("127.0.0.1", 7)
	for name, want := range map[string]string{
		"A_URL":           "postgres://u:p@127.0.0.1:7/d?sslmode=disable",
		"A_URL_PGBOUNCER": "postgres://u:p@127.0.0.1:7/d?sslmode=disable",
		"A_URL_DIRECT":    "postgres://u:p@one/d",
		"B_URL":           "postgres://u:p@127.0.0.1:7/db2?sslmode=disable",
		"B_URL_DIRECT":    "postgres://u:other@two/d?sslmode=require",
		"C_URL":           "postgres://v:" + password + "@127.0.0.1:7/db3?sslmode=disable",
		"C_URL_DIRECT":    "kept",
	} {
		if got := lookup(env, name); got != want {
			t.Errorf("%s=%s, want %s", name, got, want)
		}
	}
}

// How servers are spoken to is what the URL says, unless a variable does.
func TestServerTLS(t *testing.T) {
	for _, test := range []struct {
		environ []string
		want    string
	}{
		{[]string{someURL}, ""},
		{[]string{someURL, "DYNO=web.1"}, "require"},
		{[]string{someURL + "?sslmode=verify-full&sslrootcert=system"}, "verify-full"},
		{[]string{someURL + "?sslmode=disable", "DYNO=web.1"}, "disable"},
		{[]string{someURL + "?ssl=true"}, "require"},
		{[]string{someURL + "?sslmode=disable", "PGBOUNCER_SERVER_TLS_SSLMODE=require"}, "require"},
		{[]string{someURL + "?sslmode=require", "PGWEIR_SERVER_TLS_SSLMODE=disable"}, "disable"},
	} {
		s, err := New(test.environ, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := s.settings["server_tls_sslmode"].value; got != test.want {
			t.Errorf("%v: server_tls_sslmode = %q, want %q", test.environ, got, test.want)
		}
	}
	if _, err := New([]string{someURL + "?sslmode=require", "B=postgres://u:p@h/e?sslmode=disable", "PGWEIR_URLS=DATABASE_URL,B"}, Options{}); err == nil {
		t.Error("URLs that want different modes pass")
	}
}

// The app's drivers are told not to prepare, where the buildpack would.
func TestPreparedStatements(t *testing.T) {
	s, _ := setUp(t, Options{}, someURL+"?sslmode=require", "PGBOUNCER_PREPARED_STATEMENTS=false")
	if got, want := lookup(s.Environ("127.0.0.1", 7), "DATABASE_URL"), "postgres://u:p@127.0.0.1:7/d?sslmode=disable&prepared_statements=false"; got != want {
		t.Errorf("DATABASE_URL=%s, want %s", got, want)
	}
}

func TestEnabled(t *testing.T) {
	for _, test := range []struct {
		environ []string
		want    bool
	}{
		{nil, true},
		{[]string{"PGBOUNCER_ENABLED=1"}, true},
		{[]string{"PGBOUNCER_ENABLED=0"}, false},
		{[]string{"PGBOUNCER_ENABLED=false"}, false},
		{[]string{"PGBOUNCER_ENABLED=0", "PGWEIR_ENABLED=1"}, true},
		{[]string{"PGWEIR_ENABLED=false"}, false},
	} {
		if got := Enabled(test.environ); got != test.want {
			t.Errorf("%v: %v", test.environ, got)
		}
	}
}

// What has no effect is named, and secrets are not.
func TestWarnings(t *testing.T) {
	s, _ := setUp(t, Options{}, "DATABASE_URL=postgres://u:secret@h/d?sslcrl=secret", "PGWEIR_POOL_SISE=secret", "PGBOUNCER_PIDFILE=secret", "PGWEIR_LISTEN=tcp")
	all := strings.Join(s.Warnings, "\n")
	for _, want := range []string{"option sslcrl is left out", "PGWEIR_POOL_SISE has no effect: there is no such setting", "PGBOUNCER_PIDFILE has no effect: a pooler beside an app decides"} {
		if !strings.Contains(all, want) {
			t.Errorf("no warning %q", want)
		}
	}
	if len(s.Warnings) != 3 || strings.Contains(all, "secret") {
		t.Errorf("the warnings:\n%s", all)
	}
	text, err := s.Text()
	if err != nil || strings.Contains(text, "secret") {
		t.Errorf("the text for people, %v:\n%s", err, text)
	}
}

// A value that counts as another one is told with where it comes from.
func TestSnapshotWarnings(t *testing.T) {
	_, snap := setUp(t, Options{}, someURL, "PGWEIR_POOL_SIZE=-1")
	if len(snap.Warnings) != 1 || snap.Warnings[0].Error() != "PGWEIR_POOL_SIZE: default_pool_size = -1 counts as 0" {
		t.Errorf("the warnings: %v", snap.Warnings)
	}
}

// Names and passwords with quotes and spaces stay what they are.
func TestQuotes(t *testing.T) {
	s, snap := setUp(t, Options{}, "DATABASE_URL=postgres://o%27u%22x:p%27%20%22q%20%3B@h/a%20b")
	l := s.Logins()[0]
	if l.User != `o'u"x` || l.Password != `p' "q ;` || l.Database != "a b" {
		t.Errorf("the login is %+v", l)
	}
	if d := snap.Database("a b"); d == nil || d.Host != "h" || d.DBName != "a b" {
		t.Errorf("the entry is %+v", d)
	}
}
