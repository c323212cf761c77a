package configs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// parseHBA reads text as an HBA file beside two files that it may name.
func parseHBA(text string) (*HBA, []Problem) {
	files := map[string]string{"/etc/names": "a, b\n# c\n\"d e\" @more", "/etc/more": "f", "/etc/loop": "@loop"}
	read := func(path string) ([]byte, error) {
		src, ok := files[path]
		if !ok {
			return nil, errors.New("cannot read " + path)
		}
		return []byte(src), nil
	}
	ident, _ := ParseIdent("ident", "m root app\nm root all\n\"x y\" u v")
	return ParseHBA("/etc/hba", text, ident, read)
}

func (n HBANames) text() string {
	return strings.TrimSpace(fmt.Sprintf("all=%v same=%v repl=%v %q", n.All, n.SameUser, n.Replication, n.Names))
}

func TestHBALines(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{"local all all trust", "local all=true same=false repl=false [] all=true same=false repl=false [] any=false invalid Prefix trust"},
		{"host db1,db2 , db3 all 10.0.0.0/8 md5 # all", `host all=false same=false repl=false ["db1" "db2" "db3"] all=true same=false repl=false [] any=false 10.0.0.0/8 md5`},
		{`host "all" "+u" 10.1.2.0 255.255.255.0 password`, `host all=false same=false repl=false ["all"] all=false same=false repl=false ["+u"] any=false 10.1.2.0/24 plain`},
		{"hostssl sameuser,replication @names all scram-sha-256", `hostssl all=false same=true repl=true [] all=false same=false repl=false ["a" "b" "d e" "f"] any=true invalid Prefix scram-sha-256`},
		{"hostnossl all all ::1/128 reject", "hostnossl all=true same=false repl=false [] all=true same=false repl=false [] any=false ::1/128 "},
		{"host all all fe80:: ffff:: trust", "host all=true same=false repl=false [] all=true same=false repl=false [] any=false fe80::/16 trust"},
		{"local all all peer map=m", "local all=true same=false repl=false [] all=true same=false repl=false [] any=false invalid Prefix  m"},
		{`local all all peer map="x y"`, "local all=true same=false repl=false [] all=true same=false repl=false [] any=false invalid Prefix  x y"},
		{`host all all all ldap ldapserver="a b" ldapport=1 ldapprefix="cn="`, `host all=true same=false repl=false [] all=true same=false repl=false [] any=true invalid Prefix ldap ["a" "b"] 1 cn=`},
	} {
		h, problems := parseHBA("\n" + tt.line + "\n")
		if len(problems) > 0 || len(h.Rules) != 1 {
			t.Errorf("%s: %v", tt.line, problems)
			continue
		}
		r := h.Rules[0]
		got := fmt.Sprintf("%v %s %s any=%v %v %v", r.Conn, r.Databases.text(), r.Users.text(), r.AnyAddress, r.Network, r.Method)
		if r.Map != nil {
			got += " " + r.Map.Name
		}
		if o := r.LDAP; o != nil {
			got += fmt.Sprintf(" %q %d %s", o.Servers, o.Port, o.Prefix)
		}
		if got != tt.want || r.Line != 2 {
			t.Errorf("%s:\n got %s\nwant %s", tt.line, got, tt.want)
		}
	}
}

func TestHBABadLines(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{"Local all all trust", `unknown type "Local": must be local, host, hostssl or hostnossl`},
		{"hostgssenc all all all trust", `unknown type "hostgssenc"`},
		{"local all", "the user is missing"},
		{"local all all", "the method is missing"},
		{"host all all trust", `"trust" is no IP address`},
		{"host all all 10.0.0.0 trust", `"trust" is no mask`},
		{"host all all 10.0.0.0 255.0.255.0 trust", "ones behind zeros"},
		{"host all all 10.0.0.0 ffff:: trust", "is no mask for"},
		{"host all all 10.0.0.0/33 trust", "/33 is no length"},
		{"host all all samenet trust", "samehost and samenet are not supported"},
		{"host all all example.com trust", "is no IP address"},
		{"local samerole all trust", "roles and groups are not supported"},
		{"local all +admins trust", "roles and groups are not supported"},
		{"local all @none trust", "cannot read /etc/none"},
		{"local all @loop trust", "more than 10 files name each other"},
		{"local all all ident", `method "ident" is not supported`},
		{"local all all ldap", "ldapprefix, ldapsuffix or ldapbasedn must say who a user is"},
		{"local all all pam", `method "pam" is not supported`},
		{"local all all peer map=none", `there is no map "none"`},
		{"local all all trust map=m", `option "map" is not supported`},
		{"local all all md5 ldapbindpasswd=secret", `option "ldapbindpasswd" is not supported`},
		{"local all all ldapbindpasswd=secret ldap", `method "ldapbindpasswd" is not supported`},
		{"host all all ldapbindpasswd=secret ldap", `"ldapbindpasswd" is no IP address`},
		{`local "all all trust`, "a quote is not closed"},
		{", all all trust", "it begins with a comma"},
		{"local all \x00 trust", "a zero byte"},
	} {
		h, problems := parseHBA("local all before trust\n" + tt.line + "\nlocal all after reject")
		if len(h.Rules) != 2 || len(problems) != 1 || problems[0].Line != 2 || problems[0].Severity != Warning ||
			!strings.HasPrefix(problems[0].Text, "could not parse hba config line 2: ") || !strings.Contains(problems[0].Text, tt.want) ||
			strings.Contains(problems[0].Text, "secret") {
			t.Errorf("%q: %d rules, %v, want %s", tt.line, len(h.Rules), problems, tt.want)
		}
	}
	for line, want := range map[string]string{
		"host all all all peer":             "peer lets in nobody but over unix sockets",
		"hostnossl all all all passthrough": "passthrough lets in nobody but over TLS",
	} {
		h, problems := parseHBA(line)
		if len(h.Rules) != 1 || len(problems) != 1 || !strings.Contains(problems[0].Text, want) {
			t.Errorf("%s: %d rules, %v", line, len(h.Rules), problems)
		}
	}
	h, problems := parseHBA("host all all 10.0.0.1/8 trust")
	if len(h.Rules) != 1 || len(problems) != 1 || !strings.Contains(problems[0].Text, "matches no address; 10.0.0.0/8 would") {
		t.Errorf("bits behind the mask: %v", problems)
	}
	_, problems = ParseIdent("ident", "a b\na /x u\na b +u\na b c d\na b,c d\n# a")
	if len(problems) != 5 {
		t.Errorf("ident: %v", problems)
	}
}

// TestHBAReload: at start a broken line is left out, later it changes nothing.
func TestHBAReload(t *testing.T) {
	dir := t.TempDir()
	hba := filepath.Join(dir, "hba")
	ini := filepath.Join(dir, "ini")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(ini, "[pgbouncer]\nauth_type = hba\nauth_hba_file = "+hba+"\n[databases]\nd = host=x\n")
	s, err := Load(ini)
	if err != nil || s.HBA != nil {
		t.Fatalf("no file: %v, %v", s, err)
	}
	write(hba, "local all all trust\nlocal all all what\n")
	if s, err = Load(ini); err != nil || len(s.HBA.Rules) != 1 {
		t.Fatalf("a broken line: %v, %v", s, err)
	}
	if _, err = s.Reload(); err == nil || !strings.HasPrefix(err.Error(), hba+":2: could not parse hba config line 2") {
		t.Errorf("RELOAD with a broken line: %v", err)
	}
	write(hba, "local all all trust\nlocal all all reject\n")
	if s, err = s.Reload(); err != nil || len(s.HBA.Rules) != 2 {
		t.Fatalf("RELOAD: %v, %v", s, err)
	}
	if err := os.Remove(hba); err != nil {
		t.Fatal(err)
	}
	if _, err = s.Reload(); err == nil || !strings.HasPrefix(err.Error(), ini+":3: auth_hba_file: cannot read") {
		t.Errorf("RELOAD without the file: %v", err)
	}
}

// TestHBACert warns of rules that let nobody in.
func TestHBACert(t *testing.T) {
	dir := t.TempDir()
	hba, ini := filepath.Join(dir, "hba"), filepath.Join(dir, "ini")
	if err := os.WriteFile(hba, []byte("local all all trust\nhostssl all all all cert\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for settings, vain := range map[string]bool{
		"":                                 true,
		"client_tls_ca_file = ca\n":        true,
		"client_tls_sslmode = require\n":   true,
		"client_tls_sslmode = verify-ca\n": false,
		"client_tls_sslmode = allow\nclient_tls_ca_file = ca\n": false,
	} {
		text := "[pgbouncer]\nlisten_addr = 127.0.0.1\nauth_type = hba\nauth_hba_file = " + hba + "\n" + settings + "[databases]\nd = host=x\n"
		if err := os.WriteFile(ini, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Load(ini)
		if err != nil {
			t.Fatal(err)
		}
		told := slices.ContainsFunc(s.Warnings, func(p Problem) bool {
			return p.File == hba && p.Line == 2 && strings.HasPrefix(p.Text, "cert: nobody is asked")
		})
		if told != vain {
			t.Errorf("%q: warned %v, want %v: %v", settings, told, vain, s.Warnings)
		}
	}
}

func FuzzHBA(f *testing.F) {
	f.Add("local all all trust\nhost a,\"b\" @names 10.0.0.0 255.0.0.0 ldap x=\"y\"")
	f.Fuzz(func(t *testing.T, text string) {
		h, problems := parseHBA(text)
		lines := strings.Count(text, "\n") + 1
		if len(h.Rules) > lines {
			t.Errorf("%d rules in %d lines", len(h.Rules), lines)
		}
		for _, p := range problems {
			if p.Line < 1 || p.Line > lines {
				t.Errorf("%v: there are %d lines", p, lines)
			}
		}
	})
}
