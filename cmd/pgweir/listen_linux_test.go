package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/wire/loop"
)

// An address that is in use does not keep the others from being listened on.
// (All of 127.0.0.0/8 is there on Linux alone.)
func TestListeners(t *testing.T) {
	t.Parallel()
	in := prepare(t, map[string]string{"listen_addr": "127.0.0.1, 127.0.0.2, 127.0.0.3"})
	runInstance(t, map[string]string{"listen_addr": "127.0.0.2", "listen_port": fmt.Sprint(in.port)})
	in.start(nil)
	in.await(fmt.Sprintf("LOG listening on 127.0.0.1:%d", in.port))
	in.await(fmt.Sprintf("WARNING cannot listen on 127.0.0.2:%d: bind(): address already in use", in.port))
	in.await(fmt.Sprintf("LOG listening on 127.0.0.3:%d", in.port))
	in.await("LOG listening on unix:" + in.socket())
	in.await("process up")
	serves(t, "tcp", fmt.Sprintf("127.0.0.1:%d", in.port))
	serves(t, "tcp", fmt.Sprintf("127.0.0.3:%d", in.port))
	serves(t, "unix", in.socket())
	serves(t, "tcp", fmt.Sprintf("127.0.0.2:%d", in.port))
}

// Two processes on one port: one can be replaced while the other serves.
func TestReusePort(t *testing.T) {
	t.Parallel()
	first := runInstance(t, map[string]string{"so_reuseport": "1"})
	second := runInstance(t, map[string]string{"so_reuseport": "1", "listen_port": fmt.Sprint(first.port)})
	address := fmt.Sprintf("127.0.0.1:%d", first.port)
	serves(t, "tcp", address)
	first.signal(unix.SIGTERM)
	first.ends()
	serves(t, "tcp", address)
	second.signal(unix.SIGTERM)
	second.ends()
}

func TestAbstractSocket(t *testing.T) {
	t.Parallel()
	name := fmt.Sprintf("@pgweir-test-%d", os.Getpid())
	in := runInstance(t, map[string]string{"unix_socket_dir": name})
	address := fmt.Sprintf("%s/.s.PGSQL.%d", name, in.port)
	serves(t, "unix", address)
	second := prepare(t, map[string]string{"unix_socket_dir": name, "listen_port": fmt.Sprint(in.port)})
	second.start(nil)
	second.fails("FATAL unix socket is in use, cannot continue")
}

// What is accepted has the options of the settings, also of those that were
// changed meanwhile and of those that were taken back.
func TestSocketOptions(t *testing.T) {
	log := new(logged)
	port := freePort(t)
	settings := func(more string) *configs.Main {
		t.Helper()
		snap, err := configs.Parse("test", fmt.Sprintf("[pgbouncer]\nauth_type = any\nlisten_addr = 127.0.0.1\nlisten_port = %d\nunix_socket_dir =\n%s", port, more))
		if err != nil {
			t.Fatal(err)
		}
		return &snap.Main
	}
	ls, err := listen(context.Background(), settings(""), log)
	if err != nil {
		t.Fatal(err)
	}
	defer ls.close()
	l := ls.tcp[0]
	// A loop sets TCP_NODELAY, as it would here.
	lp, err := loop.New(loop.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lp.Listen(l.fd, nil); err != nil {
		t.Fatal(err)
	}
	defer lp.Run()
	defer lp.Stop()

	idle, interval, count := l.own[index("tcp_keepidle")], l.own[index("tcp_keepintvl")], l.own[index("tcp_keepcnt")]
	for _, test := range []struct {
		settings string
		want     map[int]int // by option of IPPROTO_TCP
		alive    int
	}{
		{"", map[int]int{unix.TCP_KEEPIDLE: idle, unix.TCP_KEEPINTVL: interval, unix.TCP_KEEPCNT: count, unix.TCP_USER_TIMEOUT: 0, unix.TCP_NODELAY: 1}, 1},
		{
			"tcp_keepidle = 11\ntcp_keepintvl = 12\ntcp_keepcnt = 13\ntcp_user_timeout = 14000\ntcp_defer_accept = 0",
			map[int]int{unix.TCP_KEEPIDLE: 11, unix.TCP_KEEPINTVL: 12, unix.TCP_KEEPCNT: 13, unix.TCP_USER_TIMEOUT: 14000, unix.TCP_NODELAY: 1},
			1,
		},
		{"tcp_keepalive = 0", map[int]int{unix.TCP_KEEPIDLE: idle, unix.TCP_KEEPINTVL: interval, unix.TCP_KEEPCNT: count, unix.TCP_USER_TIMEOUT: 0}, 0},
	} {
		m := settings(test.settings)
		ls.tune(m)
		if got, err := unix.GetsockoptInt(l.fd, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT); err != nil || (got > 0) != m.TCPDeferAccept {
			t.Errorf("%q: TCP_DEFER_ACCEPT = %d, %v", test.settings, got, err)
		}
		fd := accepted(t, l.fd, port)
		for name, want := range test.want {
			if got, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, name); err != nil || got != want {
				t.Errorf("%q: TCP option %d = %d, %v, want %d", test.settings, name, got, err, want)
			}
		}
		if got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE); err != nil || got != test.alive {
			t.Errorf("%q: SO_KEEPALIVE = %d, %v, want %d", test.settings, got, err, test.alive)
		}
	}

	// The kernel doubles the sizes of the buffers.
	ls.tune(settings("tcp_socket_buffer = 20000"))
	fd := accepted(t, l.fd, port)
	for _, name := range []int{unix.SO_RCVBUF, unix.SO_SNDBUF} {
		if got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, name); err != nil || got != 40_000 {
			t.Errorf("socket option %d = %d, %v, want 40000", name, got, err)
		}
	}

	ls.tune(settings("tcp_keepcnt = 1000"))
	if !log.has(pool.Warning, "tcp_keepcnt = 1000: setsockopt: invalid argument") {
		t.Errorf("no warning of what the kernel refuses in %q", log.lines)
	}
}

// TestSocketOptionsLive: a SET concerns the clients that come from then on.
func TestSocketOptionsLive(t *testing.T) {
	t.Parallel()
	in := runInstance(t, nil)
	console := in.console()
	for _, seconds := range []int{10_000, 20_000} {
		console.do(t, fmt.Sprintf("SET tcp_keepidle = %d", seconds))
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", in.port))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if answer, err := askOn(c); answer != 'N' || err != nil {
			t.Fatalf("answers %q, %v", answer, err)
		}
		if got := keepalive(t, in.port, c.LocalAddr().(*net.TCPAddr).Port); got < seconds-100 || got > seconds {
			t.Errorf("the first keepalive comes in %d s, want %d", got, seconds)
		}
	}
}

// keepalive is in how many seconds the kernel sends a keepalive from one port to
// another, as proc(5) tells it. While an answer is not acknowledged yet another
// timer runs in its place.
func keepalive(t *testing.T, local, remote int) int {
	t.Helper()
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		table, err := os.ReadFile("/proc/net/tcp")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(table)) {
			f := strings.Fields(line)
			if !strings.HasSuffix(f[1], fmt.Sprintf(":%04X", local)) || !strings.HasSuffix(f[2], fmt.Sprintf(":%04X", remote)) {
				continue
			}
			if when, is := strings.CutPrefix(f[5], "02:"); is {
				n, err := strconv.ParseInt(when, 16, 64)
				if err != nil {
					t.Fatal(err)
				}
				const perSecond = 100 // USER_HZ
				return int(n / perSecond)
			}
		}
	}
	t.Fatal("the kernel plans no keepalive")
	return 0
}

// index is the place of a setting's option.
func index(setting string) int {
	return slices.IndexFunc(sockopts, func(o sockopt) bool { return o.setting == setting })
}

// accepted connects to the listening socket fd and returns the accepted end.
func accepted(t *testing.T, fd, port int) int {
	t.Helper()
	client, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(client)
	if err := unix.Connect(client, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Write(client, []byte("x")); err != nil { // TCP_DEFER_ACCEPT
		t.Fatal(err)
	}
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(limit.Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	got, _, err := unix.Accept(fd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(got) })
	return got
}

// logged is a log that is kept.
type logged struct {
	mu    sync.Mutex
	lines []string
}

func (l *logged) Enabled(pool.Level) bool { return true }

func (l *logged) Log(level pool.Level, _, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprint(level, " ", text))
}

func (l *logged) has(level pool.Level, text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.lines, func(line string) bool { return strings.HasPrefix(line, fmt.Sprint(level, " ", text)) })
}
