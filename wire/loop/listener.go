package loop

import (
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pgweir/pgweir/wire"
	"golang.org/x/sys/unix"
)

// acceptMost bounds how many sockets one listener accepts in one turn: the
// others want their turn too, and so do the other loops of a shared listener.
const acceptMost = 8

// acceptPause is how long a listener rests after accept failed for want of
// descriptors or memory. PgBouncer rests as long.
const acceptPause = 5 * time.Second

// shared counts the loops that listen on each descriptor.
var shared struct {
	mu    sync.Mutex
	loops map[int]*atomic.Int32
}

// share counts a loop in on fd, or out with -1, and returns the counter.
func share(fd int, by int32) *atomic.Int32 {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	n := shared.loops[fd]
	if n == nil {
		n = new(atomic.Int32)
		if shared.loops == nil {
			shared.loops = map[int]*atomic.Int32{}
		}
		shared.loops[fd] = n
	}
	if n.Add(by) == 0 {
		delete(shared.loops, fd)
	}
	return n
}

// Listener is a listening descriptor on a loop.
type Listener struct {
	loop   *Loop
	fd     int
	slot   int32 // negative
	gen    uint32
	accept func(wire.Socket)
	loops  *atomic.Int32 // that listen on fd

	local   netip.AddrPort // of every socket, unless it is a wildcard
	unix    bool
	quota   int   // accepts in the next turn
	resting Timer // set while accept had failed
	closed  bool
}

// Listen puts the listening descriptor fd on the loop: accept is called there
// with every new socket, which it must attach, here or on another loop, or
// close. fd is made non-blocking and stays the caller's: several loops may
// share one, each with a Listen of its own, and whoever opened it closes it
// after the last [Listener.Close].
//
// TCP_NODELAY is set on a TCP listener: what is accepted inherits it, like
// everything else that the caller set on it.
//
// When accept fails because descriptors or memory are short, OnError is told
// and the listener rests for five seconds; clients meanwhile wait in the
// kernel's backlog, or go to another loop.
func (l *Loop) Listen(fd int, accept func(wire.Socket)) (*Listener, error) {
	if l.dead {
		return nil, ErrStopped
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return nil, os.NewSyscallError("getsockname", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	_, isUnix := sa.(*unix.SockaddrUnix)
	if !isUnix {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
			return nil, os.NewSyscallError("setsockopt", err)
		}
	}
	l.gen++
	ln := &Listener{loop: l, fd: fd, gen: l.gen, accept: accept, local: addrPort(sa), unix: isUnix, quota: 1}
	i := slices.Index(l.listeners, nil)
	if i < 0 {
		i = len(l.listeners)
		l.listeners = append(l.listeners, nil)
	}
	ln.slot = ^int32(i)
	if err := ln.watch(); err != nil {
		return nil, err
	}
	l.listeners[i] = ln
	ln.loops = share(fd, 1)
	return ln, nil
}

// Drain accepts all who have come so far: who is in the backlog when the
// descriptor is closed is turned away. It runs on the loop.
func (ln *Listener) Drain() {
	for !ln.closed && ln.next() == 0 {
	}
}

// Close takes the listener off its loop; accept is not called again. The
// descriptor stays open. It runs on the loop.
func (ln *Listener) Close() {
	if ln.closed {
		return
	}
	ln.closed = true
	if !ln.resting.Stop() {
		ln.loop.poll.remove(ln.fd)
	}
	ln.loop.listeners[^ln.slot] = nil
	share(ln.fd, -1)
}

// watch tells the poller to tell of clients.
func (ln *Listener) watch() error {
	return ln.loop.poll.add(ln.fd, key{ln.slot, ln.gen}, readable|exclusive)
}

// rest leaves clients in the backlog for a while.
func (ln *Listener) rest(err error) {
	ln.loop.poll.remove(ln.fd)
	ln.resting = ln.loop.After(acceptPause, func() {
		if err := ln.watch(); err != nil {
			ln.loop.report(err)
		}
	})
	ln.loop.report(err)
}

// yield lets the other loops go first when the next client comes. Of several
// loops that wait, the kernel wakes the one that has been on the listener for
// longest: without this, nine clients in ten end up on the first loop.
func (ln *Listener) yield() {
	if ln.loops.Load() < 2 {
		return
	}
	ln.loop.poll.remove(ln.fd)
	if err := ln.watch(); err != nil {
		ln.rest(err)
	}
}

// ready accepts who is there. A lone client costs one accept and one more turn
// to learn that it was alone; while there is a crowd the quota doubles.
func (ln *Listener) ready() {
	n := 0
	for ; n < ln.quota; n++ {
		errno := ln.next()
		if errno == syscall.EAGAIN {
			break
		}
		if errno != 0 {
			ln.rest(os.NewSyscallError("accept", errno))
			return
		}
		if ln.closed {
			return
		}
	}
	if n == ln.quota {
		ln.quota = min(2*n, acceptMost)
	} else {
		ln.quota = max(n, 1)
	}
	if n > 0 {
		ln.yield()
	}
}

// next accepts one socket.
func (ln *Listener) next() syscall.Errno {
	for {
		fd, remote, errno := rawAccept(ln.fd)
		ln.loop.stats.Accepts++
		switch errno {
		case 0:
			ln.accept(ln.socket(fd, remote))
			return 0
		case syscall.EINTR, syscall.ECONNABORTED:
		default:
			return errno
		}
	}
}

// socket describes an accepted descriptor.
func (ln *Listener) socket(fd int, remote netip.AddrPort) wire.Socket {
	s := wire.Socket{FD: fd, Remote: remote, Local: ln.local, Unix: ln.unix, PeerUID: -1, PeerPID: -1}
	if ln.unix {
		s.PeerUID, s.PeerPID = peerCredentials(fd)
	} else if ln.local.Addr().IsUnspecified() {
		if sa, err := unix.Getsockname(fd); err == nil {
			s.Local = addrPort(sa)
		}
	}
	return s
}
