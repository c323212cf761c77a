package main

import (
	"golang.org/x/sys/unix"

	"github.com/pgweir/pgweir/configs"
)

// systemOptions are described in tcp(7).
var systemOptions = []sockopt{
	{"tcp_keepidle", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, func(m *configs.Main) int { return m.TCPKeepIdle }, zeroIsOwn},
	{"tcp_keepintvl", unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, func(m *configs.Main) int { return m.TCPKeepIntvl }, zeroIsOwn},
	{"tcp_keepcnt", unix.IPPROTO_TCP, unix.TCP_KEEPCNT, func(m *configs.Main) int { return m.TCPKeepCnt }, zeroIsOwn},
	{"tcp_user_timeout", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, func(m *configs.Main) int { return m.TCPUserTimeout }, zeroIsValue},
	{"tcp_defer_accept", unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, func(m *configs.Main) int { return oneIf(m.TCPDeferAccept) }, zeroIsValue},
}

// sharePort lets several processes listen on one port; the kernel spreads the
// clients over them (so_reuseport).
func sharePort(fd int) error {
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
}
