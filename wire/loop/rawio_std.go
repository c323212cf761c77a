//go:build !linux || race

package loop

import "syscall"

// rawSend writes to a socket. p must not be empty.
func rawSend(fd int, p []byte) (int, syscall.Errno) { return rawWrite(fd, p) }

// rawRecv reads from a socket. p must not be empty.
func rawRecv(fd int, p []byte) (int, syscall.Errno) {
	n, err := syscall.Read(fd, p)
	return n, errnoOf(err)
}

// rawWrite is write(2). p must not be empty.
func rawWrite(fd int, p []byte) (int, syscall.Errno) {
	n, err := syscall.Write(fd, p)
	return n, errnoOf(err)
}

// rawWritev writes the slices in order until the kernel is full.
func rawWritev(fd int, ps [][]byte) (sent int, errno syscall.Errno) {
	for _, p := range ps {
		n, errno := rawWrite(fd, p)
		if errno != 0 && sent > 0 {
			return sent, 0 // the next call meets it again
		}
		if errno != 0 {
			return 0, errno
		}
		if sent += n; n < len(p) {
			break
		}
	}
	return sent, 0
}

// rawClose is close(2). Its error is of no use: the descriptor is gone anyway.
func rawClose(fd int) { _ = syscall.Close(fd) }

// errnoOf unwraps what package syscall returns.
func errnoOf(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	return err.(syscall.Errno)
}
