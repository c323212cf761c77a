package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// manager stands for systemd: it takes what a notifier sends.
type manager struct {
	t    *testing.T
	path string
	conn *net.UnixConn
}

func newManager(t *testing.T) *manager {
	t.Helper()
	dir, err := os.MkdirTemp("", "pgweir")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	m := &manager{t: t, path: filepath.Join(dir, "notify")}
	if m.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path, Net: "unixgram"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.conn.Close() })
	return m
}

func (m *manager) env() string { return "NOTIFY_SOCKET=" + m.path }

// await returns the next message, which must begin with text. Messages about
// the status are passed over, unless that is what it waits for.
func (m *manager) await(text string) string {
	m.t.Helper()
	if err := m.conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
		m.t.Fatal(err)
	}
	for {
		var b [4 << 10]byte
		n, err := m.conn.Read(b[:])
		if err != nil {
			m.t.Fatalf("the manager was not told %q: %v", text, err)
		}
		got := string(b[:n])
		if strings.HasPrefix(got, text) {
			return got
		}
		if !strings.HasPrefix(got, "STATUS=") {
			m.t.Fatalf("the manager was told %q, want %q", got, text)
		}
	}
}

// awaitReload waits for the messages around a reload.
func (m *manager) awaitReload() {
	m.t.Helper()
	m.await("RELOADING=1\nMONOTONIC_USEC=")
	m.await("READY=1")
}

func TestNotifier(t *testing.T) {
	m := newManager(t)
	n := notifier(m.path)
	n.ready()
	m.await("READY=1")
	n.reloading()
	m.await("RELOADING=1\nMONOTONIC_USEC=")
	n.status("stats: 1 xacts/s")
	if got := m.await("STATUS="); got != "STATUS=stats: 1 xacts/s" {
		t.Errorf("the manager was told %q", got)
	}
	n.stopping()
	m.await("STOPPING=1")

	notifier("").ready()
	notifier(m.path + ".gone").ready()
}

// Every stats_period a line is logged, and the manager told.
func TestStats(t *testing.T) {
	t.Parallel()
	manager := newManager(t)
	in := runInstance(t, map[string]string{"stats_period": "3600"}, manager.env())
	console := in.console()
	console.do(t, "SET stats_period = 1") // does not wait for the hour to end
	line := in.await("LOG stats: 0 xacts/s, 0 queries/s, ")
	_, stats, _ := strings.Cut(line, "LOG ")
	manager.await("READY=1")
	if got := manager.await("STATUS="); got != "STATUS="+stats {
		t.Errorf("the manager was told %q, the log %q", got, stats)
	}
}
