package loop

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/pgweir/pgweir/wire"
	"golang.org/x/sys/unix"
)

// Detach takes the socket out of c, a TCP or unix connection of package net,
// so that a loop may attach it. c is closed in any case. Whatever was read
// from c before is the caller's business: see Early of [wire.Socket].
//
// Nobody may be within Read or Write of c. Options set on the socket, like
// keep-alive, stay set. A *tls.Conn has no descriptor to take: detach the
// connection below it.
func Detach(c net.Conn) (wire.Socket, error) {
	err := c.SetDeadline(time.Time{})
	if err != nil {
		return wire.Socket{}, errors.Join(fmt.Errorf("detach: %w", err), c.Close())
	}
	fd, err := takeFD(c)
	if err != nil {
		return wire.Socket{}, fmt.Errorf("detach %s: %w", c.RemoteAddr(), err)
	}
	s, err := endsOf(fd)
	if err != nil {
		rawClose(fd)
		return wire.Socket{}, fmt.Errorf("detach %s: %w", c.RemoteAddr(), err)
	}
	return s, nil
}

// DetachListener takes the listening descriptor out of ln, for [Loop.Listen].
// ln is closed in any case; the file of a unix listener stays. The caller
// closes the descriptor with [CloseListener].
func DetachListener(ln net.Listener) (fd int, err error) {
	if u, ok := ln.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	fd, err = takeFD(ln)
	if err != nil {
		return -1, fmt.Errorf("detach listener %s: %w", ln.Addr(), err)
	}
	return fd, nil
}

// CloseListener closes a listening descriptor, after the last Listener on it
// was closed.
func CloseListener(fd int) { rawClose(fd) }

// takeFD returns a duplicate of c's descriptor, closed on exec and unknown to
// the runtime's poller, and closes c. A duplicate made within Control keeps
// the socket non-blocking, which File would undo; and closing the original
// takes it out of the runtime's poller, which nothing else does.
func takeFD(c interface{ Close() error }) (fd int, err error) {
	fd = -1
	if sc, ok := c.(syscall.Conn); !ok {
		err = fmt.Errorf("%T has no descriptor", c)
	} else if raw, rerr := sc.SyscallConn(); rerr != nil {
		err = rerr
	} else if cerr := raw.Control(func(old uintptr) {
		fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0)
	}); cerr != nil {
		err = cerr
	}
	if err = errors.Join(err, c.Close()); err != nil && fd >= 0 {
		rawClose(fd)
		fd = -1
	}
	return fd, err
}
