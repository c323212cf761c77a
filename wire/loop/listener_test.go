package loop

import (
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pgweir/pgweir/wire"
	"golang.org/x/sys/unix"
)

// listening returns a listening descriptor, and where it listens.
func listening(tb testing.TB, network, address string) (fd int, addr net.Addr) {
	tb.Helper()
	ln, err := net.Listen(network, address)
	if err != nil {
		tb.Fatal(err)
	}
	addr = ln.Addr()
	fd, err = DetachListener(ln)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { CloseListener(fd) })
	return fd, addr
}

// listen puts fd on the loop until the end of the test.
func listen(tb testing.TB, l *Loop, fd int, accept func(wire.Socket)) (ln *Listener) {
	tb.Helper()
	on(tb, l, func() {
		var err error
		if ln, err = l.Listen(fd, accept); err != nil {
			tb.Error(err)
		}
	})
	return ln
}

func TestListenerEnds(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"} {
		fd, addr := listening(t, "tcp", address)
		l := start(t, Options{})
		accepted := make(chan wire.Socket, 1)
		listen(t, l, fd, func(s wire.Socket) { accepted <- s })
		_, port, _ := net.SplitHostPort(addr.String())
		host := "127.0.0.1"
		if address == "[::1]:0" {
			host = "::1"
		}
		c, err := net.Dial("tcp", net.JoinHostPort(host, port))
		if err != nil {
			t.Fatal(err)
		}
		s := <-accepted
		if s.Remote.String() != c.LocalAddr().String() || s.Local.String() != c.RemoteAddr().String() || s.Unix {
			t.Errorf("%s: got the ends %v and %v, want %v and %v", address, s.Remote, s.Local, c.LocalAddr(), c.RemoteAddr())
		}
		if v, err := unix.GetsockoptInt(s.FD, unix.IPPROTO_TCP, unix.TCP_NODELAY); err != nil || v == 0 {
			t.Errorf("%s: Nagle is on: %v", address, err)
		}
		if flags, err := unix.FcntlInt(uintptr(s.FD), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
			t.Errorf("%s: the descriptor may block", address)
		}
		if flags, err := unix.FcntlInt(uintptr(s.FD), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("%s: the descriptor stays open on exec", address)
		}
		c.Close()
		rawClose(s.FD)
	}
}

func TestListenerUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".s.PGSQL.6432")
	fd, _ := listening(t, "unix", path)
	l := start(t, Options{})
	accepted := make(chan wire.Socket, 1)
	listen(t, l, fd, func(s wire.Socket) { accepted <- s })
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s := <-accepted
	defer rawClose(s.FD)
	if !s.Unix || s.Remote.IsValid() || s.Local.IsValid() {
		t.Errorf("got %+v", s)
	}
	if uid, pid := peerCredentials(s.FD); uid != s.PeerUID || pid != s.PeerPID {
		t.Errorf("credentials %d, %d in %+v", uid, pid, s)
	}
	if s.PeerUID != -1 && s.PeerUID != os.Getuid() || s.PeerPID != -1 && s.PeerPID != os.Getpid() {
		t.Errorf("got %+v, want user %d, process %d", s, os.Getuid(), os.Getpid())
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the socket's file is gone: %v", err)
	}
}

func TestListenerShared(t *testing.T) {
	fd, addr := listening(t, "tcp", "127.0.0.1:0")
	var accepted [2]atomic.Int64
	var listeners [2]*Listener
	var loops [2]*Loop
	for i := range loops {
		l := start(t, Options{Spin: -1})
		loops[i] = l
		listeners[i] = listen(t, l, fd, func(s wire.Socket) {
			accepted[i].Add(1)
			h := &peer{l: l, news: make(chan struct{}, 1)}
			h.onData = func(p []byte) { h.conn.Write(p) }
			var err error
			if h.conn, err = l.Attach(s, h); err != nil {
				t.Error(err)
			}
		})
	}
	storm := func(n int) {
		var clients sync.WaitGroup
		for i := range 10 {
			clients.Add(1)
			go func() {
				defer clients.Done()
				for range n / 10 {
					c, err := net.Dial("tcp", addr.String())
					if err != nil {
						t.Error(err)
						return
					}
					p := noise(uint64(i), 100)
					if _, err := c.Write(p); err != nil {
						t.Error(err)
					}
					expect(t, c, p)
					c.Close()
				}
			}()
		}
		clients.Wait()
	}
	storm(400)
	if n := accepted[0].Load() + accepted[1].Load(); n != 400 {
		t.Errorf("%d clients accepted, want 400", n)
	}
	on(t, loops[0], func() { listeners[0].Close(); listeners[0].Close() })
	gone := accepted[0].Load()
	storm(100)
	if n := accepted[0].Load(); n != gone {
		t.Errorf("%d clients accepted after Close", n-gone)
	}
	again := listen(t, loops[0], fd, func(s wire.Socket) { accepted[0].Add(1); rawClose(s.FD) })
	if again.slot != listeners[0].slot {
		t.Error("the slot is not used again")
	}
}

func TestListenerCloseWithinAccept(t *testing.T) {
	fd, addr := listening(t, "tcp", "127.0.0.1:0")
	l := start(t, Options{})
	n := 0
	listen(t, l, fd, func(s wire.Socket) {
		n++
		rawClose(s.FD)
		l.listeners[0].Close()
	})
	for range 5 {
		c, err := net.Dial("tcp", addr.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	eventually(t, "accept", func() (ok bool) { on(t, l, func() { ok = n > 0 }); return ok })
	turns(t, l, 3)
	on(t, l, func() {
		if n != 1 {
			t.Errorf("%d accepts", n)
		}
	})
}

func TestListenerOfNoSocket(t *testing.T) {
	l := start(t, Options{})
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	on(t, l, func() {
		if _, err := l.Listen(int(f.Fd()), nil); err == nil {
			t.Error("listens on a file")
		}
	})
}
