package loop

import "golang.org/x/sys/unix"

// peerCredentials is the user and process at the other end of a unix socket,
// -1 where they are unknown: unix(7), SO_PEERCRED.
func peerCredentials(fd int) (uid, pid int) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return -1, -1
	}
	return int(cred.Uid), int(cred.Pid)
}
