package loop

import (
	"bytes"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgweir/pgweir/wire"
)

// patience bounds every wait of a test for something that must happen.
const patience = time.Minute

// start runs a loop until the end of the test, which fails if the loop leaves
// a descriptor or goroutine behind.
func start(tb testing.TB, o Options) *Loop {
	tb.Helper()
	fds, goroutines := openFDs(tb), runtime.NumGoroutine()
	l, err := New(o)
	if err != nil {
		tb.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.Run()
	}()
	tb.Cleanup(func() {
		l.Stop()
		select {
		case <-done:
		case <-time.After(patience):
			tb.Fatal("Run did not return after Stop")
		}
		if n := l.Conns(); n != 0 {
			tb.Errorf("%d sockets left after Run", n)
		}
		if l.stats.Buffered != 0 {
			tb.Errorf("%d bytes queued after Run", l.stats.Buffered)
		}
		eventually(tb, "descriptors and goroutines are gone", func() bool {
			return openFDs(tb) <= fds && runtime.NumGoroutine() <= goroutines
		})
	})
	return l
}

// warm has Go's runtime open the descriptors that it keeps for package net.
var warm = sync.OnceValue(func() error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	return ln.Close()
})

// openFDs counts the descriptors of this process.
func openFDs(tb testing.TB) int {
	tb.Helper()
	if err := warm(); err != nil {
		tb.Fatal(err)
	}
	dir := "/proc/self/fd"
	if runtime.GOOS != "linux" {
		dir = "/dev/fd"
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		tb.Fatal(err)
	}
	return len(names)
}

// eventually waits for what comes about on goroutines that nobody can wait
// for.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for end := time.Now().Add(patience); !ok(); runtime.Gosched() {
		if time.Now().After(end) {
			tb.Fatalf("never came true: %s", what)
		}
	}
}

// on runs fn on the loop and waits for it.
func on(tb testing.TB, l *Loop, fn func()) {
	tb.Helper()
	done := make(chan struct{})
	if !l.Post(func() { defer close(done); fn() }) {
		tb.Fatal("the loop has stopped")
	}
	select {
	case <-done:
	case <-time.After(patience):
		tb.Fatal("the loop does not run what was posted")
	}
}

// turns lets the loop turn n times.
func turns(tb testing.TB, l *Loop, n int) {
	tb.Helper()
	for range n {
		on(tb, l, func() {})
	}
}

// peer writes down what a loop tells about one conn. Its fields are touched on
// the loop only.
type peer struct {
	l    *Loop
	conn wire.Conn
	news chan struct{} // has one element after each call, at the latest

	got     bytes.Buffer
	data    int // calls of Data
	drained int // calls of Drained
	closed  []error
	onData  func(p []byte)
	onDrain func()
	onClose func(err error)
}

func (h *peer) Data(p []byte) {
	if len(h.closed) > 0 {
		panic("Data after Closed")
	}
	h.data++
	h.got.Write(p)
	if h.onData != nil {
		h.onData(p)
	}
	h.tell()
}

func (h *peer) Drained() {
	if h.conn.Queued() != 0 {
		panic("Drained with bytes queued")
	}
	h.drained++
	if h.onDrain != nil {
		h.onDrain()
	}
	h.tell()
}

func (h *peer) Closed(err error) {
	h.closed = append(h.closed, err)
	if h.onClose != nil {
		h.onClose(err)
	}
	h.tell()
}

func (h *peer) tell() {
	select {
	case h.news <- struct{}{}:
	default:
	}
}

// until waits for cond, which runs on the loop, to come true after some news.
func (h *peer) until(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	timeout := time.After(patience)
	for {
		var ok bool
		on(tb, h.l, func() { ok = cond() })
		if ok {
			return
		}
		select {
		case <-h.news:
		case <-timeout:
			tb.Fatalf("never came true: %s", what)
		}
	}
}

// attach puts s on l with a new peer.
func attach(tb testing.TB, l *Loop, s wire.Socket) *peer {
	tb.Helper()
	h := &peer{l: l, news: make(chan struct{}, 1)}
	on(tb, l, func() {
		c, err := l.Attach(s, h)
		if err != nil {
			tb.Error(err)
			return
		}
		h.conn = c
	})
	if h.conn == nil {
		tb.FailNow()
	}
	return h
}

// tcpPair returns the two ends of a TCP connection over loopback.
func tcpPair(tb testing.TB) (a, b *net.TCPConn) {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	s, err := ln.Accept()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close(); s.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

// socket returns one end of a connection as a Socket, the other as it is.
func socket(tb testing.TB) (wire.Socket, *net.TCPConn) {
	tb.Helper()
	a, b := tcpPair(tb)
	s, err := Detach(a)
	if err != nil {
		tb.Fatal(err)
	}
	if err := b.SetDeadline(time.Now().Add(patience)); err != nil {
		tb.Fatal(err)
	}
	return s, b
}

// connect attaches one end of a new connection to l and returns the other.
func connect(tb testing.TB, l *Loop) (*peer, *net.TCPConn) {
	tb.Helper()
	s, c := socket(tb)
	return attach(tb, l, s), c
}

// wantError fails the test unless err says what.
func wantError(tb testing.TB, err error, what string) {
	tb.Helper()
	if err == nil || !strings.Contains(err.Error(), what) {
		tb.Errorf("error %v, want one that says %q", err, what)
	}
}

// dial connects to a listener.
func dial(tb testing.TB, addr net.Addr) net.Conn {
	tb.Helper()
	c, err := net.Dial(addr.Network(), addr.String())
	if err != nil {
		tb.Fatal(err)
	}
	return c
}
