//go:build linux && !race

package loop

import (
	"math/bits"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rawAccept accepts a socket that is non-blocking and closed on exec, and tells
// who is at the other end.
func rawAccept(ln int) (fd int, remote netip.AddrPort, errno syscall.Errno) {
	var sa unix.RawSockaddrInet6 // the longest one that is looked at
	size := uint32(unsafe.Sizeof(sa))
	r, _, errno := syscall.RawSyscall6(unix.SYS_ACCEPT4, uintptr(ln), uintptr(unsafe.Pointer(&sa)),
		uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if errno != 0 {
		return -1, netip.AddrPort{}, errno
	}
	switch sa.Family {
	case unix.AF_INET:
		sa4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(&sa))
		remote = netip.AddrPortFrom(netip.AddrFrom4(sa4.Addr), hostOrder(sa4.Port))
	case unix.AF_INET6:
		remote = addrPort6(sa.Addr, hostOrder(sa.Port), sa.Scope_id)
	}
	return int(r), remote, 0
}

// hostOrder turns a port from the order of the network into that of the host.
func hostOrder(port uint16) uint16 {
	if probe := uint16(1); *(*byte)(unsafe.Pointer(&probe)) == 1 {
		return bits.ReverseBytes16(port)
	}
	return port
}
