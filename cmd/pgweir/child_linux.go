package main

import (
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// endWithUs has the kernel send the child SIGTERM when we die, by SIGKILL or a
// crash: it could do nothing without its database anyway, and would be left
// behind.
func endWithUs(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGTERM }

// adoptOrphans makes this process the parent of all that its descendants leave
// behind, as process 1 is in any case.
func adoptOrphans() {
	// Old kernels can't: then process 1 adopts them.
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
}

// How often to look for orphans that have ended, and for how long one must have
// been dead: whatever in this process has started a program itself waits for it,
// and is faster.
const (
	lookForOrphans = 5 * time.Second
	reapAfter      = 250 * time.Millisecond
)

// reapOrphans reaps children that nobody waits for, until c has ended.
func reapOrphans(c *child, reaped func(pid int)) {
	for last := 0; ; {
		next := lookForOrphans
		pid := deadChild()
		switch {
		case pid == 0 || pid == c.pid:
			last = 0
		case pid == last:
			if n, err := unix.Wait4(pid, nil, unix.WNOHANG, nil); n == pid && err == nil {
				reaped(pid)
			}
			fallthrough
		default:
			last, next = pid, reapAfter // there may be more behind it
		}
		select {
		case <-c.done:
			return
		case <-time.After(next):
		}
	}
}

// deadChild is the id of a child that has ended and was not waited for, 0 if
// there is none. It stays.
func deadChild() int {
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil); err != nil {
		return 0
	}
	// siginfo_t is three ints, and then, aligned as pointers are, a union that
	// begins with the id of the child.
	const align = unsafe.Sizeof(uintptr(0))
	const at = (3*4 + align - 1) / align * align
	return int(*(*int32)(unsafe.Add(unsafe.Pointer(&info), at)))
}
