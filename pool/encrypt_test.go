package pool_test

import (
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"github.com/pgweir/pgweir/integration/certificates"
	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/wire"
	"github.com/pgweir/pgweir/wire/secure"
)

// withTLS makes a world whose clients get TLS. Handshakes are chores, which
// wait until the test runs them.
func withTLS(t *testing.T, main string) *world {
	t.Helper()
	pair := certificates.NewAuthority("authority").Pair(certificates.Options{Name: "pooler"})
	config := &tls.Config{Certificates: []tls.Certificate{pair}}
	w := newWorldWith(t, "auth_type = trust\nclient_tls_sslmode = allow\n"+main, "", func(o *pool.Options) {
		o.ClientTLS = func() *tls.Config { return config }
	})
	w.slow = true
	return w
}

// TestHandshakes has clients begin a handshake in ways that come to no good,
// with an SSLRequest or without. What is wrong is in the log, and no message in
// clear is put among the handshake's.
func TestHandshakes(t *testing.T) {
	const hello = "\x16\x03\x01\x00\x05"
	request := string(wire.AppendSSLRequest(nil))
	for _, test := range []struct {
		name    string
		after   string // what the client sends
		working bool   // the chore runs before time passes
		log     string
	}{
		{"silent", "", false, "client_login_timeout"},
		{"half", hello, false, "client_login_timeout"},
		{"too much", hello + strings.Repeat("x", secure.MaxFed), false, "TLS handshake failed: the client sends too much"},
		{"nonsense", hello + "nonsense", true, "TLS handshake failed: tls: "},
	} {
		for _, direct := range []bool{false, true} {
			if direct && test.after == "" {
				continue
			}
			w := withTLS(t, "client_login_timeout = 10")
			c := w.connect()
			want := ""
			if !direct {
				c.send([]byte(request))
				want = "S"
			}
			c.send([]byte(test.after))
			if test.working {
				w.work()
				want += "\x15" // an alert
			}
			w.pass(11 * time.Second)
			w.work() // ends at once, for nobody waits any more
			if !c.closed || !strings.HasPrefix(string(c.out), want) || !test.working && len(c.out) != len(want) {
				t.Errorf("%s, direct %v: closed %v, told %q, want %q", test.name, direct, c.closed, c.out, want)
			}
			if !w.log.has("closing because: " + test.log) {
				t.Errorf("%s, direct %v: the log is %q, want %q", test.name, direct, w.log, test.log)
			}
		}
	}
}

// TestNoTLS has clients ask where there is none: over a unix socket, or because
// the settings don't give any.
func TestNoTLS(t *testing.T) {
	w := withTLS(t, "")
	c := w.connectFrom(unix(1000)).send(wire.AppendSSLRequest(nil))
	if string(c.out) != "N" {
		t.Errorf("over a unix socket: %q", c.out)
	}
	w = newWorld(t, "auth_type = trust", "")
	c = w.connect().send(wire.AppendSSLRequest(nil))
	if string(c.out) != "N" {
		t.Errorf("without TLS: %q", c.out)
	}
	w.connect().send([]byte("\x16\x03\x01\x00\x05hello")).wantError("bad packet header: '160301000568656c'")
}
