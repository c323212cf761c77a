package dial

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/integration/certificates"
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

// TestCancelEncrypted has a cancel request go to servers that speak TLS. The
// certificate is held against the name of the host, not against the address.
func TestCancelEncrypted(t *testing.T) {
	ca := certificates.NewAuthority("authority")
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, ca.PEM, 0o600); err != nil {
		t.Fatal(err)
	}
	snap, err := configs.Parse("pgweir.ini", "[databases]\n* = host=db\n[pgbouncer]\nserver_tls_sslmode = verify-full\nserver_tls_ca_file = "+file)
	if err != nil {
		t.Fatal(err)
	}
	server := &tls.Config{Certificates: []tls.Certificate{ca.Pair(certificates.Options{Name: "db"})}}
	key := []byte("12345678")
	request := append([]byte("\x00\x00\x00\x10\x04\xd2\x16\x2e"), key...)
	for _, test := range []struct {
		name   string
		send   bool
		got    []byte // by the server
		failed bool
	}{
		{"db", true, request, false},
		{"db", false, nil, false},
		{"another", true, nil, true},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan []byte, 1)
		go func() {
			conn, err := l.Accept()
			if err != nil {
				got <- fmt.Append(nil, err)
				return
			}
			defer conn.Close()
			_, _ = io.ReadFull(conn, make([]byte, 8))
			_, _ = conn.Write([]byte("S"))
			session := tls.Server(conn, server)
			p := make([]byte, len(request))
			n, _ := io.ReadFull(session, p)
			got <- p[:n]
		}()
		r := Request{Hosts: []string{test.name}, Port: l.Addr().(*net.TCPAddr).Port, TLS: certs.ForServers(&snap.Main)}
		asked := false
		err = Cancel(t.Context(), r, "127.0.0.1", key, func() bool { asked = true; return test.send })
		if b := <-got; !bytes.Equal(b, test.got) || (err != nil) != test.failed || asked == test.failed {
			t.Errorf("%s, %v: the server got %q, %v, asked %v", test.name, test.send, b, err, asked)
		}
		l.Close()
	}
}
