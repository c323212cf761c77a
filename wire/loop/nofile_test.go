//go:build !freebsd

// The Rlimit of FreeBSD has other types.

package loop

import (
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/pgweir/pgweir/wire"
	"golang.org/x/sys/unix"
)

// TestListenerOutOfDescriptors takes all descriptors away, and gives them back.
func TestListenerOutOfDescriptors(t *testing.T) {
	errs := make(chan error, 10)
	fd, addr := listening(t, "tcp", "127.0.0.1:0")
	l := start(t, Options{OnError: func(err error) { errs <- err }})
	accepted := make(chan wire.Socket, 10)
	listen(t, l, fd, func(s wire.Socket) { accepted <- s })

	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	held, release := make(chan struct{}), make(chan struct{})
	l.Post(func() { close(held); <-release })
	<-held
	c, err := net.Dial("tcp", addr.String()) // waits in the backlog
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	lowest, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(lowest)
	tight := limit
	tight.Cur = uint64(lowest)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &tight); err != nil {
		t.Fatal(err)
	}
	close(release)
	err = <-errs
	if restored := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); restored != nil {
		t.Fatal(restored)
	}
	if !errors.Is(err, syscall.EMFILE) {
		t.Errorf("told %v", err)
	}
	on(t, l, func() { later(l, acceptPause-time.Second) })
	turns(t, l, 3)
	if len(accepted) > 0 || len(errs) > 0 {
		t.Error("it did not rest")
	}
	on(t, l, func() { later(l, time.Second) })
	rawClose((<-accepted).FD)

	// A listener that rests can be closed.
	var ln *Listener
	on(t, l, func() {
		ln = l.listeners[0]
		ln.rest(syscall.EMFILE)
		ln.Close()
		if n := l.Stats().Timers; n != 0 {
			t.Errorf("%d timers left", n)
		}
	})
}
