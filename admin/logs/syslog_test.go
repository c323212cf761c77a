package logs

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgweir/pgweir/pool"
)

// TestSyslog has a system log of the test's own: priorities are facility and
// severity, what is lighter than Info stays out, and nothing goes there before
// and after the setting.
func TestSyslog(t *testing.T) {
	dir, err := os.MkdirTemp("", "pgweir")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "log")
	daemon, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer daemon.Close()
	if err := daemon.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	l := New(Options{PID: 1, SyslogNetwork: "unixgram", SyslogAddress: path})
	defer l.Close()
	if l.Enabled(pool.Error) {
		t.Error("enabled without any output")
	}
	l.Log(pool.Error, "", "before")
	if err := l.Syslog(Syslog{"local9", "bouncer"}); err == nil || !strings.Contains(err.Error(), "syslog_facility") {
		t.Errorf("local9: %v", err)
	}
	if err := l.Configure("", 2); err != nil {
		t.Fatal(err)
	}
	if err := l.Syslog(Syslog{"LOCAL3", "bouncer"}); err != nil {
		t.Fatal(err)
	}
	l.Log(pool.Noise, "", "too light")
	l.Log(pool.Info, "C-0x1: db/user", "hello")
	l.Log(pool.Warning, "", "two\nlines")
	l.Log(pool.Fatal, "", "the end")
	for _, want := range []string{"<158> LOG C-0x1: db/user hello", "<156> WARNING two", "<156> \tlines", "<154> FATAL the end"} {
		b := make([]byte, 1000)
		n, err := daemon.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		priority, text, _ := strings.Cut(want, " ")
		if got := strings.TrimSuffix(string(b[:n]), "\n"); !strings.HasPrefix(got, priority) || !strings.Contains(got, "bouncer[") || !strings.HasSuffix(got, "]: "+text) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if err := l.Syslog(Syslog{}); err != nil {
		t.Fatal(err)
	}
	if l.syslog.Load() != nil {
		t.Error("still there")
	}
}
