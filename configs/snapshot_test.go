package configs

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// dump writes everything that a Snapshot holds.
func dump(s *Snapshot) string {
	type db Database // without String, which would hide the fields
	var b strings.Builder
	fmt.Fprintf(&b, "%s %+v %v %v\n", s.Path, s.Main, s.values, s.Warnings)
	for _, d := range append(slices.Clone(s.Databases), s.AutoDB) {
		if d != nil {
			fmt.Fprintf(&b, "%+v %v\n", db(*d), s.byName[d.Name] == d)
		}
	}
	for _, u := range s.Users {
		fmt.Fprintf(&b, "%+v\n", *u)
	}
	for _, p := range s.Peers {
		fmt.Fprintf(&b, "%+v\n", *p)
	}
	if s.Auth != nil {
		fmt.Fprintln(&b, s.Auth.secrets)
	}
	return b.String()
}

func TestWith(t *testing.T) {
	s := parse(t, "[pgbouncer]\nadmin_users = a, b\nserver_lifetime = 7\n[databases]\nd = host=x\n* =\n[users]\nu = pool_size=1\n")
	before := dump(s)
	next := s
	for _, tt := range []struct{ key, val, shown string }{
		{"default_pool_size", "0x10", "16"},
		{"default_pool_size", "-3", "-3"},
		{"server_lifetime", "0.5", "0.5"},
		{"pool_mode", "TRANSACTION", "transaction"},
		{"admin_users", "c", "c"},
		{"auth_user", "postgres", "postgres"},
		{"auth_user", "", ""},
		{"conffile", "other.ini", "other.ini"},
		{"verbose", "2", "2"},
		{"listen_port", "1", "6432"},
		{"listen_port", "nonsense", "6432"},
	} {
		after, err := next.With(tt.key, tt.val)
		if err != nil {
			t.Errorf("SET %s=%s: %v", tt.key, tt.val, err)
			continue
		}
		if got, null, ok := after.Value(tt.key); got != tt.shown || null || !ok {
			t.Errorf("SET %s=%s: shows %q, %v, %v, want %q", tt.key, tt.val, got, null, ok, tt.shown)
		}
		next = after
	}
	if got := next.Main; got.ServerLifetime != 500*time.Millisecond || got.DefaultPoolSize != 0 || got.PoolMode != PoolTransaction || fmt.Sprint(got.AdminUsers) != "[c]" || got.ConfFile != "other.ini" {
		t.Errorf("after all: %+v", got)
	}
	if next.Database("d") != s.Database("d") || next.AutoDB != s.AutoDB {
		t.Error("entries changed with a setting")
	}
	if after := dump(s); after != before {
		t.Errorf("the old Snapshot changed:\n%s\n%s", before, after)
	}

	for _, tt := range []struct{ key, val, want string }{
		{"pool_size", "1", "unknown parameter: pgbouncer/pool_size"},
		{"default_pool_size", "ten", `default_pool_size: invalid value "ten": must be a whole number, without a unit`},
		{"auth_dbname", Console, `auth_dbname: cannot use the reserved "pgbouncer" database as an auth_dbname`},
	} {
		after, err := s.With(tt.key, tt.val)
		if after != nil || err == nil || err.Error() != tt.want {
			t.Errorf("SET %s=%s: %v, want %s", tt.key, tt.val, err, tt.want)
		}
	}
}

// rewrite gives the files of a configuration their content.
func rewrite(t *testing.T, files map[string]string) {
	t.Helper()
	for name, text := range files {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReload(t *testing.T) {
	t.Chdir(t.TempDir())
	rewrite(t, map[string]string{
		"a.ini": `[databases]
forced = user=u password=p host=x
gone = host=x
[users]
u = pool_size=3
[pgbouncer]
listen_port = 7000
unix_socket_dir = /run/pooler
default_pool_size = 5
server_lifetime = 60
auth_file = users.txt
`,
		"users.txt": "\"u\" \"one\"\n",
	})
	s, err := Load("a.ini")
	if err != nil {
		t.Fatal(err)
	}
	s, err = s.Override("user", "nobody")
	if err != nil {
		t.Fatal(err)
	}
	s, err = s.Override("verbose", "1")
	if err != nil {
		t.Fatal(err)
	}
	s, err = s.With("default_pool_size", "9")
	if err != nil {
		t.Fatal(err)
	}
	before := dump(s)

	rewrite(t, map[string]string{
		"a.ini": `[databases]
forced = host=x
new =
[pgbouncer]
listen_port = 7001
unix_socket_dir = /elsewhere
pool_mode = transaction
auth_file = users.txt
`,
		"users.txt": "\"u\" \"two\"\n\"v\" \"three\"\n",
	})
	next, err := s.Reload()
	if err != nil {
		t.Fatal(err)
	}
	compare(t, told("a.ini", next.Warnings), []string{
		"5: listen_port stays as it was: it takes effect only at start",
		"6: unix_socket_dir stays as it was: it takes effect only at start",
		"2: database forced: losing forced user not supported, keeping old setting",
	})
	for _, tt := range []struct{ what, got, want any }{
		{"listen_port", next.Main.ListenPort, 7000},
		{"user, from the command line", next.Main.User, "nobody"},
		{"verbose, from the command line", next.Main.Verbose, 1},
		{"default_pool_size, no longer in the file", next.Main.DefaultPoolSize, 20},
		{"server_lifetime, no longer in the file", next.Main.ServerLifetime, time.Hour},
		{"pool_mode, new in the file", next.Main.PoolMode, PoolTransaction},
		{"the host of an entry without one", fmt.Sprint(next.Database("new").Hosts), "[/run/pooler]"},
		{"the forced user", next.Database("forced").User + " " + next.Database("forced").Password, "u p"},
		{"entries that are gone", next.Database("gone"), (*Database)(nil)},
		{"users that are gone", next.Users["u"], (*User)(nil)},
		{"users of the auth_file", next.Auth.Len(), 2},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %v, want %v", tt.what, tt.got, tt.want)
		}
	}
	if after := dump(s); after != before {
		t.Errorf("the old Snapshot changed:\n%s\n%s", before, after)
	}

	// A file that sets verbose wins over the command line.
	rewrite(t, map[string]string{"a.ini": "[pgbouncer]\nverbose = 0\n"})
	if next, err = s.Reload(); err != nil || next.Main.Verbose != 0 || next.Auth != nil {
		t.Errorf("verbose = 0: %v, %+v", err, next)
	}
}

func TestReloadFails(t *testing.T) {
	t.Chdir(t.TempDir())
	files := map[string]string{
		"a.ini":     "[pgbouncer]\nauth_file = users.txt\n[databases]\nd = host=x\n",
		"users.txt": "\"u\" \"one\"\n\"v\" \"two\"\n",
	}
	rewrite(t, files)
	s, err := Load("a.ini")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, text, want string }{
		{"a.ini", "[pgbouncer]\npool_mod = session\n", "a.ini:2: unknown parameter: pgbouncer/pool_mod"},
		{"users.txt", "\"u\" \"one\"\n\n\"v two\n", "users.txt:3: broken auth file: the user name has no closing quote"},
	} {
		rewrite(t, map[string]string{tt.name: tt.text})
		if next, err := s.Reload(); next != nil || err == nil || err.Error() != tt.want {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
		rewrite(t, files)
	}

	// An auth_file that is missing for a moment locks nobody out.
	if err := os.Remove("users.txt"); err != nil {
		t.Fatal(err)
	}
	next, err := s.Reload()
	if err != nil {
		t.Fatal(err)
	}
	if next.Auth.Len() != 2 {
		t.Errorf("the users are %v", next.Auth)
	}
	compare(t, told("a.ini", next.Warnings), []string{"2: auth_file: cannot read users.txt: no such file or directory; the users known so far are kept"})

	// conffile says which file is next.
	rewrite(t, map[string]string{"b.ini": "[pgbouncer]\ndefault_pool_size = 3\n"})
	if s, err = s.With("conffile", "b.ini"); err != nil {
		t.Fatal(err)
	}
	if next, err = s.Reload(); err != nil || next.Main.DefaultPoolSize != 3 || next.Path != "b.ini" {
		t.Errorf("after SET conffile: %v, %+v", err, next)
	}
}

// TestWithRules: SET reads the files with rules when they come into force, and
// fails for what is wrong in them.
func TestWithRules(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := file("good.conf", "local all all trust\n")
	mapped := file("mapped.conf", "local all all peer map=m\n")
	broken := file("broken.conf", "local all all trust\nlocal all\n")
	ident := file("ident.conf", "m one another\n")
	start := parse(t, "[pgbouncer]\nauth_type = md5\n[databases]\nd = host=x\n")
	for _, tt := range []struct {
		sets  []string // key and value, one after the other
		rules int
		want  string // the error of the last one
	}{
		{[]string{"auth_type", "hba"}, 0, "auth_type: hba needs auth_hba_file"},
		{[]string{"auth_hba_file", good, "auth_type", "hba"}, 1, ""},
		{[]string{"auth_hba_file", mapped, "auth_type", "hba"}, 0, `could not parse hba config line 1: there is no map "m" in auth_ident_file`},
		{[]string{"auth_hba_file", mapped, "auth_ident_file", ident, "auth_type", "hba"}, 1, ""},
		{[]string{"auth_hba_file", good, "auth_type", "hba", "auth_hba_file", broken}, 0, broken + ":2: could not parse hba config line 2"},
		{[]string{"auth_hba_file", dir + "/missing", "auth_type", "hba"}, 0, "auth_hba_file: cannot read " + dir + "/missing"},
		{[]string{"auth_ldap_options", "ldapserver=h"}, 0, "auth_ldap_options: "},
	} {
		s, err := start, error(nil)
		for i := 0; i < len(tt.sets) && err == nil; i += 2 {
			if next, failed := s.With(tt.sets[i], tt.sets[i+1]); failed != nil {
				err = failed
			} else {
				s = next
			}
		}
		if tt.want == "" && (err != nil || s.HBA == nil || len(s.HBA.Rules) != tt.rules) || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%q: %v, want %q", tt.sets, err, tt.want)
		}
	}
}
