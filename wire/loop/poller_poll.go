//go:build darwin || freebsd || netbsd || openbsd || (linux && pollloop)

package loop

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// poller waits for descriptors: poll(2), and a pipe to be woken by. A wait
// costs time in proportion to the number of descriptors.
type poller struct {
	fds   []unix.PollFd // the pipe first
	keys  []key         // of each
	index map[int]int   // descriptor: its place in fds
	found []event       // by the last wait
	pipe  [2]int        // read end, write end
}

type event struct {
	k key
	r readiness
}

// open makes the poller ready to wait. It finds all events at once.
func (p *poller) open(int) error {
	var ends [2]int
	syscall.ForkLock.RLock()
	err := unix.Pipe(ends[:])
	if err == nil {
		unix.CloseOnExec(ends[0])
		unix.CloseOnExec(ends[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return os.NewSyscallError("pipe", err)
	}
	*p = poller{index: map[int]int{}, pipe: ends}
	for _, fd := range ends {
		if err := unix.SetNonblock(fd, true); err != nil {
			p.close()
			return os.NewSyscallError("fcntl", err)
		}
	}
	return p.add(ends[0], key{slot: wakeSlot}, readable)
}

// close releases the poller's descriptors.
func (p *poller) close() {
	rawClose(p.pipe[0])
	rawClose(p.pipe[1])
}

// add starts to watch fd. Events for it carry k.
func (p *poller) add(fd int, k key, want readiness) error {
	p.index[fd] = len(p.fds)
	p.fds = append(p.fds, unix.PollFd{Fd: int32(fd), Events: pollEvents(want)})
	p.keys = append(p.keys, k)
	return nil
}

// set changes what fd is watched for.
func (p *poller) set(fd int, _ key, want readiness) error {
	p.fds[p.index[fd]].Events = pollEvents(want)
	return nil
}

// remove stops to watch fd, which stays open.
func (p *poller) remove(fd int) {
	i, last := p.index[fd], len(p.fds)-1
	p.fds[i], p.keys[i] = p.fds[last], p.keys[last]
	p.index[int(p.fds[i].Fd)] = i
	delete(p.index, fd)
	p.fds, p.keys = p.fds[:last], p.keys[:last]
}

// forget stops to watch fd, which is about to be closed.
func (p *poller) forget(fd int) { p.remove(fd) }

// pollEvents translates what a descriptor is watched for.
func pollEvents(want readiness) int16 {
	events := int16(0)
	if want&hangup != 0 {
		events |= pollHangup
	}
	if want&readable != 0 {
		events |= unix.POLLIN
	}
	if want&writable != 0 {
		events |= unix.POLLOUT
	}
	return events
}

// wake ends a wait, the next one if there is none. It may be called from any
// goroutine.
func (p *poller) wake() {
	rawWrite(p.pipe[1], []byte{0})
}

// wait waits for events, at most d (for ever if negative), and returns their
// number.
func (p *poller) wait(d, _ time.Duration) int {
	p.found = p.found[:0]
	n, err := unix.Poll(p.fds, millis(d))
	if err == syscall.EINTR || n == 0 {
		return 0
	}
	if err != nil {
		panic("BUG: poll: " + err.Error())
	}
	for i := range p.fds {
		got := p.fds[i].Revents
		if got == 0 {
			continue
		}
		if i == 0 {
			var buf [64]byte
			_, _ = syscall.Read(p.pipe[0], buf[:])
			continue
		}
		var r readiness
		if got&unix.POLLIN != 0 {
			r |= readable
		}
		if got&unix.POLLOUT != 0 {
			r |= writable
		}
		if got&pollHangup != 0 {
			r |= hangup
		}
		if got&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0 {
			r |= hangup | broken
		}
		p.found = append(p.found, event{p.keys[i], r})
	}
	return len(p.found)
}

// event returns the ith event of the last wait.
func (p *poller) event(i int) (key, readiness) { return p.found[i].k, p.found[i].r }
