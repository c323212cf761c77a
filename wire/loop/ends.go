package loop

import (
	"io"
	"net/netip"
	"os"
	"strconv"
	"syscall"

	"github.com/pgweir/pgweir/wire"
	"golang.org/x/sys/unix"
)

// endsOf asks the kernel who is at the two ends of a socket, and returns them
// as a Socket. It fails once the peer is gone.
func endsOf(fd int) (wire.Socket, error) {
	s := wire.Socket{FD: fd, PeerUID: -1, PeerPID: -1}
	remote, err := unix.Getpeername(fd)
	if err != nil {
		return s, os.NewSyscallError("getpeername", err)
	}
	local, err := unix.Getsockname(fd)
	if err != nil {
		return s, os.NewSyscallError("getsockname", err)
	}
	if _, s.Unix = local.(*unix.SockaddrUnix); s.Unix {
		s.PeerUID, s.PeerPID = peerCredentials(fd)
		return s, nil
	}
	s.Remote, s.Local = addrPort(remote), addrPort(local)
	return s, nil
}

// addrPort translates a socket address; one that is not TCP's is the zero
// AddrPort.
func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return addrPort6(sa.Addr, uint16(sa.Port), sa.ZoneId)
	}
	return netip.AddrPort{}
}

// addrPort6 makes an address of IPv6's parts. An IPv4 client on an IPv6 socket
// comes out as the IPv4 client it is.
func addrPort6(addr [16]byte, port uint16, zone uint32) netip.AddrPort {
	ip := netip.AddrFrom16(addr).Unmap()
	if zone != 0 && ip.Is6() {
		ip = ip.WithZone(strconv.FormatUint(uint64(zone), 10))
	}
	return netip.AddrPortFrom(ip, port)
}

// pendingError is why the poller reported a hang-up: the error that waits on
// the socket, or io.EOF.
func (c *conn) pendingError() error {
	errno, err := unix.GetsockoptInt(int(c.fd), unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil || errno == 0 {
		return io.EOF
	}
	return os.NewSyscallError("read", syscall.Errno(errno))
}

// shutdownWrite tells the peer that no more bytes follow.
func shutdownWrite(fd int) error { return unix.Shutdown(fd, unix.SHUT_WR) }
