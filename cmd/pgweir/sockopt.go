package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/pgweir/pgweir/configs"
)

// sockopt is an option of TCP sockets that a setting governs. It is set on the
// listening socket: what is accepted from then on inherits it.
type sockopt struct {
	setting     string
	level, name int
	value       func(m *configs.Main) int
	zero        zero
}

// zero says what the value 0 asks for.
type zero uint8

const (
	zeroIsValue zero = iota // to be set like any other
	zeroIsOwn               // the kernel's own value, which can be put back
	zeroLeaves              // what there is: the kernel's own value can't be put back
)

// portableOptions are those that every system has. The sizes of the buffers
// can't be put back, since Linux stops adapting them once they are set.
var portableOptions = []sockopt{
	{"tcp_keepalive", unix.SOL_SOCKET, unix.SO_KEEPALIVE, func(m *configs.Main) int { return oneIf(m.TCPKeepalive) }, zeroIsValue},
	{"tcp_socket_buffer", unix.SOL_SOCKET, unix.SO_RCVBUF, func(m *configs.Main) int { return m.TCPSocketBuffer }, zeroLeaves},
	{"tcp_socket_buffer", unix.SOL_SOCKET, unix.SO_SNDBUF, func(m *configs.Main) int { return m.TCPSocketBuffer }, zeroLeaves},
}

// sockopts are the options of this system.
var sockopts = append(portableOptions, systemOptions...)

func oneIf(b bool) int {
	if b {
		return 1
	}
	return 0
}

// ownValues are the kernel's own values of sockopts, -1 where there is none.
type ownValues []int

// readOwn reads them from a socket on which nothing was set.
func readOwn(fd int) ownValues {
	own := make(ownValues, len(sockopts))
	for i, o := range sockopts {
		var err error
		if own[i], err = unix.GetsockoptInt(fd, o.level, o.name); err != nil {
			own[i] = -1
		}
	}
	return own
}

// tune sets the options on fd as m wants them, and returns what can't be set.
func (own ownValues) tune(fd int, m *configs.Main) (failed []error) {
	for i, o := range sockopts {
		v := o.value(m)
		if v == 0 && o.zero == zeroIsOwn {
			v = own[i]
		}
		if v < 0 || v == 0 && o.zero == zeroLeaves {
			continue
		}
		if err := unix.SetsockoptInt(fd, o.level, o.name, v); err != nil {
			failed = append(failed, fmt.Errorf("%s = %d: %w", o.setting, v, os.NewSyscallError("setsockopt", err)))
		}
	}
	return failed
}
