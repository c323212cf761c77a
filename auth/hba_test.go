package auth

import (
	"net/netip"
	"os"
	"os/user"
	"testing"

	"github.com/pgweir/pgweir/configs"
)

func TestRule(t *testing.T) {
	h, problems := configs.ParseHBA("hba", `
local app,sameuser ann,bob trust
host all mallory all reject
host all all 10.0.0.1/8 trust
hostssl all all 192.0.2.0/24 md5
hostnossl all all 192.0.2.0/24 reject
host replication all ::1/128 scram-sha-256
host app all 198.51.100.7/32 password
host all all fe80::/10 reject
`, nil, os.ReadFile)
	if len(problems) != 1 { // 10.0.0.1/8
		t.Fatal(problems)
	}
	ip := netip.MustParseAddr
	for _, tt := range []struct {
		a    Arrival
		line int // 0: none
	}{
		{Arrival{Local: true, Database: "app", User: "ann"}, 2},
		{Arrival{Local: true, Database: "bob", User: "bob"}, 2},
		{Arrival{Local: true, Database: "ann", User: "bob"}, 0},
		{Arrival{Local: true, Database: "app", User: "cyd"}, 0},
		{Arrival{Addr: ip("203.0.113.1"), Database: "app", User: "mallory"}, 3},
		{Arrival{Addr: ip("10.0.0.1"), Database: "app", User: "ann"}, 0},
		{Arrival{Addr: ip("10.0.0.9"), Database: "app", User: "ann"}, 0},
		{Arrival{Addr: ip("192.0.2.9"), TLS: true, Database: "x", User: "ann"}, 5},
		{Arrival{Addr: ip("192.0.2.9"), Database: "x", User: "ann"}, 6},
		{Arrival{Addr: ip("::ffff:192.0.2.9"), Database: "x", User: "ann"}, 6},
		{Arrival{Addr: ip("::1"), Database: "x", User: "ann"}, 0},
		{Arrival{Addr: ip("::1"), Database: "x", User: "ann", Replication: true}, 7},
		{Arrival{Addr: ip("192.0.2.9"), Database: "x", User: "ann", Replication: true}, 0},
		{Arrival{Addr: ip("198.51.100.7"), Database: "app", User: "ann"}, 8},
		{Arrival{Addr: ip("198.51.100.8"), Database: "app", User: "ann"}, 0},
		{Arrival{Addr: ip("fe80::1"), Database: "app", User: "ann"}, 9},
		{Arrival{Addr: ip("fe80::1%eth0"), Database: "app", User: "ann"}, 9},
		{Arrival{Database: "app", User: "ann"}, 0},
	} {
		line := 0
		if r := Rule(h, tt.a); r != nil {
			line = r.Line
		}
		if line != tt.line {
			t.Errorf("%+v: line %d, want %d", tt.a, line, tt.line)
		}
	}
	if Rule(nil, Arrival{Local: true}) != nil {
		t.Error("no rules, and one matches")
	}
}

func TestMayBe(t *testing.T) {
	ident, _ := configs.ParseIdent("ident", "m root app\nm www app2\nfree root all\nquoted root \"all\"")
	for _, tt := range []struct {
		m, system, user string
		want            bool
	}{
		{"", "app", "app", true},
		{"", "app", "other", false},
		{"", "", "", false},
		{"m", "root", "app", true},
		{"m", "root", "app2", false},
		{"m", "app", "app", false},
		{"m", "", "app", false},
		{"free", "root", "anybody", true},
		{"free", "www", "www", false},
		{"quoted", "root", "all", true},
		{"quoted", "root", "app", false},
	} {
		if got := MayBe(ident.Maps[tt.m], tt.system, tt.user); got != tt.want {
			t.Errorf("map %q: %q as %q: %v", tt.m, tt.system, tt.user, got)
		}
	}
}

func TestSystemUser(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Skip("this user has no name: ", err)
	}
	if got := SystemUser(os.Getuid()); got != me.Username {
		t.Errorf("%q, want %q", got, me.Username)
	}
	if got := SystemUser(-1); got != "" {
		t.Errorf("nobody is %q", got)
	}
}
