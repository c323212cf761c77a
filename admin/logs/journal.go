//go:build unix

package logs

import (
	"fmt"
	"os"
	"syscall"
)

// UnderJournal reports whether f, the standard error, leads to journald.
// stream is the environment's JOURNAL_STREAM: device and inode of the journal's
// socket, with a colon between them (systemd.exec(5)).
func UnderJournal(stream string, f *os.File) bool {
	info, err := f.Stat()
	if err != nil || stream == "" {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && stream == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}
