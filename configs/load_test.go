package configs

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// fixtures copies testdata and the samples into a new folder, makes it the
// working directory, and returns the fixtures whose names end with suffix.
// Files that hold secrets get the permissions that they should have.
func fixtures(t *testing.T, suffix string) []string {
	t.Helper()
	dir := t.TempDir()
	var found []string
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, ".go") {
			return err
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		perm := fs.FileMode(0o600)
		if strings.HasSuffix(path, ".shared.txt") {
			perm = 0o644
		}
		if strings.HasSuffix(path, suffix) {
			found = append(found, path)
		}
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, src, perm); err != nil {
			return err
		}
		return os.Chmod(path, perm)
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		t.Fatalf("no fixture ends with %s", suffix)
	}
	t.Chdir(dir)
	return found
}

// wanted reads the lines "; want: LINE: TEXT" or "; want: FILE:LINE: TEXT" that
// a fixture begins with. LINE is 0 when no single line is to blame.
func wanted(t *testing.T, path string) []string {
	t.Helper()
	src, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for line := range strings.Lines(string(src)) {
		if text, ok := strings.CutPrefix(line, "; want: "); ok {
			list = append(list, strings.TrimSpace(text))
		}
	}
	return list
}

func told(path string, problems []Problem) []string {
	var list []string
	for _, p := range problems {
		text := fmt.Sprintf("%d: %s", p.Line, p.Text)
		if p.File != path && p.File != "" {
			text = p.File + ":" + text
		}
		list = append(list, text)
	}
	return list
}

func compare(t *testing.T, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got:\n\t%s\nwant:\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func TestBad(t *testing.T) {
	for _, path := range fixtures(t, ".bad.ini") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			problems := Check(path)
			compare(t, told(path, problems), wanted(t, path))
			i := slices.IndexFunc(problems, func(p Problem) bool { return p.Severity == Error })
			s, err := Load(path)
			if i < 0 || s != nil || err != problems[i] {
				t.Errorf("Load returns %v, %v; Check found %v", s, err, problems)
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	for _, path := range fixtures(t, ".warn.ini") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			s, err := Load(path)
			if err != nil {
				t.Fatal(err)
			}
			compare(t, told(path, s.Warnings), wanted(t, path))
			compare(t, told(path, Check(path)), wanted(t, path))
		})
	}
}

func TestSeverity(t *testing.T) {
	if got := fmt.Sprint(Warning, Error); got != "warning error" {
		t.Errorf("severities are called %s", got)
	}
}

func TestMissingFile(t *testing.T) {
	const want = "cannot read testdata/nothing.ini: no such file or directory"
	if _, err := Load("testdata/nothing.ini"); err == nil || err.Error() != want {
		t.Errorf("Load: %v, want %s", err, want)
	}
}

func TestSamples(t *testing.T) {
	fixtures(t, ".ini")
	for _, path := range []string{"pgbouncer.ini", "minimal.ini", "beside.ini", "central.ini", "tenants.ini"} {
		s, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range s.Warnings {
			t.Error(p)
		}
		for _, c := range s.Claims() {
			if ok, advice := c.Fits(s.Main.PlanProcesses); !ok {
				t.Errorf("%s: %s", path, advice)
			}
		}
		if secret, ok := s.Auth.Lookup("app"); !ok || secret != "change me" {
			t.Errorf("%s: the secret of app is %q, %v", path, secret, ok)
		}
	}
}

// TestSampleIsComplete holds the large sample to naming every key once, with
// its default in the commented lines, each of which must load.
func TestSampleIsComplete(t *testing.T) {
	src, err := os.ReadFile("pgbouncer.ini")
	if err != nil {
		t.Fatal(err)
	}
	_, main, _ := strings.Cut(string(src), "[pgbouncer]\n")
	seen := make(map[string]bool)
	for line := range strings.Lines(main) {
		line = strings.TrimSpace(line)
		text, commented := strings.CutPrefix(line, ";")
		if line == "" || strings.HasPrefix(text, " ") {
			continue
		}
		key, val, _ := strings.Cut(text, "=")
		key, val = strings.TrimSpace(key), strings.TrimSpace(val)
		set := Find(key)
		switch {
		case set == nil:
			t.Errorf("%q names no setting", line)
		case seen[key]:
			t.Errorf("%s comes twice", key)
		case commented && key != "tcp_defer_accept" && val != set.Default:
			t.Errorf("%q: the default is %q", line, set.Default)
		}
		seen[key] = true
	}
	for i := range Table {
		if name := Table[i].Name; !seen[name] {
			t.Errorf("%s is missing", name)
		}
	}

	// The entries that stand there as examples must load as well.
	entries, _, _ := strings.Cut(string(src), "[pgbouncer]\n")
	var text strings.Builder
	for line := range strings.Lines(entries) {
		if strings.HasPrefix(line, ";") && !strings.HasPrefix(line, "; ") && !strings.HasPrefix(line, ";\n") {
			line = line[1:]
		}
		text.WriteString(line)
	}
	s, err := Parse("sample", text.String()+"[pgbouncer]\n")
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Databases) != 4 || s.AutoDB == nil || len(s.Users) != 2 || len(s.Peers) != 2 {
		t.Errorf("%d databases, template %v, %d users, %d peers", len(s.Databases), s.AutoDB, len(s.Users), len(s.Peers))
	}
}

// TestGood reads a file that has every oddity of the dialect which PgBouncer
// takes.
func TestGood(t *testing.T) {
	path := fixtures(t, "good.ini")[0]
	s, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Warnings) != 0 {
		t.Errorf("warnings: %v", s.Warnings)
	}

	m := &s.Main
	for _, tt := range []struct{ what, got, want any }{
		{"conffile", m.ConfFile, path},
		{"listen_port", m.ListenPort, 6432},
		{"listen_backlog", m.ListenBacklog, 8},
		{"unix_socket_mode", m.UnixSocketMode, 0o770},
		{"server_lifetime", m.ServerLifetime, 500 * time.Millisecond},
		{"server_idle_timeout", m.ServerIdleTimeout, 1000 * time.Second},
		{"admin_users", fmt.Sprint(m.AdminUsers), "[root alice bob]"},
		{"auth_type", m.AuthType, AuthSCRAM},
		{"login_notify_message", m.LoginNotifyMessage, "hello ; this is no comment"},
		{"ignore_startup_parameters", len(m.IgnoreStartupParameters), 0},
		{"log_connections", m.LogConnections, true},
		{"max_packet_size", m.MaxPacketSize, uint32(1<<32 - 1)},
		{"client_login_timeout", m.ClientLoginTimeout, time.Minute},
		{"server_check_query", m.ServerCheckQuery, NoCheckQuery},
	} {
		if tt.got != tt.want {
			t.Errorf("%s is %v, want %v", tt.what, tt.got, tt.want)
		}
	}

	for _, tt := range []struct{ key, want string }{
		{"listen_port", "6432"},
		{"listen_backlog", "8"},
		{"unix_socket_mode", "504"},
		{"server_lifetime", "0.5"},
		{"server_idle_timeout", "1000"},
		{"admin_users", "root, alice ,,bob"},
		{"auth_type", "scram-sha-256"},
		{"log_connections", "2"},
		{"pool_mode", "session"},
		{"query_wait_timeout", "120"},
		{"max_packet_size", "4294967295"},
		{"loops", "0"},
	} {
		if got, null, ok := s.Value(tt.key); got != tt.want || null || !ok {
			t.Errorf("Value(%s) = %q, %v, %v; want %q", tt.key, got, null, ok, tt.want)
		}
	}
	if got, null, ok := s.Value("auth_user"); got != "" || !null || !ok {
		t.Errorf("Value(auth_user) = %q, %v, %v; want NULL", got, null, ok)
	}
	if _, _, ok := s.Value("Pool_mode"); ok {
		t.Error("names of settings are not folded")
	}

	var order []string
	for _, d := range s.Databases {
		order = append(order, d.Name)
	}
	compare(t, order, []string{"plain", "my db", "list", "sized", "who"})

	local := []string{"/tmp"}
	for _, want := range []Database{
		{Name: "plain", DBName: "plain", Hosts: local, Port: 5432, PoolSize: Inherit, MinPoolSize: Inherit, ReservePoolSize: Inherit, QueryWaitTimeout: Inherit},
		{
			Name: "my db", DBName: "it's", Host: "::1", Hosts: []string{"::1"}, Port: 6543, ConnectQuery: "SELECT 1; SELECT 2",
			PoolSize: Inherit, MinPoolSize: Inherit, ReservePoolSize: Inherit, QueryWaitTimeout: Inherit,
		},
		{
			Name: "list", DBName: "list", Host: "a.example,/run/postgresql,@abstract", Hosts: []string{"a.example", "/run/postgresql", "@abstract"}, Port: 5432,
			LoadBalanceHosts: HostsDisable, PoolSize: Inherit, MinPoolSize: Inherit, ReservePoolSize: Inherit, QueryWaitTimeout: Inherit,
		},
		{
			Name: "sized", DBName: "sized", Hosts: local, Port: 5432, PoolMode: PoolStatement, PoolSize: 0, MinPoolSize: 2, ReservePoolSize: 4,
			MaxDBConnections: 50, MaxDBClientConnections: 60, ServerLifetime: 70 * time.Second, QueryWaitTimeout: 80 * time.Second,
		},
		{
			Name: "who", DBName: "who", Hosts: local, Port: 5432, User: "u", Password: "p", PoolSize: Inherit, MinPoolSize: Inherit, ReservePoolSize: Inherit, QueryWaitTimeout: Inherit,
			ClientEncoding: "UTF8", DateStyle: "ISO", TimeZone: "GMT", ApplicationName: "pooled",
		},
	} {
		got := s.Database(want.Name)
		type shown Database // without String, which would hide the fields
		if a, b := fmt.Sprintf("%+v", shown(*got)), fmt.Sprintf("%+v", shown(want)); a != b {
			t.Errorf("database %s:\n got %s\nwant %s", want.Name, a, b)
		}
	}

	for _, want := range []User{
		{Name: "alice", PoolMode: PoolTransaction, PoolSize: 3, ReservePoolSize: Inherit, QueryWaitTimeout: 0},
		{Name: "bob the builder", PoolSize: Inherit, ReservePoolSize: Inherit, QueryWaitTimeout: Inherit},
		{
			Name: "carol", PoolSize: Inherit, ReservePoolSize: Inherit, QueryWaitTimeout: Inherit,
			QueryTimeout: 30 * time.Second, IdleTransactionTimeout: 31 * time.Second, TransactionTimeout: 32 * time.Second, ClientIdleTimeout: 33 * time.Second,
		},
		{Name: "dave", PoolSize: Inherit, ReservePoolSize: 6, QueryWaitTimeout: Inherit, MaxUserConnections: 4, MaxUserClientConnections: 5},
	} {
		if got := s.Users[want.Name]; got == nil || *got != want {
			t.Errorf("user %s:\n got %+v\nwant %+v", want.Name, got, want)
		}
	}
	if len(s.Users) != 4 {
		t.Errorf("%d users, want 4", len(s.Users))
	}
}

// TestLastOneWins repeats names, also across a line ending as Windows has it.
func TestLastOneWins(t *testing.T) {
	s := parse(t, "[databases]\r\na = host=x pool_size=1 \r\nb = host=y\r\na = host=z\r\n[users]\r\nu = pool_size=1\r\nu = pool_size=2\r\n"+
		"[pgbouncer]\r\nlogfile = one \t\r\nlogfile\t = two words \t\v\f \r\n")
	if a := s.Databases[0]; len(s.Databases) != 2 || a != s.Database("a") || a.Host != "z" || a.PoolSize != Inherit {
		t.Errorf("databases are %v, the first at %s with size %d", s.Databases, s.Databases[0].Host, s.Databases[0].PoolSize)
	}
	if got := s.Users["u"].PoolSize; got != 2 {
		t.Errorf("pool_size of u is %d", got)
	}
	if s.Main.LogFile != "two words" {
		t.Errorf("logfile is %q", s.Main.LogFile)
	}
}

func TestAuto(t *testing.T) {
	s := parse(t, "[pgbouncer]\n[databases]\n* = host=h pool_size=7\n")
	if s.Database("any") != nil || s.Database("*") != nil {
		t.Error("the template is no entry, nor does it make one by itself")
	}
	d := s.Auto("any")
	if d == nil || d.Name != "any" || d.DBName != "any" || !d.Auto || d.Host != "h" || d.PoolSize != 7 {
		t.Errorf("Auto(any) = %+v", d)
	}
	if s.Auto(Console) != nil || s.Auto(strings.Repeat("x", MaxDatabaseName+1)) != nil {
		t.Error("an entry was made for a name that can't be one")
	}
	if d := parse(t, "[pgbouncer]\n[databases]\n* = dbname=one\n").Auto("any"); d.Name != "any" || d.DBName != "one" {
		t.Errorf("a template with dbname=one made %s at %s", d.Name, d.DBName)
	}
	if parse(t, "[pgbouncer]\n").Auto("any") != nil {
		t.Error("an entry was made without a template")
	}
}

func TestOpenFiles(t *testing.T) {
	for _, tt := range []struct {
		files uint64
		warns bool
	}{{172, false}, {171, true}} {
		l := newLoader("x.ini", nil)
		l.ini().text("x.ini", "[pgbouncer]\n[databases]\na = host=x\nb = host=x max_db_connections=5\nc = host=x pool_size=15\n")
		l.checkLimits(&l.snap.Main, tt.files)
		if warned := len(l.problems) == 1 && strings.Contains(l.problems[0].Text, "100 clients and 40 servers need about 172 open files"); warned != tt.warns {
			t.Errorf("with %d open files: %v", tt.files, l.problems)
		}
	}
}

// TestSecretsStayInside prints what holds passwords in every way.
func TestSecretsStayInside(t *testing.T) {
	s := parse(t, "[pgbouncer]\n[databases]\nd = user=u password=hunter2\n* = user=u password=hunter2\n")
	s.Auth, _ = ParseUserlist("users.txt", `"u" "hunter2"`)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		for _, what := range []any{s.Databases, s.Database("d"), s.AutoDB, s.Auth} {
			if text := fmt.Sprintf(verb, what); strings.Contains(text, "hunter2") {
				t.Errorf("%s of %T shows the password: %s", verb, what, text)
			}
		}
	}
}

// parse is Parse for a text that must load.
func parse(t *testing.T, text string) *Snapshot {
	t.Helper()
	s, err := Parse("test.ini", text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
