package loop

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/pgweir/pgweir/wire"
	"golang.org/x/sys/unix"
)

// noise returns n bytes that look alike nowhere.
func noise(seed uint64, n int) []byte {
	p := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	_, _ = r.Read(p)
	return p
}

// socketPair returns the two ends of a unix socket, both non-blocking.
func socketPair(tb testing.TB) (near wire.Socket, far int) {
	tb.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		tb.Fatal(err)
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
		if err := unix.SetNonblock(fd, true); err != nil {
			tb.Fatal(err)
		}
	}
	return wire.Socket{FD: fds[0], Unix: true}, fds[1]
}

// later moves the loop's timers d closer.
func later(l *Loop, d time.Duration) {
	for _, t := range l.timers.heap {
		t.when -= wire.Time(d)
	}
}

// expect reads exactly want from c.
func expect(tb testing.TB, c io.Reader, want []byte) {
	tb.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil {
		tb.Fatalf("after %d of %d bytes: %v", n, len(want), err)
	}
	if !bytes.Equal(got, want) {
		tb.Fatal("wrong bytes")
	}
}

func TestSizes(t *testing.T) {
	if n := unsafe.Sizeof(conn{}); n > 64 {
		t.Errorf("a conn takes %d bytes", n)
	}
	if n := unsafe.Sizeof(chunk{}); n != chunkSize {
		t.Errorf("a chunk takes %d bytes", n)
	}
}

func TestEverythingBeforeEOF(t *testing.T) {
	l := start(t, Options{})
	h, c := connect(t, l)
	want := noise(1, 3<<20)
	go func() {
		_, _ = c.Write(want)
		c.Close()
	}()
	h.until(t, "closed", func() bool { return h.closed != nil })
	if !bytes.Equal(h.got.Bytes(), want) {
		t.Errorf("got %d bytes of %d, or wrong ones", h.got.Len(), len(want))
	}
	if len(h.closed) != 1 || h.closed[0] != io.EOF {
		t.Errorf("closed with %v", h.closed)
	}
	on(t, l, func() {
		h.conn.Write([]byte("x"))
		h.conn.Pause()
		h.conn.Resume()
		h.conn.Close()
		h.conn.Abort()
		if _, ok := h.conn.Detach(); ok || h.conn.Queued() != 0 {
			t.Error("a dead Conn still does something")
		}
	})
}

func TestResetIsTold(t *testing.T) {
	l := start(t, Options{})
	for _, pause := range []bool{false, true} {
		h, c := connect(t, l)
		if pause {
			on(t, l, h.conn.Pause)
		}
		if err := c.SetLinger(0); err != nil {
			t.Fatal(err)
		}
		c.Close()
		h.until(t, "closed", func() bool { return h.closed != nil })
		if !errors.Is(h.closed[0], syscall.ECONNRESET) {
			t.Errorf("paused %v: closed with %v", pause, h.closed)
		}
	}
}

func TestSlowReader(t *testing.T) {
	l := start(t, Options{})
	h, c := connect(t, l)
	want := noise(2, 16<<20)
	on(t, l, func() {
		for p := want; len(p) > 0; {
			n := min(len(p), 300<<10)
			h.conn.Write(p[:n])
			p = p[n:]
		}
		if q := h.conn.Queued(); q == 0 || q != l.Stats().Buffered {
			t.Errorf("%d bytes queued, %d buffered", q, l.Stats().Buffered)
		}
		if _, ok := h.conn.Detach(); ok {
			t.Error("detached with bytes queued")
		}
		if h.drained != 0 {
			t.Error("told Drained from within Write")
		}
	})
	expect(t, c, want)
	h.until(t, "drained", func() bool { return h.drained == 1 })
	on(t, l, func() {
		s := l.Stats()
		if h.conn.Queued() != 0 || s.Buffered != 0 || s.Written != uint64(len(want)) {
			t.Errorf("queued %d, %+v", h.conn.Queued(), s)
		}
		if s.Free == 0 || s.Free > maxFree*chunkSize {
			t.Errorf("%d bytes kept", s.Free)
		}
		h.conn.Write([]byte("more"))
	})
	expect(t, c, []byte("more"))
	turns(t, l, 3)
	on(t, l, func() {
		if h.drained != 1 {
			t.Errorf("Drained %d times, the last time without a queue", h.drained)
		}
	})
}

func TestPauseIsLazy(t *testing.T) {
	l := start(t, Options{})
	h, c := connect(t, l)
	watches := func() (n uint64) {
		on(t, l, func() { n = l.Stats().Watches })
		return n
	}
	for range 3 {
		on(t, l, h.conn.Pause)
		turns(t, l, 2)
		on(t, l, h.conn.Resume)
		turns(t, l, 2)
	}
	if n := watches(); n != 0 {
		t.Errorf("%d system calls to pause a silent peer", n)
	}

	on(t, l, h.conn.Pause)
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "interest dropped", func() bool { return watches() == 1 })
	turns(t, l, 3)
	on(t, l, func() {
		if h.data != 0 {
			t.Error("Data while paused")
		}
		h.conn.Resume()
		if h.data != 0 {
			t.Error("Data from within Resume")
		}
	})
	h.until(t, "data", func() bool { return h.got.String() == "hello" })
	if n := watches(); n != 2 {
		t.Errorf("%d changes of interest, want 2", n)
	}
}

func TestPauseWithinData(t *testing.T) {
	l := start(t, Options{ReadBuffer: 1 << 10})
	h, c := connect(t, l)
	want := noise(3, 1<<20)
	on(t, l, func() { h.onData = func([]byte) { h.conn.Pause() } })
	go func() { _, _ = c.Write(want) }()
	for seen := 0; seen < len(want); {
		h.until(t, "data", func() bool { return h.got.Len() > seen })
		on(t, l, func() {
			if h.got.Len() > seen+1<<10 {
				t.Error("Data after Pause")
			}
			seen = h.got.Len()
			h.conn.Resume()
		})
	}
	if !bytes.Equal(h.got.Bytes(), want) {
		t.Error("wrong bytes")
	}
}

func TestPausedPeerCloses(t *testing.T) {
	l := start(t, Options{})
	for _, last := range []string{"", "unread"} {
		h, c := connect(t, l)
		on(t, l, h.conn.Pause)
		if _, err := c.Write([]byte(last)); err != nil {
			t.Fatal(err)
		}
		c.Close()
		h.until(t, "closed", func() bool { return h.closed != nil })
		if h.closed[0] != io.EOF || h.got.Len() > 0 {
			t.Errorf("closed with %v after %q", h.closed, h.got.String())
		}
	}
}

// What a peer sent before it closed, or broke off, is there for who has held it.
func TestHeldPeerCloses(t *testing.T) {
	l := start(t, Options{ReadBuffer: 1 << 10})
	want := noise(4, 16<<10)
	begin := func() (*peer, net.Conn) {
		h, c := connect(t, l)
		on(t, l, func() {
			h.conn.Hold()
			h.onData = func([]byte) { h.conn.Hold() }
		})
		if _, err := c.Write(want); err != nil {
			t.Fatal(err)
		}
		return h, c
	}
	end := func(h *peer) {
		t.Helper()
		h.until(t, "closed", func() bool { return h.closed != nil })
		if !bytes.Equal(h.got.Bytes(), want) {
			t.Errorf("%d of %d bytes, closed with %v", h.got.Len(), len(want), h.closed[0])
		}
	}

	h, c := begin()
	c.Close()
	for seen := 0; seen < len(want); {
		turns(t, l, 3)
		on(t, l, func() {
			if h.got.Len() != seen || h.closed != nil {
				t.Errorf("%d bytes while held, after %d, closed: %v", h.got.Len(), seen, h.closed)
			}
			h.conn.Resume()
		})
		h.until(t, "data", func() bool { return h.got.Len() > seen })
		seen = h.got.Len()
	}
	on(t, l, h.conn.Resume)
	end(h)

	// A socket that can't be written to any more is read without being asked.
	h, c = begin()
	c.Close()
	on(t, l, func() { h.conn.Write([]byte("x")) })
	end(h)
}

func TestFairness(t *testing.T) {
	// A peer that always has more is left after a few buffers.
	l := start(t, Options{ReadBuffer: 1 << 10})
	h, c := connect(t, l)
	held, release := make(chan struct{}), make(chan struct{})
	l.Post(func() { close(held); <-release })
	<-held
	if _, err := c.Write(make([]byte, 64<<10)); err != nil {
		t.Fatal(err)
	}
	after := make(chan int, 1)
	l.Post(func() { after <- h.data }) // runs in the next turn, after the events
	close(release)
	if n := <-after; n > readRounds {
		t.Errorf("%d buffers read in one turn, want at most %d", n, readRounds)
	}
	h.until(t, "all read", func() bool { return h.got.Len() == 64<<10 })
}

func TestEarly(t *testing.T) {
	l := start(t, Options{})
	s, c := socket(t)
	s.Early = []byte("early ")
	if _, err := c.Write([]byte("late")); err != nil {
		t.Fatal(err)
	}
	h := attach(t, l, s)
	h.until(t, "all bytes", func() bool { return h.got.String() == "early late" })

	s, c = socket(t)
	s.Early = []byte("early ")
	if _, err := c.Write([]byte("late")); err != nil {
		t.Fatal(err)
	}
	h = &peer{l: l, news: make(chan struct{}, 1)}
	on(t, l, func() {
		h.conn, _ = l.Attach(s, h)
		h.conn.Pause()
	})
	turns(t, l, 3)
	on(t, l, func() {
		if h.data != 0 {
			t.Error("early bytes while paused")
		}
		h.conn.Resume()
		h.conn.Pause()
		h.conn.Resume()
	})
	h.until(t, "all bytes", func() bool { return h.got.String() == "early late" })

	s, _ = socket(t)
	s.Early = []byte("early")
	on(t, l, func() {
		c, _ := l.Attach(s, h)
		s, ok := c.Detach()
		if !ok || string(s.Early) != "early" {
			t.Errorf("detached %v with %q", ok, s.Early)
		}
		rawClose(s.FD)
	})

	// A peer that is gone while early bytes wait behind a pause.
	s, c = socket(t)
	s.Early = []byte("early")
	h = &peer{l: l, news: make(chan struct{}, 1)}
	on(t, l, func() {
		h.conn, _ = l.Attach(s, h)
		h.conn.Pause()
	})
	c.Close()
	h.until(t, "closed", func() bool { return h.closed != nil })
}

func TestEarlyThenFailure(t *testing.T) {
	l := start(t, Options{})
	s, far := socketPair(t)
	unix.Close(far)
	s.Early = []byte("early")
	h := &peer{l: l, news: make(chan struct{}, 1)}
	on(t, l, func() {
		h.conn, _ = l.Attach(s, h)
		h.conn.Write([]byte("x"))
	})
	h.until(t, "closed", func() bool { return h.closed != nil })
	if h.got.String() != "early" {
		t.Errorf("got %q", h.got.String())
	}
}

// TestEarlyBeforeEvent resumes a socket between the early bytes' turn and an
// event for what came later.
func TestEarlyBeforeEvent(t *testing.T) {
	l := start(t, Options{})
	first, second := &peer{l: l, news: make(chan struct{}, 1)}, &peer{l: l, news: make(chan struct{}, 1)}
	var fars [2]int
	on(t, l, func() {
		s, far := socketPair(t)
		fars[0] = far
		first.conn, _ = l.Attach(s, first)
		first.onData = func([]byte) { second.conn.Resume() }

		s, far = socketPair(t)
		fars[1] = far
		s.Early = []byte("early ")
		second.conn, _ = l.Attach(s, second)
		second.conn.Pause()

		for _, far := range fars {
			if _, err := unix.Write(far, []byte("late")); err != nil {
				t.Error(err)
			}
		}
	})
	second.until(t, "all bytes", func() bool { return second.got.Len() == len("early late") })
	if second.got.String() != "early late" {
		t.Errorf("got %q", second.got.String())
	}
	for _, far := range fars {
		unix.Close(far)
	}
}

// TestEventOfDuplicate closes a socket while a duplicate of its descriptor is
// about, as between fork and exec of a child: the kernel goes on to tell of it.
// Whoever got its slot must not hear of that.
func TestEventOfDuplicate(t *testing.T) {
	l := start(t, Options{})
	s, far := socketPair(t)
	dup, err := unix.Dup(s.FD)
	if err != nil {
		t.Fatal(err)
	}
	old := attach(t, l, s)
	on(t, l, old.conn.Abort)
	next, nextFar := socketPair(t)
	h := attach(t, l, next)
	on(t, l, func() {
		if h.conn.(*conn).slot != old.conn.(*conn).slot {
			t.Error("the slot was not used again")
		}
		h.conn.Pause() // so that a hang-up would close it
	})
	unix.Close(far)
	turns(t, l, 5)
	on(t, l, func() {
		if h.closed != nil || old.closed != nil {
			t.Error("an event reached the wrong socket")
		}
	})
	unix.Close(dup)
	unix.Close(nextFar)
}

// TestLateEvent makes two sockets ready in one batch of events. The handler of
// the first one closes the second, and a new socket gets its descriptor: the
// event that is still to come must not reach it.
func TestLateEvent(t *testing.T) {
	l := start(t, Options{})
	var peers [2]*peer
	var fds, fars [2]int
	var successor *peer
	var newFar int
	replace := func(i int) func([]byte) {
		return func([]byte) {
			if successor != nil {
				return
			}
			other := 1 - i
			peers[other].conn.Abort()
			s, far := socketPair(t)
			newFar = far
			if s.FD != fds[other] {
				t.Errorf("the new descriptor is %d, want %d", s.FD, fds[other])
			}
			successor = &peer{l: l, news: make(chan struct{}, 1)}
			successor.conn, _ = l.Attach(s, successor)
		}
	}
	on(t, l, func() {
		for i := range peers {
			s, far := socketPair(t)
			fds[i], fars[i] = s.FD, far
			peers[i] = &peer{l: l, news: make(chan struct{}, 1), onData: replace(i)}
			peers[i].conn, _ = l.Attach(s, peers[i])
		}
		for _, far := range fars {
			if _, err := unix.Write(far, []byte("both at once")); err != nil {
				t.Error(err)
			}
		}
	})
	turns(t, l, 3)
	on(t, l, func() {
		if n := peers[0].data + peers[1].data; n != 1 {
			t.Errorf("%d calls of Data, want 1", n)
		}
		if successor.data != 0 || successor.closed != nil {
			t.Error("an event of the old socket reached the new one")
		}
		if _, err := unix.Write(newFar, []byte("mine")); err != nil {
			t.Error(err)
		}
	})
	successor.until(t, "own bytes", func() bool { return successor.got.String() == "mine" })
	for _, fd := range append(fars[:], newFar) {
		unix.Close(fd)
	}
}

// TestOrderings runs every sequence of four of these steps against one socket
// and checks each against what must hold in all of them.
func TestOrderings(t *testing.T) {
	const length = 4
	l := start(t, Options{})
	steps := []string{"pause", "resume", "close", "abort", "write", "peer writes", "peer closes", "turn"}
	total := 1
	for range length {
		total *= len(steps)
	}
	for n := range total {
		var names []string
		for k, m := 0, n; k < length; k, m = k+1, m/len(steps) {
			names = append(names, steps[m%len(steps)])
		}
		if !ordering(t, l, names) {
			t.Fatalf("sequence %q", names)
		}
	}
}

// ordering runs one sequence and reports whether everything held.
func ordering(t *testing.T, l *Loop, steps []string) bool {
	s, far := socketPair(t)
	h := &peer{l: l, news: make(chan struct{}, 1)}
	var isPaused, over, peerClosed bool
	sent, ok := 0, true
	fail := func(what string) {
		t.Error(what)
		ok = false
	}
	check := func() {
		if isPaused || over {
			fail("called while paused or closed")
		}
	}
	h.onData = func([]byte) { check() }
	h.onClose = func(error) {
		if over || !peerClosed {
			fail("Closed without reason")
		}
		over = true
	}
	on(t, l, func() {
		var err error
		if h.conn, err = l.Attach(s, h); err != nil {
			t.Error(err)
		}
	})
	for _, step := range steps {
		if step == "turn" {
			turns(t, l, 1)
			continue
		}
		on(t, l, func() {
			switch step {
			case "pause":
				h.conn.Pause()
				isPaused = true
			case "resume":
				h.conn.Resume()
				isPaused = false
			case "close":
				h.conn.Close()
				over = true
			case "abort":
				h.conn.Abort()
				over = true
			case "write":
				h.conn.Write([]byte("hello"))
			case "peer writes":
				if !peerClosed {
					if _, err := unix.Write(far, []byte("abc")); err == nil {
						sent += 3
					}
				}
			case "peer closes":
				if !peerClosed {
					unix.Close(far)
					peerClosed = true
				}
			}
		})
	}
	turns(t, l, 1)
	h.until(t, "the end", func() bool {
		return over || !peerClosed && (isPaused || h.got.Len() == sent)
	})
	on(t, l, func() {
		if len(h.closed) > 1 || h.got.Len() > sent {
			fail("told too much")
		}
		h.conn.Abort()
	})
	if !peerClosed {
		unix.Close(far)
	}
	eventually(t, "released", func() bool { return l.Conns() == 0 })
	return ok
}
