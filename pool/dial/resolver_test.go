package dial

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pgweir/pgweir/integration/nameserver"
)

func TestResolvConf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	text := "# comment\nnameserver 10.0.0.1 ; ours\nnameserver ::1\nnameserver [10.0.0.2]:5353\nnameserver [::1]:5353\nnameserver name\nnameserver [10.0.0.2]:domain\ndomain old\nsearch a.example b.example.\noptions rotate ndots:2 ndots:x\nsortlist 1\nnameserver\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := readResolvConf(path)
	if err != nil {
		t.Fatal(err)
	}
	want := resolvConf{servers: []string{"10.0.0.1:53", "[::1]:53", "10.0.0.2:5353", "[::1]:5353"}, search: []string{"a.example", "b.example."}, ndots: 2}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got %+v, want %+v", c, want)
	}
	for host, want := range map[string]string{
		"db":    "db.a.example. db.b.example. db.",
		"a.b.c": "a.b.c. a.b.c.a.example. a.b.c.b.example.",
		"full.": "full.",
	} {
		if got := strings.Join(c.candidates(host), " "); got != want {
			t.Errorf("%s: got %s, want %s", host, got, want)
		}
	}
	if _, err := NewResolver(filepath.Join(t.TempDir(), "none")); err == nil || !strings.Contains(err.Error(), "resolv_conf") {
		t.Error(err)
	}
	if _, err := NewResolver(os.DevNull); err == nil || !strings.Contains(err.Error(), "names no nameserver") {
		t.Error(err)
	}
}

// TestFileResolver asks a name server of the test's own.
func TestFileResolver(t *testing.T) {
	server, err := nameserver.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	server.Set("db.example.com", "10.0.0.1", "10.0.0.2", "2001:db8::1")
	server.SetSerial("example.com", 2026112101)
	path := filepath.Join(t.TempDir(), "resolv.conf")
	write := func(servers ...string) {
		t.Helper()
		text := "search example.org example.com\n" + strings.Join(servers, "")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const nobody = "nameserver [127.0.0.1]:1\n"
	write(nobody)
	r, err := NewResolver(path)
	if err != nil {
		t.Fatal(err)
	}
	if addrs, err := r.Addrs(t.Context(), "db"); err == nil || missing(err) {
		t.Errorf("nobody was asked, and said %v, %v", addrs, err)
	}
	write(nobody, nobody, server.ResolvConf()) // from now on
	addrs, err := r.Addrs(t.Context(), "db")
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	if got := fmt.Sprint(addrs); got != "[10.0.0.1 10.0.0.2 2001:db8::1]" {
		t.Errorf("got %v", got)
	}
	if got := r.(*fileResolver).read().servers; len(got) != 3 || got[0] == got[1] || got[1] != "127.0.0.1:1" || got[2] != got[1] {
		t.Errorf("the next question goes to %v", got)
	}
	if err := os.Remove(path); err != nil { // what it said counts on
		t.Fatal(err)
	}
	if _, err := r.Addrs(t.Context(), "none.such"); !missing(err) {
		t.Error(err)
	}
	if n, err := r.Serial(t.Context(), "example.com"); err != nil || n != 2026112101 {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := r.Serial(t.Context(), "example.net"); err == nil {
		t.Error("a serial number of a zone that is not there")
	}
}
