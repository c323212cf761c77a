package ldap

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/pgweir/pgweir/configs"
)

// nameServer is a DNS server for the life of the test, which says of each domain
// where its LDAP servers are.
func nameServer(t *testing.T, servers map[string][]dnsmessage.SRVResource) {
	t.Helper()
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	go func() {
		b := make([]byte, 512)
		for {
			n, from, err := socket.ReadFrom(b)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(b[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			m.Response, m.Additionals = true, nil
			q := m.Questions[0]
			for _, s := range servers[strings.ToLower(q.Name.String())] {
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class}, Body: &s})
			}
			if m.Answers == nil {
				m.RCode = dnsmessage.RCodeNameError
			}
			answer, err := m.Pack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = socket.WriteTo(answer, from) // who does not wait for it any more has asked again
		}
	}()
	was := net.DefaultResolver
	t.Cleanup(func() { net.DefaultResolver = was })
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", socket.LocalAddr().String())
	}}
}

// TestLookup: without ldapserver the servers are those of the domain that
// ldapbasedn names.
func TestLookup(t *testing.T) {
	nameServer(t, map[string][]dnsmessage.SRVResource{"_ldap._tcp.example.com.": {
		{Priority: 2, Port: 389, Target: dnsmessage.MustNewName("second.example.com.")},
		{Priority: 1, Port: 3389, Target: dnsmessage.MustNewName("first.example.com.")},
	}})
	for _, tt := range []struct {
		base, err string
		want      []string
	}{
		{"ou=people,dc=example,dc=com", "", []string{"first.example.com:3389", "second.example.com:389"}},
		{"OU=people, DC=Example, DC=com", "", []string{"first.example.com:3389", "second.example.com:389"}},
		{"dc=nowhere", "_ldap._tcp.nowhere", nil},
		{"ou=people", "no dc in ldapbasedn", nil},
		{"people", "ldapbasedn: ", nil},
	} {
		got, err := lookup(t.Context(), tt.base)
		if !slices.Equal(got, tt.want) || tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%s: %q, %v", tt.base, got, err)
		}
	}
}

// TestNoPlace: a login waits for its place no longer than it may, and is not let
// in for that.
func TestNoPlace(t *testing.T) {
	for range cap(places) {
		places <- struct{}{}
	}
	defer func() {
		for range cap(places) {
			<-places
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := Check(ctx, &configs.LDAP{}, "nina", "tulip"); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
