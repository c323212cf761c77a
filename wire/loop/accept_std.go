//go:build !linux || race

package loop

import (
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// rawAccept accepts a socket that is non-blocking and closed on exec, and tells
// who is at the other end.
func rawAccept(ln int) (fd int, remote netip.AddrPort, errno syscall.Errno) {
	syscall.ForkLock.RLock()
	fd, sa, err := unix.Accept(ln)
	if err == nil {
		unix.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return -1, netip.AddrPort{}, errnoOf(err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		rawClose(fd)
		return -1, netip.AddrPort{}, errnoOf(err)
	}
	return fd, addrPort(sa), 0
}
