package loop

import "golang.org/x/sys/unix"

// solLocal is the level of options of unix sockets: unix(4).
const solLocal = 0

// peerCredentials is the user at the other end of a unix socket, -1 if it is
// unknown: unix(4), LOCAL_PEERCRED. The process always is.
func peerCredentials(fd int) (uid, pid int) {
	cred, err := unix.GetsockoptXucred(fd, solLocal, unix.LOCAL_PEERCRED)
	if err != nil {
		return -1, -1
	}
	return int(cred.Uid), -1
}
