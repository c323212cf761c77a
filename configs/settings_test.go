package configs

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestTable checks what every row must hold to.
func TestTable(t *testing.T) {
	own := tableIndex[ownSettings]
	if own != 100 {
		t.Errorf("%d settings of PgBouncer, and it has 100 off Windows", own)
	}
	seen := make(map[string]bool)
	fields := make(map[any]string)
	var m Main
	for i := range Table {
		s := &Table[i]
		if seen[s.Name] {
			t.Errorf("%s comes twice", s.Name)
		}
		seen[s.Name] = true
		if other, ok := fields[s.field(&m)]; ok {
			t.Errorf("%s and %s share a field", s.Name, other)
		}
		fields[s.field(&m)] = s.Name
		if !strings.HasSuffix(s.Meaning, ".") {
			t.Errorf("%s: the meaning is no sentence: %q", s.Name, s.Meaning)
		}
		if s.Null {
			if s.Default != "" {
				t.Errorf("%s: a default beside NULL", s.Name)
			}
			s.clear(&m)
		} else if _, note, err := s.set(&m, s.Default); err != nil || note != "" {
			t.Errorf("%s: default %q: %s %v", s.Name, s.Default, note, err)
		}
		if Find(s.Name) != s {
			t.Errorf("%s can't be found", s.Name)
		}
	}
	if Find("service_name") != nil {
		t.Error("service_name exists on Windows only")
	}
}

// TestDefaults checks what a file with nothing in it comes to.
func TestDefaults(t *testing.T) {
	s := parse(t, "[pgbouncer]\n")
	for _, tt := range []struct{ got, want any }{
		{s.Main.PoolMode, PoolSession},
		{s.Main.AuthType, AuthMD5},
		{s.Main.ClientTLSSSLMode, SSLDisable},
		{s.Main.ServerTLSSSLMode, SSLPrefer},
		{s.Main.DefaultPoolSize, 20},
		{s.Main.MaxClientConn, 100},
		{s.Main.ListenPort, 6432},
		{s.Main.UnixSocketDir, "/tmp"},
		{s.Main.UnixSocketMode, 0o777},
		{s.Main.ServerResetQuery, "DISCARD ALL"},
		{s.Main.ServerLifetime, time.Hour},
		{s.Main.MaxPacketSize, uint32(1<<31 - 1)},
		{s.Main.ClientBuffer, 256 << 10},
		{s.Main.MaxLoginConcurrency, 4},
		{s.Main.MaxClientPreparedStatements, 5000},
		{s.Main.AuthFile, ""},
		{s.IsSet("pool_mode"), false},
		{s.IsSet("conffile"), true},
		{s.IsSet("pool"), false},
		{len(s.Main.TrackedParameters()), 10},
	} {
		if tt.got != tt.want {
			t.Errorf("got %v, want %v", tt.got, tt.want)
		}
	}
	if !parse(t, "[pgbouncer]\npool_mode = session\n").IsSet("pool_mode") {
		t.Error("a setting given its default is set all the same")
	}
}

func TestParseInt(t *testing.T) {
	for _, tt := range []struct {
		text string
		want int
		bad  bool
	}{
		{text: "0"},
		{text: "-0"},
		{text: "42", want: 42},
		{text: "+42", want: 42},
		{text: "-42", want: -42},
		{text: "06432", want: 3354},
		{text: "-010", want: -8},
		{text: "0x1F", want: 31},
		{text: "-0X10", want: -16},
		{text: "2147483647", want: 1<<31 - 1},
		{text: "2147483648", bad: true},
		{text: "", bad: true},
		{text: "-", bad: true},
		{text: "--1", bad: true},
		{text: "0x", bad: true},
		{text: "0x-1", bad: true},
		{text: "08", bad: true},
		{text: "1_000", bad: true},
		{text: "0b1", bad: true},
		{text: "0o7", bad: true},
		{text: "1 ", bad: true},
		{text: "1k", bad: true},
		{text: "1.0", bad: true},
		{text: "on", bad: true},
	} {
		got, err := parseInt(tt.text, 31)
		if got != tt.want || (err != nil) != tt.bad {
			t.Errorf("parseInt(%q) = %d, %v; want %d", tt.text, got, err, tt.want)
		}
	}
}

func TestSeconds(t *testing.T) {
	for _, tt := range []struct {
		text  string
		want  time.Duration
		shown string
	}{
		{"0", 0, "0"},
		{"-0", 0, "0"},
		{"15", 15 * time.Second, "15"},
		{"0.5", 500 * time.Millisecond, "0.5"},
		{".25", 250 * time.Millisecond, "0.25"},
		{"0.000001", time.Microsecond, "1e-06"},
		{"0.0000001", 0, "0"},
		{"4.35", 4350 * time.Millisecond, "4.35"},
		{"123456", 123456 * time.Second, "123456"},
		{"1234567", 1234567 * time.Second, "1.23457e+06"},
		{"1e3", 1000 * time.Second, "1000"},
		{"0x10", 0, ""},
		{"inf", Never, "3.1536e+09"},
		{"1e300", Never, "3.1536e+09"},
		{"1e999", 0, ""},
		{"nan", 0, ""},
		{"-1", 0, ""},
		{"5s", 0, ""},
		{"", 0, ""},
	} {
		var m Main
		shown, _, err := Find("server_lifetime").set(&m, tt.text)
		if m.ServerLifetime != tt.want || shown != tt.shown || (err != nil) != (tt.shown == "") {
			t.Errorf("%q is %v, shown as %q, %v; want %v and %q", tt.text, m.ServerLifetime, shown, err, tt.want, tt.shown)
		}
	}
}

func TestTypes(t *testing.T) {
	for name, want := range map[string]string{
		"auth_query": "str", "admin_users": "list", "max_client_conn": "int", "max_packet_size": "uint", "log_stats": "bool",
		"query_timeout": "sec", "pool_mode": "session, transaction or statement",
	} {
		if got := Find(name).Type(); got != want {
			t.Errorf("%s is of type %q, want %q", name, got, want)
		}
	}
	if got := fmt.Sprint(PoolInherit, PoolTransaction, AuthSCRAM, SSLVerifyCA, HostsDisable, PoolMode(99)); got != " transaction scram-sha-256 verify-ca disable " {
		t.Errorf("names: %q", got)
	}
	if SSLPrefer.Required() || !SSLRequire.Required() || !SSLVerifyFull.Required() {
		t.Error("what sslmode requires TLS")
	}
}

func TestTrackedParameters(t *testing.T) {
	s := parse(t, "[pgbouncer]\ntrack_extra_parameters = intervalstyle, Role,role, plan_cache_mode\n")
	got := s.Main.TrackedParameters()
	if want := []string{"Role", "plan_cache_mode"}; !slices.Equal(got[len(alwaysTracked):], want) || !slices.Equal(got[:len(alwaysTracked)], alwaysTracked) {
		t.Errorf("got %v, want PgBouncer's and then %v", got, want)
	}
}

func TestEventLoops(t *testing.T) {
	for _, tt := range []struct{ loops, procs, want int }{{0, 1, 1}, {0, 2, 1}, {0, 3, 2}, {0, 16, 15}, {4, 2, 4}} {
		if got := (&Main{Loops: tt.loops}).EventLoops(tt.procs); got != tt.want {
			t.Errorf("loops=%d on %d processors: %d, want %d", tt.loops, tt.procs, got, tt.want)
		}
	}
}
