package loop

import (
	"crypto/tls"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/pgweir/pgweir/wire"
	"golang.org/x/sys/unix"
)

func TestDetachNetConn(t *testing.T) {
	a, b := tcpPair(t)
	if err := a.SetReadDeadline(time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	remote, local := a.RemoteAddr().String(), a.LocalAddr().String()
	s, err := Detach(a)
	if err != nil {
		t.Fatal(err)
	}
	if s.Remote.String() != remote || s.Local.String() != local || s.Unix || s.PeerUID != -1 || s.PeerPID != -1 {
		t.Errorf("got %+v, want the ends %s and %s", s, remote, local)
	}
	if flags, err := unix.FcntlInt(uintptr(s.FD), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
		t.Errorf("the descriptor may block: %x, %v", flags, err)
	}
	if flags, err := unix.FcntlInt(uintptr(s.FD), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("the descriptor stays open on exec: %x, %v", flags, err)
	}
	if _, err := a.Read(make([]byte, 1)); err == nil {
		t.Error("the net.Conn still works")
	}
	l := start(t, Options{})
	h := attach(t, l, s)
	if _, err := b.Write([]byte("there")); err != nil {
		t.Fatal(err)
	}
	h.until(t, "bytes", func() bool { return h.got.String() == "there" })
	on(t, l, func() { h.conn.Write([]byte("and back")) })
	expect(t, b, []byte("and back"))
}

func TestDetachUnix(t *testing.T) {
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := Detach(c)
	if err != nil {
		t.Fatal(err)
	}
	defer rawClose(s.FD)
	if !s.Unix || s.Remote.IsValid() || s.Local.IsValid() {
		t.Errorf("got %+v", s)
	}
}

func TestDetachRefuses(t *testing.T) {
	before := openFDs(t)
	a, b := net.Pipe()
	defer b.Close()
	_, err := Detach(a)
	wantError(t, err, "has no descriptor")
	if _, err := a.Write([]byte("x")); err == nil {
		t.Error("the refused conn is still open")
	}

	c, d := tcpPair(t)
	_, err = Detach(tls.Client(c, &tls.Config{ServerName: "x"}))
	wantError(t, err, "has no descriptor")

	d.Close()
	_, err = Detach(d)
	wantError(t, err, "closed")
	eventually(t, "all descriptors closed", func() bool { return openFDs(t) <= before })
}

func TestDetachOfConn(t *testing.T) {
	l := start(t, Options{})
	s, c := socket(t)
	h := attach(t, l, s)
	on(t, l, func() {
		again, ok := h.conn.Detach()
		if !ok || again.FD != s.FD || again.Remote != s.Remote || again.Local != s.Local || again.Unix != s.Unix {
			t.Errorf("detached %v %+v, want %+v", ok, again, s)
		}
		if l.Conns() != 0 {
			t.Error("still on the loop")
		}
		if _, ok := h.conn.Detach(); ok {
			t.Error("detached twice")
		}
	})
	if _, err := c.Write([]byte("nobody reads")); err != nil {
		t.Fatal(err)
	}
	turns(t, l, 3)
	on(t, l, func() {
		if h.data != 0 || h.closed != nil {
			t.Error("a detached conn is told of events")
		}
	})
	h = attach(t, l, s)
	h.until(t, "bytes", func() bool { return h.got.String() == "nobody reads" })
}

func TestDetachOfDeadPeer(t *testing.T) {
	l := start(t, Options{})
	h, c := connect(t, l)
	moved := false
	on(t, l, func() {
		if err := c.SetLinger(0); err != nil {
			t.Error(err)
		}
		c.Close() // resets the connection
		var s wire.Socket
		if s, moved = h.conn.Detach(); moved {
			rawClose(s.FD) // the kernel has not noticed yet
		}
	})
	if !moved {
		h.until(t, "closed", func() bool { return len(h.closed) == 1 })
	}
}

// wanderer sends back what comes in and moves to another loop every few
// messages.
type wanderer struct {
	t     *testing.T
	loops []*Loop
	at    int
	conn  wire.Conn
	n     int
	end   chan error
}

func (w *wanderer) arrive(s wire.Socket) {
	c, err := w.loops[w.at].Attach(s, w)
	if err != nil {
		w.t.Error(err)
		return
	}
	w.conn = c
}

func (w *wanderer) Data(p []byte) {
	half := len(p) / 2
	w.conn.Write(p[:half])
	if w.n++; w.n%3 == 0 {
		// The other half travels as bytes that were read before.
		if s, ok := w.conn.Detach(); ok {
			s.Early = append([]byte(nil), p[half:]...)
			w.at = (w.at + 1) % len(w.loops)
			w.loops[w.at].Post(func() { w.arrive(s) })
			return
		}
	}
	w.conn.Write(p[half:])
}

func (w *wanderer) Drained() {}

func (w *wanderer) Closed(err error) { w.end <- err }

func TestMigration(t *testing.T) {
	loops := []*Loop{start(t, Options{Name: "a"}), start(t, Options{Name: "b", ReadBuffer: 5000})}
	var clients sync.WaitGroup
	for i := range 8 {
		s, c := socket(t)
		w := &wanderer{t: t, loops: loops, at: i % 2, end: make(chan error, 1)}
		loops[w.at].Post(func() { w.arrive(s) })
		want := noise(uint64(i), 1<<20)
		clients.Add(2)
		go func() {
			defer clients.Done()
			if _, err := c.Write(want); err != nil {
				t.Error(err)
			}
		}()
		go func() {
			defer clients.Done()
			got := make([]byte, len(want))
			if n, err := io.ReadFull(c, got); err != nil {
				t.Errorf("after %d bytes: %v", n, err)
			}
			if string(got) != string(want) {
				t.Error("wrong bytes")
			}
			c.Close()
			if err := <-w.end; err != io.EOF {
				t.Errorf("closed with %v", err)
			}
			if w.n < 3 {
				t.Errorf("%d messages: it never moved", w.n)
			}
		}()
	}
	clients.Wait()
}
