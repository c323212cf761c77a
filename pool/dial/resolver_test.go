package dial

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
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

// fakeNameServer answers questions over UDP as answer says.
func fakeNameServer(t *testing.T, answer func(q dnsmessage.Question) []dnsmessage.Resource) (addr string) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		packet := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(packet)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(packet[:n]) != nil {
				continue
			}
			m.Response, m.RecursionAvailable = true, true
			m.Additionals = nil
			if m.Answers = answer(m.Questions[0]); m.Answers == nil {
				m.RCode = dnsmessage.RCodeNameError
			}
			other := m
			other.ID++ // a stranger's answer, which must not count
			for _, m := range []dnsmessage.Message{other, m} {
				if reply, err := m.Pack(); err == nil {
					conn.WriteTo(reply, from)
				}
			}
		}
	}()
	return conn.LocalAddr().String()
}

// TestFileResolver asks a name server of the test's own.
func TestFileResolver(t *testing.T) {
	server := fakeNameServer(t, func(q dnsmessage.Question) []dnsmessage.Resource {
		h := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}
		switch {
		case q.Name.String() == "db.example.com." && q.Type == dnsmessage.TypeA:
			return []dnsmessage.Resource{
				{Header: h, Body: &dnsmessage.AResource{A: [4]byte{10, 0, 0, 1}}},
				{Header: h, Body: &dnsmessage.AResource{A: [4]byte{10, 0, 0, 2}}},
			}
		case q.Name.String() == "db.example.com.":
			return []dnsmessage.Resource{}
		case q.Name.String() == "example.com." && q.Type == dnsmessage.TypeSOA:
			return []dnsmessage.Resource{{Header: h, Body: &dnsmessage.SOAResource{NS: q.Name, MBox: q.Name, Serial: 2026112101}}}
		}
		return nil
	})
	path := filepath.Join(t.TempDir(), "resolv.conf")
	write := func(servers ...string) {
		t.Helper()
		text := "search example.org example.com\n"
		for _, server := range servers {
			host, port, _ := net.SplitHostPort(server)
			text += fmt.Sprintf("nameserver [%s]:%s\n", host, port)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const nobody = "127.0.0.1:1"
	write(nobody)
	r, err := NewResolver(path)
	if err != nil {
		t.Fatal(err)
	}
	if addrs, err := r.Addrs(t.Context(), "db"); err == nil || missing(err) {
		t.Errorf("nobody was asked, and said %v, %v", addrs, err)
	}
	write(nobody, nobody, server) // from now on
	addrs, err := r.Addrs(t.Context(), "db")
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	if want := []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")}; !slices.Equal(addrs, want) {
		t.Errorf("got %v, want %v", addrs, want)
	}
	if got := r.(*fileResolver).read().servers; !slices.Equal(got, []string{server, nobody, nobody}) {
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
