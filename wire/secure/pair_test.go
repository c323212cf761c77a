package secure

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/pgweir/pgweir/integration/certificates"
)

// patience bounds every wait of a test for something that must happen.
const patience = time.Minute

// authority signs all certificates of these tests.
var authority = sync.OnceValue(func() *certificates.Authority { return certificates.NewAuthority("authority") })

var leafPair = sync.OnceValue(func() tls.Certificate {
	return authority().Pair(certificates.Options{Name: "pooler", Hosts: []string{"pooler"}})
})

// serverConfig is a configuration for version, as the pooler's own are.
func serverConfig(version uint16) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{leafPair()}, MinVersion: version, MaxVersion: version,
		SessionTicketsDisabled: true, DynamicRecordSizingDisabled: true,
	}
}

// keyLog is told the secrets of the sessions to come, unless it is nil.
var keyLog io.Writer

func clientConfig() *tls.Config {
	return &tls.Config{RootCAs: authority().Pool, ServerName: "pooler", MinVersion: tls.VersionTLS10, KeyLogWriter: keyLog}
}

// pair returns the two ends of a session: a Stream that a Handshake has led to,
// and a client of crypto/tls over a recorder of what it sends.
func pair(tb testing.TB, version uint16) (*Stream, *far) {
	tb.Helper()
	near, peer := net.Pipe()
	tb.Cleanup(func() { near.Close(); peer.Close() })
	if err := near.SetDeadline(time.Now().Add(patience)); err != nil {
		tb.Fatal(err)
	}
	if err := peer.SetDeadline(time.Now().Add(patience)); err != nil {
		tb.Fatal(err)
	}
	woken := make(chan struct{}, 1)
	h := NewHandshake(serverConfig(version), func() { woken <- struct{}{} })
	go h.Run(NewSlots(1))
	go func() {
		buf := make([]byte, 4<<10)
		for {
			n, err := near.Read(buf)
			if err != nil {
				return
			}
			h.Feed(buf[:n])
		}
	}()
	t := &transport{blocking: peer}
	f := &far{tls.Client(t, clientConfig()), t}
	shaken := make(chan error, 1)
	go func() { shaken <- f.conn.Handshake() }()
	for {
		select {
		case <-woken:
		case <-time.After(patience):
			tb.Fatal("the handshake stands still")
		}
		out, s, err := h.Take()
		if len(out) > 0 {
			if _, err := near.Write(out); err != nil {
				tb.Fatal(err)
			}
		}
		if err != nil {
			tb.Fatal(err)
		}
		if s != nil {
			if err := <-shaken; err != nil {
				tb.Fatal(err)
			}
			t.blocking = nil
			return s, f
		}
	}
}

// far is the other end of a Stream: what it says is bytes for Open.
type far struct {
	conn *tls.Conn
	t    *transport
}

// say returns p as records.
func (f *far) say(tb testing.TB, p []byte) []byte {
	tb.Helper()
	if _, err := f.conn.Write(p); err != nil {
		tb.Fatal(err)
	}
	return f.sent()
}

// sent takes what the far end has sent.
func (f *far) sent() []byte {
	out := f.t.out
	f.t.out = nil
	return out
}

// hear returns what the records mean to the far end.
func (f *far) hear(tb testing.TB, records []byte) []byte {
	tb.Helper()
	s := &Stream{conn: f.conn, t: f.t}
	plain, reply, err := s.Open(nil, records, nil)
	if err != nil || len(reply) > 0 {
		tb.Fatalf("%d bytes of reply, %v", len(reply), err)
	}
	return plain
}

// both runs a test with each version that is on by default.
func both(t *testing.T, test func(t *testing.T, version uint16)) {
	t.Run("TLS 1.2", func(t *testing.T) { test(t, tls.VersionTLS12) })
	t.Run("TLS 1.3", func(t *testing.T) { test(t, tls.VersionTLS13) })
}

// pattern is n bytes that no two offsets below 251 have in common.
func pattern(n int) []byte {
	return bytes.Repeat([]byte("0123456789abcdefghijklmnopqrstuvwxyz"), n/36+1)[:n]
}
