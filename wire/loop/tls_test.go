package loop

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/pgweir/pgweir/integration/certificates"
	"github.com/pgweir/pgweir/wire"
	"github.com/pgweir/pgweir/wire/secure"
)

var certificate = sync.OnceValue(func() tls.Certificate {
	return certificates.NewAuthority("authority").Pair(certificates.Options{Name: "peer"})
})

// gate is a connection that can keep what is written.
type gate struct {
	net.Conn
	closed bool
	kept   []byte
}

func (g *gate) Write(p []byte) (int, error) {
	if g.closed {
		g.kept = append(g.kept, p...)
		return len(p), nil
	}
	return g.Conn.Write(p)
}

// capture returns what far, of secured, would send for each text.
func capture(tb testing.TB, far *tls.Conn, texts ...string) []byte {
	tb.Helper()
	g := far.NetConn().(*gate)
	g.closed, g.kept = true, nil
	for _, text := range texts {
		say(tb, far, text)
	}
	g.closed = false
	return g.kept
}

// secured returns one end of a TLS session as a Socket, the other as it is.
func secured(tb testing.TB, version uint16) (wire.Socket, *tls.Conn) {
	tb.Helper()
	a, b := tcpPair(tb)
	for _, c := range []net.Conn{a, b} {
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			tb.Fatal(err)
		}
	}
	far := tls.Server(&gate{Conn: b}, &tls.Config{
		Certificates: []tls.Certificate{certificate()}, MinVersion: version, MaxVersion: version, SessionTicketsDisabled: true,
	})
	shaken := make(chan error, 1)
	go func() { shaken <- far.Handshake() }()
	near, err := secure.Connect(a, &tls.Config{InsecureSkipVerify: true, DynamicRecordSizingDisabled: true})
	if err := errors.Join(err, <-shaken); err != nil {
		tb.Fatal(err)
	}
	s, err := Detach(a)
	if err != nil {
		tb.Fatal(err)
	}
	s.TLS = near.Release()
	return s, far
}

// both runs a test with each version that is on by default.
func both(t *testing.T, test func(t *testing.T, version uint16)) {
	t.Run("TLS 1.2", func(t *testing.T) { test(t, tls.VersionTLS12) })
	t.Run("TLS 1.3", func(t *testing.T) { test(t, tls.VersionTLS13) })
}

func say(tb testing.TB, w io.Writer, text string) {
	tb.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		tb.Fatal(err)
	}
}

func hear(tb testing.TB, r io.Reader, want string) {
	tb.Helper()
	p := make([]byte, len(want))
	if _, err := io.ReadFull(r, p); err != nil || string(p) != want {
		tb.Fatalf("%q, %v; want %q", p, err, want)
	}
}

// untilTurn waits for cond, which runs on the loop, to come true in some turn.
func (h *peer) untilTurn(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	eventually(tb, what, func() (ok bool) {
		on(tb, h.l, func() { ok = cond() })
		return ok
	})
}

// wantGot waits until h was told want, and nothing else.
func (h *peer) wantGot(tb testing.TB, want string) {
	tb.Helper()
	h.until(tb, "it is told "+want, func() bool { return h.got.String() == want })
}

func TestTLSBothWays(t *testing.T) {
	both(t, func(t *testing.T, version uint16) {
		l := start(t, Options{})
		s, far := secured(t, version)
		h := attach(t, l, s)
		say(t, far, "hello")
		h.wantGot(t, "hello")
		on(t, l, func() { h.conn.Write([]byte("world")) })
		hear(t, far, "world")
	})
}

// TestTLSInput has bytes come before Attach: of Early, of the session's own,
// and of the kernel's.
func TestTLSInput(t *testing.T) {
	both(t, func(t *testing.T, version uint16) {
		l := start(t, Options{})
		a, b := tcpPair(t)
		far := tls.Server(b, &tls.Config{Certificates: []tls.Certificate{certificate()}, MinVersion: version, MaxVersion: version})
		told := make(chan error, 1)
		go func() {
			_, err := io.WriteString(far, "one two three ")
			told <- err
		}()
		near, err := secure.Connect(a, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		early := make([]byte, 4)
		if _, err := io.ReadFull(near, early); err != nil {
			t.Fatal(err)
		}
		if err := <-told; err != nil {
			t.Fatal(err)
		}
		say(t, far, "four")
		s, err := Detach(a)
		if err != nil {
			t.Fatal(err)
		}
		s.TLS, s.Early = near.Release(), early
		h := &peer{l: l, news: make(chan struct{}, 1)}
		on(t, l, func() {
			if h.conn, err = l.Attach(s, h); err == nil {
				h.conn.Pause()
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		turns(t, l, 3)
		on(t, l, func() {
			if h.data > 0 {
				t.Errorf("told %q while paused", h.got.String())
			}
			h.conn.Resume()
		})
		h.wantGot(t, "one two three four")
	})
}

// TestTLSByteByByte has each byte come alone, and the reader pause in between.
func TestTLSByteByByte(t *testing.T) {
	both(t, func(t *testing.T, version uint16) {
		l := start(t, Options{})
		s, far := secured(t, version)
		h := attach(t, l, s)
		h.onData = func([]byte) { h.conn.Pause() }
		for _, b := range capture(t, far, "select 1", "select 2") {
			if _, err := far.NetConn().(*gate).Conn.Write([]byte{b}); err != nil {
				t.Fatal(err)
			}
			on(t, l, h.conn.Resume)
		}
		h.until(t, "all is told", func() bool { h.conn.Resume(); return h.got.String() == "select 1select 2" })
		on(t, l, func() {
			if h.data != 2 {
				t.Errorf("two records were told in %d parts", h.data)
			}
		})
	})
}

// TestTLSMigrates moves a session between loops, with half a record received.
func TestTLSMigrates(t *testing.T) {
	both(t, func(t *testing.T, version uint16) {
		loops := []*Loop{start(t, Options{}), start(t, Options{})}
		s, far := secured(t, version)
		h := attach(t, loops[0], s)
		for round := range 6 {
			record := capture(t, far, "question")
			raw := far.NetConn().(*gate).Conn
			cut := 1 + round*4
			reads := uint64(0)
			on(t, h.l, func() { reads = h.l.stats.Read })
			if _, err := raw.Write(record[:cut]); err != nil {
				t.Fatal(err)
			}
			h.untilTurn(t, "half is there", func() bool { return h.l.stats.Read == reads+uint64(cut) })
			var ok bool
			on(t, h.l, func() { s, ok = h.conn.Detach() })
			if !ok {
				t.Fatal("the socket can't leave")
			}
			to := loops[(round+1)%2]
			next := attach(t, to, s)
			if _, err := raw.Write(record[cut:]); err != nil {
				t.Fatal(err)
			}
			next.wantGot(t, "question")
			on(t, to, func() { next.conn.Write([]byte("answer")) })
			hear(t, far, "answer")
			h = next
		}
	})
}

// TestTLSBackpressure writes more than the kernel takes. What the peer reads in
// the end is what was written, and its clean end.
func TestTLSBackpressure(t *testing.T) {
	both(t, func(t *testing.T, version uint16) {
		l := start(t, Options{})
		s, far := secured(t, version)
		h := attach(t, l, s)
		big := bytes.Repeat([]byte("0123456789abcdef"), 20<<16)
		on(t, l, func() {
			h.conn.Write(big[:len(big)/3])
			h.conn.Write(big[len(big)/3:])
			if n := h.conn.Queued(); n < len(big)/4 {
				t.Errorf("only %d of %d bytes are queued", n, len(big))
			}
			h.onDrain = func() {
				if h.drained == 1 {
					h.conn.Write([]byte("end"))
					h.conn.Close()
				}
			}
		})
		got, err := io.ReadAll(far)
		if err != nil || !bytes.Equal(got, append(big, "end"...)) {
			t.Errorf("%d bytes of %d, %v", len(got), len(big)+3, err)
		}
	})
}

// TestTLSBulk receives more than a buffer holds, while the reader pauses now
// and then.
func TestTLSBulk(t *testing.T) {
	both(t, func(t *testing.T, version uint16) {
		l := start(t, Options{ReadBuffer: 20 << 10})
		s, far := secured(t, version)
		h := attach(t, l, s)
		h.onData = func([]byte) {
			if h.data%3 == 0 {
				h.conn.Pause()
				l.After(time.Millisecond, h.conn.Resume)
			}
		}
		big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
		if _, err := far.Write(big); err != nil {
			t.Fatal(err)
		}
		h.until(t, "everything is told", func() bool { return bytes.Equal(h.got.Bytes(), big) })
	})
}

// TestTLSEnds has the peer end the session, cut the connection, or send what it
// must not.
func TestTLSEnds(t *testing.T) {
	both(t, func(t *testing.T, version uint16) {
		for _, test := range []struct {
			name string
			do   func(far *tls.Conn) error
			want string
		}{
			{"ends", (*tls.Conn).CloseWrite, "EOF"},
			{"cuts", func(far *tls.Conn) error { return far.NetConn().Close() }, "EOF"},
			{"lies", func(far *tls.Conn) error {
				_, err := far.NetConn().Write([]byte("\x17\x03\x03\x00\x20aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbb"))
				return err
			}, "bad record MAC"},
		} {
			t.Run(test.name, func(t *testing.T) {
				l := start(t, Options{})
				s, far := secured(t, version)
				h := attach(t, l, s)
				say(t, far, "last words")
				if err := test.do(far); err != nil {
					t.Fatal(err)
				}
				h.until(t, "the end is told", func() bool { return len(h.closed) == 1 })
				wantError(t, h.closed[0], test.want)
				if h.got.String() != "last words" {
					t.Errorf("told %q", h.got.String())
				}
			})
		}
	})
}

// TestTLSStop has the loop stop: peers are told that the session is over.
func TestTLSStop(t *testing.T) {
	both(t, func(t *testing.T, version uint16) {
		l := start(t, Options{})
		s, far := secured(t, version)
		attach(t, l, s)
		l.Stop()
		last, err := io.ReadAll(far.NetConn())
		if err != nil || len(last) == 0 {
			t.Errorf("%d bytes, %v; want an alert", len(last), err)
		}
	})
}

// chatty is a session that has something to say whatever it hears.
type chatty struct{ wire.Stream }

func (chatty) Open(dst, in, out []byte) (plain, reply []byte, err error) {
	return dst, append(out, make([]byte, 1000*len(in))...), nil
}

// TestTLSReplies has a peer make the session answer, and never read.
func TestTLSReplies(t *testing.T) {
	l := start(t, Options{})
	s, c := socket(t)
	s.TLS = chatty{}
	h := attach(t, l, s)
	if _, err := c.Write(make([]byte, 200<<10)); err != nil {
		t.Fatal(err)
	}
	h.until(t, "it is given up", func() bool { return len(h.closed) == 1 })
	if !errors.Is(h.closed[0], errReplies) {
		t.Errorf("given up for %v", h.closed[0])
	}
}
