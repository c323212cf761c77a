package dial

import (
	"io"
	"net"
	"testing"

	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool/certs"
)

// TestSSLAnswers has a server answer the SSLRequest in all the ways that lead
// to no handshake.
func TestSSLAnswers(t *testing.T) {
	for _, test := range []struct {
		mode   string
		answer string
		kind   Kind // 0: goes on in clear
		reason string
	}{
		{"allow", "N", 0, ""},
		{"prefer", "N", 0, ""},
		{"require", "N", TLSFailed, "server refused SSL"},
		{"verify-ca", "N", TLSFailed, "server refused SSL"},
		{"verify-full", "N", TLSFailed, "server refused SSL"},
		{"prefer", "E", Protocol, "bad sslreq answer"},
		{"prefer", "NR", Protocol, "received unencrypted data after SSL response"},
		{"require", "SR", Protocol, "received unencrypted data after SSL response"},
		{"prefer", "", ServerCrashed, "server conn crashed?"},
	} {
		snap, err := configs.Parse("pgweir.ini", "[databases]\n* = host=db\n[pgbouncer]\nserver_tls_sslmode = "+test.mode)
		if err != nil {
			t.Fatal(err)
		}
		r := Request{TLS: certs.ForServers(&snap.Main)}
		near, far := net.Pipe()
		asked := make(chan string, 1)
		go func() {
			request := make([]byte, 8)
			_, _ = io.ReadFull(far, request)
			asked <- string(request)
			_, _ = io.WriteString(far, test.answer)
			_ = far.Close()
		}()
		session, failed := r.encrypt(near, "db")
		near.Close()
		if got := <-asked; got != "\x00\x00\x00\x08\x04\xd2\x16\x2f" {
			t.Errorf("%s: asked %q", test.mode, got)
		}
		switch {
		case session != nil:
			t.Errorf("%s, %q: a session", test.mode, test.answer)
		case test.kind == 0 && failed != nil:
			t.Errorf("%s, %q: %v", test.mode, test.answer, failed)
		case test.kind != 0 && (failed == nil || failed.Kind != test.kind || failed.Reason != test.reason):
			t.Errorf("%s, %q: %v, want %v", test.mode, test.answer, failed, test.reason)
		}
	}
}

// TestNoSSLRequest stays in clear without asking.
func TestNoSSLRequest(t *testing.T) {
	snap, err := configs.Parse("pgweir.ini", "[databases]\n* = host=db\n[pgbouncer]\nserver_tls_sslmode = verify-full")
	if err != nil {
		t.Fatal(err)
	}
	for host, r := range map[string]Request{"db": {}, "/run": {TLS: certs.ForServers(&snap.Main)}} {
		if session, failed := r.encrypt(nil, host); session != nil || failed != nil { // a nil Conn can't be asked
			t.Errorf("%s: %v, %v", host, session, failed)
		}
	}
}
