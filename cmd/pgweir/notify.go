package main

import (
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// notifier tells the service manager how the process does, as sd_notify(3)
// describes it. It is the address of a datagram socket, from the environment's
// NOTIFY_SOCKET; "" means that nobody wants to know.
type notifier string

func (n notifier) ready()             { n.send("READY=1") }
func (n notifier) stopping()          { n.send("STOPPING=1") }
func (n notifier) status(text string) { n.send("STATUS=" + text) }

// reloading is to be followed by ready. The moment tells the manager which
// reload is meant (Type=notify-reload of systemd.service(5)).
func (n notifier) reloading() {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return
	}
	n.send(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", now.Nano()/int64(time.Microsecond)))
}

// send sends a message. The manager may be gone or busy; that is no reason to
// stop.
func (n notifier) send(state string) {
	if n == "" {
		return
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: string(n), Net: "unixgram"})
	if err != nil {
		return
	}
	defer c.Close()
	_ = c.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = c.Write([]byte(state))
}
