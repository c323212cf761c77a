package dial

import (
	"net"
	"strings"
	"syscall"
	"time"
)

// keepalive translates to package net, where 0 means its own defaults and a
// negative value the system's.
func (o Options) keepalive() net.KeepAliveConfig {
	system := func(d time.Duration) time.Duration {
		if d <= 0 {
			return -1
		}
		return d
	}
	count := o.Count
	if count <= 0 {
		count = -1
	}
	return net.KeepAliveConfig{Enable: o.Keepalive, Idle: system(o.Idle), Interval: system(o.Interval), Count: count}
}

// control sets the options that have to be there before the connection is: the
// window that buffers allow is agreed upon when connecting.
func (o Options) control(network, _ string, c syscall.RawConn) error {
	if !strings.HasPrefix(network, "tcp") {
		return nil
	}
	var failed error
	err := c.Control(func(fd uintptr) {
		if o.Buffer > 0 {
			for _, name := range []int{syscall.SO_SNDBUF, syscall.SO_RCVBUF} {
				if failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, name, o.Buffer); failed != nil {
					return
				}
			}
		}
		if o.UserTimeout > 0 {
			failed = setUserTimeout(int(fd), o.UserTimeout)
		}
	})
	if err != nil {
		return err
	}
	return failed
}
