package loop

import (
	"errors"
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/pgweir/pgweir/wire"
	"golang.org/x/sys/unix"
)

func TestWriteFailure(t *testing.T) {
	// The server says why it goes, and goes. The write that meets it gone must
	// not lose what it said, and Closed must not come from within Write.
	l := start(t, Options{})
	h, c := connect(t, l)
	const last = "FATAL: terminating connection"
	on(t, l, func() {
		if _, err := c.Write([]byte(last)); err != nil {
			t.Error(err)
		}
		c.Close()
		for end := time.Now().Add(patience); h.conn.(*conn).state == open && time.Now().Before(end); {
			h.conn.Write([]byte("SELECT 1"))
		}
		if h.data > 0 || h.closed != nil {
			t.Error("Handler called from within Write")
		}
	})
	h.until(t, "closed", func() bool { return h.closed != nil })
	turns(t, l, 2)
	on(t, l, func() {
		if len(h.closed) != 1 {
			t.Errorf("Closed %d times", len(h.closed))
		}
		if h.got.String() != last {
			t.Errorf("the last bytes were %q", h.got.String())
		}
	})
}

// brokenPipe attaches a conn whose next write fails.
func brokenPipe(t *testing.T, l *Loop, last string) *peer {
	t.Helper()
	s, far := socketPair(t)
	if last != "" {
		if _, err := unix.Write(far, []byte(last)); err != nil {
			t.Fatal(err)
		}
	}
	unix.Close(far)
	h := &peer{l: l, news: make(chan struct{}, 1)}
	c, err := l.Attach(s, h)
	if err != nil {
		t.Fatal(err)
	}
	h.conn = c
	return h
}

func TestFailureAfterLastBytes(t *testing.T) {
	l := start(t, Options{})
	const last = "FATAL: terminating connection"
	for _, test := range []struct {
		name   string
		act    func(c wire.Conn)
		got    string
		closed int
	}{
		{"write", func(c wire.Conn) { c.Write([]byte("x")) }, last, 1},
		{"write twice", func(c wire.Conn) { c.Write([]byte("x")); c.Write([]byte("y")) }, last, 1},
		{"write, pause", func(c wire.Conn) { c.Write([]byte("x")); c.Pause() }, "", 1},
		{"write, close", func(c wire.Conn) { c.Write([]byte("x")); c.Close() }, "", 0},
		{"write, abort", func(c wire.Conn) { c.Write([]byte("x")); c.Abort() }, "", 0},
	} {
		var h *peer
		on(t, l, func() {
			h = brokenPipe(t, l, last)
			test.act(h.conn)
			if h.data > 0 || h.closed != nil {
				t.Errorf("%s: Handler called from within", test.name)
			}
			if _, ok := h.conn.Detach(); ok {
				t.Errorf("%s: detached with a failure to tell", test.name)
			}
		})
		turns(t, l, 2)
		on(t, l, func() {
			if h.got.String() != test.got || len(h.closed) != test.closed {
				t.Errorf("%s: got %q, closed %v", test.name, h.got.String(), h.closed)
			}
			if test.closed == 1 && test.got != "" && h.closed[0] != io.EOF {
				t.Errorf("%s: closed with %v", test.name, h.closed)
			}
		})
	}
}

func TestFailureClosesAnother(t *testing.T) {
	// Closed of one conn writes to another one that is broken too.
	l := start(t, Options{})
	var a, b *peer
	on(t, l, func() {
		a, b = brokenPipe(t, l, ""), brokenPipe(t, l, "")
		a.onClose = func(error) { b.conn.Write([]byte("your friend is gone")) }
		a.conn.Write([]byte("x"))
	})
	b.until(t, "both closed", func() bool { return a.closed != nil && b.closed != nil })
}

func TestCloseDeliversQueue(t *testing.T) {
	l := start(t, Options{})
	h, c := connect(t, l)
	want := noise(4, 8<<20)
	on(t, l, func() {
		h.conn.Write(want)
		h.conn.Close()
	})
	// Our bytes must not make the kernel reset what is on the way to us.
	go func() { _, _ = c.Write(make([]byte, 4<<20)) }()
	expect(t, c, want)
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("read %d bytes, %v after the end", n, err)
	}
	c.Close()
	eventually(t, "socket released", func() bool { return l.Conns() == 0 })
	on(t, l, func() {
		if h.data+h.drained+len(h.closed) != 0 {
			t.Error("Handler called after Close")
		}
	})
}

func TestCloseWithUnreadInput(t *testing.T) {
	l := start(t, Options{ReadBuffer: 4 << 10})
	for _, how := range []string{"paused", "read in part", "early"} {
		s, c := socket(t)
		if how == "early" {
			s.Early = []byte("early")
		}
		h := &peer{l: l, news: make(chan struct{}, 1)}
		if _, err := c.Write(make([]byte, 64<<10)); err != nil {
			t.Fatal(err)
		}
		on(t, l, func() {
			var err error
			if h.conn, err = l.Attach(s, h); err != nil {
				t.Error(err)
			}
			switch how {
			case "paused":
				h.conn.Pause()
			case "read in part":
				h.onData = func([]byte) { h.conn.Write([]byte("FATAL: enough")); h.conn.Close() }
				return
			}
			h.conn.Write([]byte("FATAL: enough"))
			h.conn.Close()
		})
		expect(t, c, []byte("FATAL: enough"))
		if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("%s: read %d bytes, %v after the end", how, n, err)
		}
		c.Close()
		eventually(t, "socket released", func() bool { return l.Conns() == 0 })
	}
}

func TestCloseWithNothingOnTheWay(t *testing.T) {
	l := start(t, Options{})
	for _, pause := range []bool{false, true} {
		h, c := connect(t, l)
		on(t, l, func() {
			if pause {
				h.conn.Pause()
			}
			h.conn.Write([]byte("bye"))
			h.conn.Close()
		})
		turns(t, l, 1)
		if n := l.Conns(); n != 0 {
			t.Errorf("paused %v: %d sockets linger for nothing", pause, n)
		}
		expect(t, c, []byte("bye"))
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Error(err)
		}
	}
}

func TestLingerEnds(t *testing.T) {
	l := start(t, Options{})
	h, c := connect(t, l)
	on(t, l, func() {
		h.conn.Write(make([]byte, 16<<20)) // the peer never reads
		h.conn.Close()
	})
	turns(t, l, 2)
	on(t, l, func() {
		if l.Conns() != 1 || l.Stats().Buffered == 0 {
			t.Error("no lingering")
		}
		later(l, wire.Linger-time.Second)
	})
	turns(t, l, 2)
	if l.Conns() != 1 {
		t.Error("lingered too short")
	}
	on(t, l, func() { later(l, time.Second) })
	eventually(t, "socket released", func() bool { return l.Conns() == 0 })
	on(t, l, func() {
		if l.Stats().Buffered != 0 {
			t.Error("bytes left")
		}
	})
	c.Close()
}

func TestResetWithQueue(t *testing.T) {
	l := start(t, Options{})
	for _, closed := range []bool{false, true} {
		h, c := connect(t, l)
		on(t, l, func() {
			h.conn.Write(make([]byte, 16<<20))
			if closed {
				h.conn.Close()
			}
		})
		if err := c.SetLinger(0); err != nil {
			t.Fatal(err)
		}
		c.Close()
		if !closed {
			h.until(t, "closed", func() bool { return h.closed != nil })
			if !errors.Is(h.closed[0], syscall.ECONNRESET) {
				t.Errorf("closed with %v", h.closed)
			}
		}
		eventually(t, "released", func() bool { return l.Conns() == 0 })
		on(t, l, func() {
			if n := l.Stats().Buffered; n != 0 {
				t.Errorf("%d bytes queued for nobody", n)
			}
		})
	}
}

func TestAbortLosesQueue(t *testing.T) {
	l := start(t, Options{})
	h, c := connect(t, l)
	on(t, l, func() {
		h.conn.Write(make([]byte, 16<<20))
		h.conn.Abort()
		if l.Conns() != 0 || l.Stats().Buffered != 0 {
			t.Error("something stays after Abort")
		}
	})
	if n, _ := io.Copy(io.Discard, c); n >= 16<<20 {
		t.Error("all bytes arrived")
	}
}
