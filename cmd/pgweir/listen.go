package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/user"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/wire"
	"github.com/pgweir/pgweir/wire/loop"
)

// listeners are the sockets on which clients arrive. Every loop watches each
// of them, and the kernel wakes one of those that have nothing to do.
type listeners struct {
	log  pool.Logger
	file string // of the unix socket, "" without one

	mu  sync.Mutex
	tcp []*listener // nil from closeTCP on
	all []*listener
}

// listener is one of them.
type listener struct {
	fd  int
	own ownValues
	on  []*loop.Listener // one for each loop
}

// listen opens the sockets that m asks for. An address that can't be listened
// on is a warning, unless it was the last one; for the unix socket it is an
// error.
func listen(ctx context.Context, m *configs.Main, log pool.Logger) (*listeners, error) {
	ls := &listeners{log: log}
	if len(m.ListenAddr) == 0 && m.UnixSocketDir == "" {
		return nil, errors.New("nowhere to listen on: set listen_addr or unix_socket_dir")
	}
	for _, host := range m.ListenAddr {
		addrs, err := resolve(ctx, host)
		if err != nil {
			log.Log(pool.Warning, "", fmt.Sprintf("cannot listen on %s: %v", host, err))
		}
		for _, addr := range addrs {
			if err := ls.listenTCP(ctx, netip.AddrPortFrom(addr, uint16(m.ListenPort)), m); err != nil {
				return nil, errors.Join(err, ls.close())
			}
		}
	}
	if len(m.ListenAddr) > 0 && len(ls.tcp) == 0 {
		return nil, fmt.Errorf("failed to listen on any address in listen_addr list: %s", strings.Join(m.ListenAddr, ", "))
	}
	if m.UnixSocketDir != "" {
		if err := ls.listenUnix(ctx, m); err != nil {
			return nil, errors.Join(err, ls.close())
		}
	}
	return ls, nil
}

// resolve returns the addresses of a host in listen_addr.
func resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if host == "*" {
		return []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}, nil
	}
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// listenTCP opens a socket on addr. Only what concerns all addresses is an
// error.
func (ls *listeners) listenTCP(ctx context.Context, addr netip.AddrPort, m *configs.Main) error {
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	network := "tcp6" // of these sockets alone: IPV6_V6ONLY
	if addr.Addr().Is4() {
		network = "tcp4"
	}
	var own ownValues
	var untuned []error
	var unshared error
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			own = readOwn(int(fd))
			untuned = own.tune(int(fd), m)
			if m.SOReusePort {
				unshared = sharePort(int(fd))
			}
		})
	}}
	config.SetMultipathTCP(false) // its sockets know fewer options, and cost more
	ln, err := config.Listen(ctx, network, addr.String())
	if unshared != nil {
		return fmt.Errorf("so_reuseport: %w", unshared)
	}
	fd, bound := -1, net.Addr(nil)
	if err == nil {
		bound = ln.Addr()
		fd, err = detach(ln, m.ListenBacklog)
	}
	if err != nil {
		ls.log.Log(pool.Warning, "", fmt.Sprintf("cannot listen on %v: %v", addr, callOf(err)))
		return nil
	}
	ls.warn(untuned)
	l := &listener{fd: fd, own: own}
	ls.all, ls.tcp = append(ls.all, l), append(ls.tcp, l)
	ls.log.Log(pool.Info, "", fmt.Sprintf("listening on %v", bound))
	return nil
}

// listenUnix opens the unix socket, in the folder or in Linux's abstract name
// space.
func (ls *listeners) listenUnix(ctx context.Context, m *configs.Main) error {
	path := unixSocket(m)
	if most := len(unix.RawSockaddrUnix{}.Path) - 1; len(path) > most {
		return fmt.Errorf("unix_socket_dir: the name of the socket, %s, has %d bytes, and the system takes %d", path, len(path), most)
	}
	abstract := path[0] == '@'
	if !abstract {
		if _, err := os.Stat(path + ".lock"); err == nil {
			return fmt.Errorf("unix port %d is in use: %s.lock is there", m.ListenPort, path)
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("cannot remove the stale socket %s: %w", path, reason(err))
		}
		// Until the mode is set nobody else gets in.
		defer syscall.Umask(syscall.Umask(0o177))
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("cannot listen on unix:%s: %w", path, callOf(err))
	}
	fd, err := detach(ln, m.ListenBacklog)
	if err != nil {
		return fmt.Errorf("cannot listen on unix:%s: %w", path, callOf(err))
	}
	ls.all = append(ls.all, &listener{fd: fd})
	if !abstract {
		ls.file = path
		if err := permit(path, m); err != nil {
			return err
		}
	}
	ls.log.Log(pool.Info, "", "listening on unix:"+path)
	return nil
}

// unixSocket is the name of the unix socket.
func unixSocket(m *configs.Main) string {
	return fmt.Sprintf("%s/.s.PGSQL.%d", m.UnixSocketDir, m.ListenPort)
}

// permit gives the unix socket the group and the mode that m asks for.
func permit(path string, m *configs.Main) error {
	if m.UnixSocketGroup != "" {
		gid, err := groupID(m.UnixSocketGroup)
		if err != nil {
			return fmt.Errorf("unix_socket_group: %w", err)
		}
		if err := os.Chown(path, -1, gid); err != nil {
			return fmt.Errorf("unix_socket_group: chown %s to %s: %w", path, m.UnixSocketGroup, reason(err))
		}
	}
	if err := syscall.Chmod(path, uint32(m.UnixSocketMode)); err != nil {
		return fmt.Errorf("unix_socket_mode: chmod %s to %#o: %w", path, m.UnixSocketMode, err)
	}
	return nil
}

// groupID is the id of a group that is given by name or by id.
func groupID(group string) (int, error) {
	if gid, err := strconv.Atoi(group); err == nil {
		return gid, nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(g.Gid)
}

// unixSocketInUse reports whether somebody listens on the unix socket that m
// asks for.
func unixSocketInUse(m *configs.Main) bool {
	if m.UnixSocketDir == "" {
		return false
	}
	c, err := net.Dial("unix", unixSocket(m))
	if err != nil {
		return errors.Is(err, syscall.EAGAIN) // the backlog is full
	}
	_ = c.Close()
	return true
}

// detach takes the descriptor out of ln and gives it its backlog.
func detach(ln net.Listener, backlog int) (fd int, err error) {
	if fd, err = loop.DetachListener(ln); err != nil {
		return -1, err
	}
	if err := unix.Listen(fd, backlog); err != nil {
		loop.CloseListener(fd)
		return -1, os.NewSyscallError("listen", err)
	}
	return fd, nil
}

// callOf is the part of err that names the system call and what it said, as in
// "bind(): address already in use".
func callOf(err error) error {
	if e, ok := errors.AsType[*os.SyscallError](err); ok {
		return fmt.Errorf("%s(): %w", e.Syscall, e.Err)
	}
	return err
}

// attach puts the sockets on the loops, which don't run yet. accept(i) takes in
// the clients of loop i.
func (ls *listeners) attach(loops []*loop.Loop, accept func(i int) func(wire.Socket)) error {
	for _, l := range ls.all {
		for i, lp := range loops {
			on, err := lp.Listen(l.fd, accept(i))
			if err != nil {
				return fmt.Errorf("listen: %w", err)
			}
			l.on = append(l.on, on)
		}
	}
	return nil
}

// tune applies the tcp_ settings of m to the clients that are still to come.
func (ls *listeners) tune(m *configs.Main) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, l := range ls.tcp {
		ls.warn(l.own.tune(l.fd, m))
	}
}

func (ls *listeners) warn(errs []error) {
	for _, err := range errs {
		ls.log.Log(pool.Warning, "", err.Error())
	}
}

// closeTCP takes the TCP sockets off the loops and closes them, soon. closed is
// called when the last client that has come to them is on its loop. The unix
// socket stays, for the console. It may be called on a loop.
//
// With so_reuseport another process takes over, and whoever is not accepted yet
// is lost for both. While the kernel waits for a client's first bytes
// (tcp_defer_accept) it can't be accepted, so first there is an end to that.
func (ls *listeners) closeTCP(m *configs.Main, loops []*loop.Loop, closed func()) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	tcp := ls.tcp
	ls.tcp = nil
	if !m.SOReusePort || len(tcp) == 0 {
		closeAll(tcp, loops, closed)
		return
	}
	undeferred := *m
	undeferred.TCPDeferAccept = false
	for _, l := range tcp {
		ls.warn(l.own.tune(l.fd, &undeferred))
	}
	time.AfterFunc(deferred, func() { closeAll(tcp, loops, closed) })
}

// deferred is within which time the first bytes of a client come that has
// connected, if all goes well.
const deferred = 50 * time.Millisecond

// closeAll takes in who has come to the sockets in tcp, and closes them.
func closeAll(tcp []*listener, loops []*loop.Loop, closed func()) {
	onEach(loops, func(i int) {
		for _, l := range tcp {
			l.on[i].Drain()
			l.on[i].Close()
		}
	}, func() {
		for _, l := range tcp {
			loop.CloseListener(l.fd)
		}
		onEach(loops, func(int) {}, closed) // behind the clients that were handed over
	})
}

// onEach calls fn on every loop, and then after the last one. A loop that has
// stopped is passed over.
func onEach(loops []*loop.Loop, fn func(i int), then func()) {
	var left atomic.Int32
	left.Store(int32(len(loops)))
	done := func() {
		if left.Add(-1) == 0 {
			then()
		}
	}
	for i, lp := range loops {
		if !lp.Post(func() { fn(i); done() }) {
			done()
		}
	}
}

// removeFile removes the file of the unix socket.
func (ls *listeners) removeFile() error {
	if ls.file == "" {
		return nil
	}
	return os.Remove(ls.file)
}

// close undoes what listen did. It is of use only before attach.
func (ls *listeners) close() error {
	for _, l := range ls.all {
		loop.CloseListener(l.fd)
	}
	return ls.removeFile()
}
