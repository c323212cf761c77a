//go:build freebsd || (linux && pollloop)

package loop

import "golang.org/x/sys/unix"

// pollHangup asks poll(2) to tell of a peer that writes no more.
const pollHangup = unix.POLLRDHUP
