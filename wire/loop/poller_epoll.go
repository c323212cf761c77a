//go:build linux && !pollloop

package loop

import (
	"os"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// poller waits for descriptors: epoll(7), and an eventfd(2) to be woken by.
type poller struct {
	epfd, evfd int
	events     []unix.EpollEvent
}

// open makes the poller ready to wait for up to maxEvents events at once.
func (p *poller) open(maxEvents int) error {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	evfd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		rawClose(epfd)
		return os.NewSyscallError("eventfd", err)
	}
	*p = poller{epfd: epfd, evfd: evfd, events: make([]unix.EpollEvent, maxEvents)}
	// Edge triggered: each write wakes once, and nobody need read the counter,
	// which at one write a nanosecond is full after 584 years.
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: wakeSlot}
	if err := unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, evfd, &ev); err != nil {
		p.close()
		return os.NewSyscallError("epoll_ctl", err)
	}
	return nil
}

// close releases the poller's descriptors.
func (p *poller) close() {
	rawClose(p.evfd)
	rawClose(p.epfd)
}

// add starts to watch fd. Events for it carry k.
func (p *poller) add(fd int, k key, want readiness) error {
	return p.ctl(unix.EPOLL_CTL_ADD, fd, k, want)
}

// set changes what fd is watched for.
func (p *poller) set(fd int, k key, want readiness) error {
	return p.ctl(unix.EPOLL_CTL_MOD, fd, k, want)
}

// remove stops to watch fd, which stays open.
func (p *poller) remove(fd int) {
	// It fails only for a descriptor that is not watched.
	_ = unix.EpollCtl(p.epfd, unix.EPOLL_CTL_DEL, fd, nil)
}

// forget stops to watch fd, which is about to be closed: the kernel does it.
func (p *poller) forget(int) {}

func (p *poller) ctl(op, fd int, k key, want readiness) error {
	ev := unix.EpollEvent{Fd: k.slot, Pad: int32(k.gen)}
	if want&hangup != 0 {
		ev.Events |= unix.EPOLLRDHUP
	}
	if want&readable != 0 {
		ev.Events |= unix.EPOLLIN
	}
	if want&writable != 0 {
		ev.Events |= unix.EPOLLOUT
	}
	if want&exclusive != 0 {
		ev.Events = unix.EPOLLIN | unix.EPOLLEXCLUSIVE // goes with few others
	}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(p.epfd, op, fd, &ev))
}

// wake ends a wait, the next one if there is none. It may be called from any
// goroutine.
func (p *poller) wake() {
	one := uint64(1)
	rawWrite(p.evfd, (*[8]byte)(unsafe.Pointer(&one))[:])
}

// wait waits for events, at most d (for ever if negative), and returns their
// number. For the first part, spin, the scheduler does not know that this
// goroutine sleeps: that spares it the handing over of a P and back. A stop of
// the world interrupts such a wait by its signal.
//
// There is no Gosched before the second part: it starts a thread to look for
// work each time, which made an idle process with three ticks a second ten
// times as expensive.
func (p *poller) wait(d, spin time.Duration) int {
	ms, first := millis(d), millis(spin)
	if ms >= 0 {
		first = min(first, ms)
	}
	if first > 0 || ms == 0 {
		n, errno := p.rawWait(first)
		for errno == syscall.EINTR {
			runtime.Gosched()
			n, errno = p.rawWait(first)
		}
		if errno != 0 {
			panic("BUG: epoll_wait: " + errno.Error())
		}
		if n > 0 || first == ms {
			return n
		}
		if ms > 0 {
			ms -= first
		}
	}
	n, err := unix.EpollWait(p.epfd, p.events, ms)
	if err != nil && err != syscall.EINTR {
		panic("BUG: epoll_wait: " + err.Error())
	}
	return max(n, 0)
}

// rawWait is epoll_wait(2) unknown to the scheduler.
func (p *poller) rawWait(ms int) (n int, errno syscall.Errno) {
	r, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.epfd),
		uintptr(unsafe.Pointer(&p.events[0])), uintptr(len(p.events)), uintptr(ms), 0, 0)
	return int(r), errno
}

// event returns the ith event of the last wait.
func (p *poller) event(i int) (key, readiness) {
	ev := &p.events[i]
	var r readiness
	if ev.Events&unix.EPOLLIN != 0 {
		r |= readable
	}
	if ev.Events&unix.EPOLLOUT != 0 {
		r |= writable
	}
	if ev.Events&unix.EPOLLRDHUP != 0 {
		r |= hangup
	}
	if ev.Events&(unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		r |= hangup | broken
	}
	return key{ev.Fd, uint32(ev.Pad)}, r
}
