package loop

import (
	"strings"
	"testing"

	"github.com/pgweir/pgweir/wire"
	"golang.org/x/sys/unix"
)

// TestPanics lets each kind of function panic that a loop calls. The loop goes
// on, and so does everybody else, also in the same turn.
func TestPanics(t *testing.T) {
	type report struct {
		h     wire.Handler
		value any
		stack string
	}
	var reports []report
	l := start(t, Options{OnPanic: func(h wire.Handler, v any, stack []byte) {
		reports = append(reports, report{h, v, string(stack)})
	}})
	bystander, c := connect(t, l)

	check := func(name string, h wire.Handler) {
		t.Helper()
		on(t, l, func() { bystander.got.Reset() })
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		bystander.until(t, "bystander lives", func() bool { return bystander.got.Len() > 0 })
		on(t, l, func() {
			if len(reports) != 1 {
				t.Fatalf("%s: %d reports", name, len(reports))
			}
			r := reports[0]
			if r.h != h || r.value != "oops" || !strings.Contains(r.stack, "TestPanics") {
				t.Errorf("%s: reported %v, %v, %s", name, r.h, r.value, r.stack)
			}
			reports = nil
			if l.Conns() != 1 {
				t.Errorf("%s: %d sockets, want the bystander only", name, l.Conns())
			}
			if bystander.closed != nil {
				t.Errorf("%s: the bystander was closed", name)
			}
		})
	}
	reported := func() bool { ok := false; on(t, l, func() { ok = len(reports) > 0 }); return ok }
	oops := func() { panic("oops") }

	done := make(chan struct{})
	l.Post(oops)
	l.Post(func() { close(done) })
	<-done
	check("post", nil)

	on(t, l, func() { l.After(0, oops) })
	eventually(t, "reported", reported)
	check("timer", nil)

	for _, kind := range []string{
		"Data", "early Data", "Drained", "Closed", "Closed after a failed write", "last Data after a failed write",
		"Data, after a failed write", "Data, after Abort",
	} {
		s, far := socketPair(t)
		h := &peer{l: l, news: make(chan struct{}, 1)}
		var closed error // what Closed told, if it did
		var told bool
		h.onData = func([]byte) {
			switch kind {
			case "Data, after a failed write":
				unix.Close(far)
				h.conn.Write([]byte("x"))
			case "Data, after Abort":
				h.conn.Abort()
			}
			h.conn.Write([]byte("dropped"))
			oops()
		}
		h.onClose = func(err error) {
			if told {
				t.Error("Closed twice")
			}
			closed, told = err, true
			if strings.HasPrefix(kind, "Closed") {
				oops()
			}
		}
		h.onDrain = oops
		on(t, l, func() {
			if kind == "early Data" {
				s.Early = []byte("x")
			}
			h.conn, _ = l.Attach(s, h)
			switch kind {
			case "Data", "Data, after a failed write", "Data, after Abort":
				_, _ = unix.Write(far, []byte("x"))
			case "Drained":
				h.conn.Write(make([]byte, 1<<20))
			case "Closed":
				unix.Close(far)
			case "Closed after a failed write":
				unix.Close(far)
				h.conn.Write([]byte("x"))
			case "last Data after a failed write":
				_, _ = unix.Write(far, []byte("x"))
				unix.Close(far)
				h.conn.Write([]byte("x"))
			}
		})
		buf := make([]byte, 1<<20)
		eventually(t, "reported", func() bool {
			if kind == "Drained" {
				_, _ = unix.Read(far, buf)
			}
			return reported()
		})
		check(kind, h)
		switch kind {
		case "Data, after Abort":
			if told {
				t.Errorf("%s: told %v", kind, closed)
			}
		case "Closed", "Closed after a failed write", "Data, after a failed write":
			if !told || closed == ErrPanicked {
				t.Errorf("%s: told %v, %v", kind, told, closed)
			}
		default:
			if closed != ErrPanicked {
				t.Errorf("%s: told %v", kind, closed)
			}
		}
		if kind == "Data" || kind == "early Data" || kind == "Drained" || kind == "Data, after Abort" {
			unix.Close(far)
		}
	}

	fd, addr := listening(t, "tcp", "127.0.0.1:0")
	var lost wire.Socket
	listen(t, l, fd, func(s wire.Socket) { lost = s; oops() })
	client := dial(t, addr)
	defer client.Close()
	eventually(t, "reported", reported)
	check("accept", nil)
	rawClose(lost.FD)
}

// TestPanicMidBatch makes several sockets ready at once, all of whose handlers
// panic: each is reported, and none is forgotten.
func TestPanicMidBatch(t *testing.T) {
	var panics int
	l := start(t, Options{OnPanic: func(wire.Handler, any, []byte) { panics++ }})
	const n = 10
	var fars [n]int
	on(t, l, func() {
		for i := range n {
			s, far := socketPair(t)
			fars[i] = far
			h := &peer{l: l, news: make(chan struct{}, 1), onData: func([]byte) { panic(i) }}
			h.conn, _ = l.Attach(s, h)
			_, _ = unix.Write(far, []byte("x"))
		}
	})
	eventually(t, "all panicked", func() (ok bool) { on(t, l, func() { ok = panics == n }); return ok })
	eventually(t, "all closed", func() bool { return l.Conns() == 0 })
	for _, far := range fars {
		unix.Close(far)
	}
}

// TestStopClosesEverything leaves one of each kind behind.
func TestStopClosesEverything(t *testing.T) {
	before := openFDs(t)
	fd, addr := listening(t, "tcp", "127.0.0.1:0")
	l, err := New(Options{Name: "x"})
	if err != nil {
		t.Fatal(err)
	}
	if l.String() != "x" {
		t.Errorf("the loop is called %s", l)
	}
	done := make(chan struct{})
	go func() { defer close(done); l.Run() }()
	idle, a := connect(t, l)
	full, b := connect(t, l)
	lingering, c := connect(t, l)
	early, d := socket(t)
	early.Early = []byte("x")
	waiting := dial(t, addr)
	h := &peer{l: l, news: make(chan struct{}, 1)}
	on(t, l, func() {
		full.conn.Write(make([]byte, 8<<20))
		lingering.conn.Write(make([]byte, 8<<20))
		lingering.conn.Close()
		h.conn, _ = l.Attach(early, h)
		h.conn.Pause()
		l.After(1<<40, func() { t.Error("a timer after Stop") })
		l.Stop()
	})
	listenErr := make(chan error, 1)
	l.Post(func() { _, err := l.Listen(fd, func(s wire.Socket) { rawClose(s.FD) }); listenErr <- err })
	<-done
	select {
	case err := <-listenErr:
		if err != nil && err != ErrStopped {
			t.Error(err)
		}
	default: // the loop had stopped before the post
	}
	for _, h := range []*peer{idle, full, h} {
		if h.closed != nil {
			t.Error("a Handler was told after Stop")
		}
	}
	for _, c := range []interface{ Close() error }{a, b, c, d, waiting} {
		c.Close()
	}
	if l.Conns() != 0 || l.stats.Buffered != 0 {
		t.Errorf("%d sockets, %d bytes left", l.Conns(), l.stats.Buffered)
	}
	eventually(t, "descriptors closed", func() bool { return openFDs(t) <= before+1 }) // fd
}

func TestOptions(t *testing.T) {
	l := start(t, Options{ReadBuffer: 1 << 30})
	if len(l.buf) != maxIO {
		t.Errorf("one read takes %d bytes", len(l.buf))
	}
	l = start(t, Options{})
	if len(l.buf) != DefaultReadBuffer || l.String() != "loop" {
		t.Errorf("defaults: %d bytes, %s", len(l.buf), l)
	}
}
