package main

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool"
)

// firstPassed is the first descriptor that a service manager passes on, as
// sd_listen_fds(3) has it.
const firstPassed = 3

// passedSockets is how many sockets the service manager has passed to this
// process: they are the descriptors from firstPassed on. The environment is not
// to tell the processes that come after.
func passedSockets() (n int, err error) {
	pid, count := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS")
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		if err := os.Unsetenv(name); err != nil {
			return 0, err
		}
	}
	if count == "" || pid != strconv.Itoa(os.Getpid()) {
		return 0, nil // meant for another process, or for nobody
	}
	if n, err = strconv.Atoi(count); err != nil || n < 0 {
		return 0, fmt.Errorf("LISTEN_FDS=%s is not a number of sockets", count)
	}
	return n, nil
}

// adopt takes over n sockets of the service manager, in the place of those that
// listen would open.
func adopt(n int, m *configs.Main, log pool.Logger) (*listeners, error) {
	ls := &listeners{log: log}
	for fd := firstPassed; fd < firstPassed+n; fd++ {
		if err := ls.adopt(fd, m); err != nil {
			return nil, fmt.Errorf("socket passed from service manager (fd %d): %w", fd, err)
		}
		log.Log(pool.Info, "", fmt.Sprintf("socket passed from service manager (fd %d)", fd))
	}
	for key, set := range map[string]bool{"listen_addr": len(m.ListenAddr) > 0, "unix_socket_dir": m.UnixSocketDir != ""} {
		if set {
			log.Log(pool.Warning, "", key+" is not listened on: the service manager has passed sockets")
		}
	}
	return ls, nil
}

// adopt takes over one of them.
func (ls *listeners) adopt(fd int, m *configs.Main) error {
	listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	if listens == 0 || kind != unix.SOCK_STREAM {
		return fmt.Errorf("it is no stream socket that listens; in systemd's socket unit, use ListenStream and no Accept")
	}
	address, err := unix.Getsockname(fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	unix.CloseOnExec(fd)
	l := &listener{fd: fd}
	switch address.(type) {
	case *unix.SockaddrInet4, *unix.SockaddrInet6:
		l.own = readOwn(fd)
		ls.warn(l.own.tune(fd, m))
		ls.tcp = append(ls.tcp, l)
	case *unix.SockaddrUnix:
	default:
		return fmt.Errorf("it is neither a TCP nor a unix socket")
	}
	ls.all = append(ls.all, l)
	return nil
}
