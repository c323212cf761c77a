package dial_test

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgweir/pgweir/pool/dial"
)

// TestOptions reads back what is set on the socket that a loop gets.
func TestOptions(t *testing.T) {
	get := func(fd, level, name int) int {
		t.Helper()
		v, err := unix.GetsockoptInt(fd, level, name)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	connect := func(o dial.Options) int {
		t.Helper()
		s := newScript(t, "tcp", "127.0.0.1:0", sends([]byte(authOK+ready)))
		r := s.request()
		r.Options = o
		session, err := dial.Connect(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(session.Close)
		return session.Socket.FD
	}
	type option struct{ level, name int }
	system := connect(dial.Options{})
	alive := connect(dial.Options{Keepalive: true})
	all := connect(dial.Options{
		Keepalive: true, Idle: 71 * time.Second, Interval: 13 * time.Second, Count: 7,
		UserTimeout: 4321 * time.Millisecond, Buffer: 32 << 10,
	})
	for _, test := range []struct {
		name   string
		option option
		system int // -1: whatever it is
		alive  int // -1: as the system's
		all    int
	}{
		{"TCP_NODELAY", option{unix.IPPROTO_TCP, unix.TCP_NODELAY}, 1, 1, 1},
		{"SO_KEEPALIVE", option{unix.SOL_SOCKET, unix.SO_KEEPALIVE}, 0, 1, 1},
		{"TCP_KEEPIDLE", option{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE}, -1, -1, 71},
		{"TCP_KEEPINTVL", option{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL}, -1, -1, 13},
		{"TCP_KEEPCNT", option{unix.IPPROTO_TCP, unix.TCP_KEEPCNT}, -1, -1, 7},
		{"TCP_USER_TIMEOUT", option{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT}, 0, 0, 4321},
		{"SO_SNDBUF", option{unix.SOL_SOCKET, unix.SO_SNDBUF}, -1, -1, 64 << 10}, // Linux doubles
		{"SO_RCVBUF", option{unix.SOL_SOCKET, unix.SO_RCVBUF}, -1, -1, 64 << 10},
	} {
		bySystem := get(system, test.option.level, test.option.name)
		if test.system < 0 {
			test.system = bySystem
		}
		if test.alive < 0 {
			test.alive = test.system
		}
		byAlive := get(alive, test.option.level, test.option.name)
		byAll := get(all, test.option.level, test.option.name)
		if bySystem != test.system || byAll != test.all || byAlive != test.alive && test.option.level == unix.IPPROTO_TCP {
			t.Errorf("%s: %d, %d, %d; want %d, %d, %d", test.name, bySystem, byAlive, byAll, test.system, test.alive, test.all)
		}
	}
}
