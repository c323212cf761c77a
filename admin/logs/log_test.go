package logs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pgweir/pgweir/pool"
)

var (
	east = time.FixedZone("CET", 3600)
	noon = time.Date(2026, 11, 20, 12, 0, 0, 4_000_000, east)
)

func atNoon() time.Time { return noon }

func newLog(t *testing.T, o Options) *Log {
	t.Helper()
	o.PID, o.Now = 4711, atNoon
	l := New(o)
	t.Cleanup(l.Close)
	return l
}

func TestFormat(t *testing.T) {
	for _, test := range []struct {
		level        pool.Level
		prefix, text string
		want         string
	}{
		{pool.Info, "", "process up", "2026-11-20 12:00:00.004 CET [4711] LOG process up\n"},
		{pool.Warning, "C-0x1: db/u@[::1]:99", "pooler error: x", "2026-11-20 12:00:00.004 CET [4711] WARNING C-0x1: db/u@[::1]:99 pooler error: x\n"},
		{pool.Error, "S-0x2: ", "two\nlines", "2026-11-20 12:00:00.004 CET [4711] ERROR S-0x2: two\n\tlines\n"},
		{pool.Info, "a\nb", "", "2026-11-20 12:00:00.004 CET [4711] LOG a\n\tb \n"},
		{pool.Fatal, "", "cannot load config file", "2026-11-20 12:00:00.004 CET [4711] FATAL cannot load config file\n"},
	} {
		var out bytes.Buffer
		l := newLog(t, Options{Stderr: &out})
		l.Log(test.level, test.prefix, test.text)
		l.Flush()
		if got := out.String(); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}

func TestJournalFormat(t *testing.T) {
	var out bytes.Buffer
	l := newLog(t, Options{Stderr: &out, Journal: true})
	l.Log(pool.Error, "S-0x2", "two\nlines")
	l.Log(pool.Info, "", "up")
	l.Flush()
	if got, want := out.String(), "<3>ERROR S-0x2 two\n<3>\tlines\n<6>LOG up\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLevels(t *testing.T) {
	for verbose, want := range []string{"LOG", "LOG DEBUG", "LOG DEBUG NOISE", "LOG DEBUG NOISE"} {
		var out bytes.Buffer
		l := newLog(t, Options{Stderr: &out, Journal: true})
		if err := l.Configure("", verbose); err != nil {
			t.Fatal(err)
		}
		for _, level := range []pool.Level{pool.Info, pool.Debug, pool.Noise} {
			before := l.Enabled(level)
			l.Printf(level, "%d", verbose)
			l.Flush()
			if got := strings.Contains(out.String(), names[level]); got != before {
				t.Errorf("verbose %d: Enabled(%s) = %v, written: %v", verbose, names[level], before, got)
			}
		}
		var got []string
		for line := range strings.Lines(out.String()) {
			got = append(got, strings.Fields(line[len("<6>"):])[0])
		}
		if strings.Join(got, " ") != want {
			t.Errorf("verbose %d wrote %v, want %s", verbose, got, want)
		}
	}
}

// With neither a file nor a standard error nothing is enabled, so that nobody
// makes up lines for no reader.
func TestQuiet(t *testing.T) {
	l := newLog(t, Options{})
	if l.Enabled(pool.Fatal) {
		t.Error("a log without an output is enabled")
	}
	l.Log(pool.Fatal, "", "nobody hears")
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pgweir.log")
	var stderr bytes.Buffer
	l := newLog(t, Options{Stderr: &stderr})
	configure := func(path string) {
		t.Helper()
		if err := l.Configure(path, 0); err != nil {
			t.Fatal(err)
		}
	}
	read := func(path string) string {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}

	configure(path)
	l.Log(pool.Info, "", "first")
	l.Flush()
	rotated := path + ".1"
	if err := os.Rename(path, rotated); err != nil {
		t.Fatal(err)
	}
	l.Log(pool.Info, "", "second")
	l.Flush()
	configure(path)
	l.Flush() // the change of files is behind this
	l.Log(pool.Info, "", "third")
	l.Flush()
	if got := read(rotated); !strings.Contains(got, "LOG first\n") || !strings.HasSuffix(got, "LOG second\n") {
		t.Errorf("before the rotation: %q", got)
	}
	if got := read(path); !strings.HasSuffix(got, "LOG third\n") || strings.Contains(got, "second") {
		t.Errorf("after the rotation: %q", got)
	}

	missing := filepath.Join(t.TempDir(), "no", "such", "folder")
	if err := l.Configure(missing, 2); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), missing) {
		t.Errorf("a file that can't be opened: %v", err)
	}
	if l.Enabled(pool.Debug) {
		t.Error("a Configure that failed changed the level")
	}

	configure("")
	l.Log(pool.Info, "", "fourth")
	l.Flush()
	if got := read(path); strings.Contains(got, "fourth") {
		t.Errorf("after logfile was taken away: %q", got)
	}
	for _, word := range []string{"first", "second", "third", "fourth"} {
		if !strings.Contains(stderr.String(), word) {
			t.Errorf("standard error misses %s", word)
		}
	}
}

// gate is an output that takes nothing until it is opened.
type gate struct {
	open    chan struct{}
	written bytes.Buffer
}

func (g *gate) Write(p []byte) (int, error) {
	<-g.open
	return g.written.Write(p)
}

// An output that stalls costs lines, which are counted, and never time.
func TestStalledOutput(t *testing.T) {
	const lines = 20_000
	text := strings.Repeat("x", 100)
	g := &gate{open: make(chan struct{})}
	l := newLog(t, Options{Stderr: g})
	for range lines {
		l.Log(pool.Info, "", text) // would hang here
	}
	close(g.open)
	l.Flush()
	got := g.written.String()
	written := strings.Count(got, text)
	if written == 0 || written == lines {
		t.Fatalf("%d of %d lines written, want some of them", written, lines)
	}
	if written*(len(text)+40) > 2*maxPending {
		t.Errorf("%d lines were kept, which is more than %d bytes", written, maxPending)
	}
	want := fmt.Sprintf("WARNING %d log lines lost: they came faster than they could be written\n", lines-written)
	if !strings.Contains(got, want) {
		t.Errorf("the report is missing: %s", want)
	}
}

// fullDisk is an output with room for some bytes, until more is made.
type fullDisk struct {
	mu      sync.Mutex
	room    int
	written bytes.Buffer
}

func (d *fullDisk) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := min(len(p), d.room)
	d.room -= n
	d.written.Write(p[:n])
	if n < len(p) {
		return n, syscall.ENOSPC
	}
	return n, nil
}

func (d *fullDisk) grow(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.room += n
}

func TestFullDisk(t *testing.T) {
	d := &fullDisk{room: 20}
	l := newLog(t, Options{Stderr: d, Journal: true})
	l.Log(pool.Info, "", "1")
	l.Flush()
	l.Log(pool.Info, "", "22222222222222222222")
	l.Flush()
	l.Log(pool.Info, "", "3")
	l.Flush()
	d.grow(1000)
	l.Log(pool.Info, "", "4")
	l.Flush()
	got := d.written.String()
	if want := "<6>LOG 4\n<4>WARNING 2 log lines lost: no space left on device\n"; !strings.HasSuffix(got, want) {
		t.Errorf("got %q, want it to end with %q", got, want)
	}
}

// Close writes everything.
func TestClose(t *testing.T) {
	var out bytes.Buffer
	l := newLog(t, Options{Stderr: &out})
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			for range 500 {
				l.Log(pool.Info, "C-0x1", "closing because: client close request")
			}
		})
	}
	writers.Wait()
	l.Close()
	l.Log(pool.Info, "", "too late")
	l.Close()
	if n := strings.Count(out.String(), "\n"); n != 4000 {
		t.Errorf("%d lines written, want 4000", n)
	}
}

func TestFatalIsWrittenAtOnce(t *testing.T) {
	var out bytes.Buffer
	l := newLog(t, Options{Stderr: &out})
	l.Log(pool.Fatal, "", "nowhere to listen on")
	if got := out.String(); !strings.HasSuffix(got, "FATAL nowhere to listen on\n") {
		t.Errorf("got %q", got)
	}
}

// discard is io.Discard without its shortcuts.
type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func TestAllocs(t *testing.T) {
	l := newLog(t, Options{Stderr: discard{}})
	log := func() {
		l.Log(pool.Info, "C-0x1: db/user@127.0.0.1:5000", "login attempt: db=db user=user tls=no")
		l.Flush()
	}
	log()
	idle := testing.AllocsPerRun(100, l.Flush)
	if n := testing.AllocsPerRun(100, log) - idle; n > 0.5 {
		t.Errorf("%.1f allocations a line", n)
	}
}

func BenchmarkLog(b *testing.B) {
	l := New(Options{Stderr: discard{}, PID: 4711})
	defer l.Close()
	b.ReportAllocs()
	for b.Loop() {
		l.Log(pool.Info, "C-0x1: db/user@127.0.0.1:5000", "login attempt: db=db user=user tls=no")
	}
}

func TestUnderJournal(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var st syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	for stream, want := range map[string]bool{
		"":                                     false,
		"1:1:1":                                false,
		fmt.Sprintf("%d:%d", st.Dev, st.Ino):   true,
		fmt.Sprintf("%d:%d", st.Dev, st.Ino+1): false,
	} {
		if got := UnderJournal(stream, f); got != want {
			t.Errorf("UnderJournal(%q) = %v", stream, got)
		}
	}
}
