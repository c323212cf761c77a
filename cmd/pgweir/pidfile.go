package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"syscall"
)

// pidfile is the path of the file with the process id; "" for none.
type pidfile string

// claim makes sure that no other process is named in the file. A file whose
// process is gone is removed, and stale is true. So is one that names this very
// process: in a container, where ids begin at 1 each time, it is left over.
func (p pidfile) claim() (stale bool, err error) {
	if p == "" {
		return false, nil
	}
	text, err := os.ReadFile(string(p))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("could not read pidfile '%s': %w", p, reason(err))
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(text)))
	if err != nil || pid <= 0 || pid != os.Getpid() && alive(pid) {
		return false, fmt.Errorf("pidfile '%s' exists, another instance running?", p)
	}
	if err := os.Remove(string(p)); err != nil {
		return false, fmt.Errorf("could not remove stale pidfile: %w", reason(err))
	}
	return true, nil
}

// alive reports whether there is a process pid, of whatever user.
func alive(pid int) bool { return syscall.Kill(pid, 0) != syscall.ESRCH }

// write makes the file, which must not exist. From then on remove is due.
func (p pidfile) write() error {
	if p == "" {
		return nil
	}
	f, err := os.OpenFile(string(p), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("could not open pidfile '%s': %w", p, reason(err))
	}
	_, err = fmt.Fprintln(f, os.Getpid())
	if err = errors.Join(err, f.Close()); err != nil {
		p.remove()
		return fmt.Errorf("could not write pidfile '%s': %w", p, reason(err))
	}
	return nil
}

// remove removes the file that write made.
func (p pidfile) remove() {
	if p != "" {
		_ = os.Remove(string(p)) // there is nobody left to tell
	}
}

// reason is the part of a file's error that doesn't repeat its path.
func reason(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}
