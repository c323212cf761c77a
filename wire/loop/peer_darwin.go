package loop

import "golang.org/x/sys/unix"

// peerCredentials is the user and process at the other end of a unix socket,
// -1 where they are unknown: unix(4), LOCAL_PEERCRED and LOCAL_PEERPID.
func peerCredentials(fd int) (uid, pid int) {
	uid, pid = -1, -1
	if cred, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED); err == nil {
		uid = int(cred.Uid)
	}
	if n, err := unix.GetsockoptInt(fd, unix.SOL_LOCAL, unix.LOCAL_PEERPID); err == nil {
		pid = n
	}
	return uid, pid
}
