//go:build linux && !race

package loop

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls below never sleep, their descriptors being non-blocking, so the
// scheduler need not know about them: that spares some 30 ns each. Those that
// copy are bounded by maxIO, since a stop of the world waits for them.

// rawRecv reads from a socket. p must not be empty. recvfrom(2) and sendto(2)
// go to the socket straight away, where read(2) and write(2) come by way of the
// file system: on a loopback connection that is some 2 % of both together.
func rawRecv(fd int, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), 0, 0, 0)
	return int(n), errno
}

// rawSend writes to a socket. p must not be empty.
func rawSend(fd int, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), unix.MSG_NOSIGNAL, 0, 0)
	return int(n), errno
}

// rawWrite is write(2). p must not be empty.
func rawWrite(fd int, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
	return int(n), errno
}

// rawWritev is writev(2) of at most maxVec slices, none of them empty.
func rawWritev(fd int, ps [][]byte) (int, syscall.Errno) {
	var vec [maxVec]unix.Iovec
	for i, p := range ps {
		vec[i].Base = &p[0]
		vec[i].SetLen(len(p))
	}
	n, _, errno := syscall.RawSyscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(&vec[0])), uintptr(len(ps)))
	return int(n), errno
}

// rawClose is close(2). Its error is of no use: the descriptor is gone anyway.
func rawClose(fd int) {
	syscall.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
}
