// Package sandbox runs programs for tests, benchmarks and the demo in a
// temporary folder, so that nothing of them is left behind: neither a process
// nor a file, also when the process that asked for them is killed.
//
// Each Sandbox has a guard, a small shell outside of the caller's session. The
// guard reads a pipe that the caller holds open; when the caller is gone, for
// whatever reason, the pipe ends, and the guard ends the programs and removes
// the folder.
package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
)

// Sandbox is a temporary folder and the programs that run in it. All methods
// may be called from any goroutine.
type Sandbox struct {
	dir   string
	cred  *syscall.Credential
	guard *exec.Cmd
	pipe  io.WriteCloser // the guard's standard input

	mu     sync.Mutex
	procs  []*Process
	closed bool
}

// guardScript keeps the list of running programs, told by "+ pid" and "- pid"
// lines, and cleans up after the last line. Each program leads a process group
// of its own, so its children are reached as well. SIGQUIT is the quick and clean end
// of Postgres, PgBouncer and pgweir alike.
const guardScript = `
trap '' HUP INT QUIT TERM
pids=
while read -r verb pid; do
	case $verb in
	+) pids="$pids $pid" ;;
	-)
		rest=
		for p in $pids; do [ "$p" = "$pid" ] || rest="$rest $p"; done
		pids=$rest
		;;
	esac
done
for p in $pids; do kill -s QUIT -- "-$p" 2>/dev/null; done
for tick in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
	alive=
	for p in $pids; do kill -0 "$p" 2>/dev/null && alive="$alive $p"; done
	[ -n "$alive" ] || break
	sleep 0.1
done
for p in $pids; do kill -s KILL -- "-$p" 2>/dev/null; done
rm -rf -- "$1"
`

// New makes an empty sandbox below os.TempDir. The caller must Close it.
//
// When the caller is root, the folder and the programs belong to the user
// nobody, because Postgres and PgBouncer refuse to run as root.
func New() (*Sandbox, error) {
	dir, err := os.MkdirTemp("", "pgweir-")
	if err != nil {
		return nil, err
	}
	s := &Sandbox{dir: dir}
	if err := s.init(); err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("sandbox %s: %w", dir, err)
	}
	return s, nil
}

func (s *Sandbox) init() (err error) {
	if s.cred, err = unprivileged(); err != nil {
		return err
	}
	if err := s.give(s.dir); err != nil {
		return err
	}
	s.guard = exec.Command("/bin/sh", "-c", guardScript, "pgweir-guard", s.dir)
	s.guard.Dir = "/"
	s.guard.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if s.pipe, err = s.guard.StdinPipe(); err != nil {
		return err
	}
	return s.guard.Start()
}

// unprivileged returns the user that programs run as, nil for the caller's own.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("nobody")
	if err != nil {
		return nil, fmt.Errorf("running as root needs the user nobody: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// give makes path belong to the programs' user.
func (s *Sandbox) give(path string) error {
	if s.cred == nil {
		return nil
	}
	return os.Chown(path, int(s.cred.Uid), int(s.cred.Gid))
}

// Path returns the absolute path of a file of the sandbox.
func (s *Sandbox) Path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

// User returns the name of the user that the programs run as.
func (s *Sandbox) User() string {
	uid := os.Getuid()
	if s.cred != nil {
		uid = int(s.cred.Uid)
	}
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return strconv.Itoa(uid)
	}
	return u.Username
}

// Mkdir makes a folder that only the programs' user may enter, and returns its
// path.
func (s *Sandbox) Mkdir(name string) (string, error) {
	path := s.Path(name)
	if err := os.Mkdir(path, 0o700); err != nil {
		return "", err
	}
	return path, s.give(path)
}

// WriteFile puts a file into the sandbox in one step (a reader sees the old
// content or the new one), and returns its path.
func (s *Sandbox) WriteFile(name string, data []byte) (string, error) {
	path := s.Path(name)
	next := path + ".next"
	if err := os.WriteFile(next, data, 0o600); err != nil {
		return "", err
	}
	if err := s.give(next); err != nil {
		return "", err
	}
	return path, os.Rename(next, path)
}

// Within returns a path under which the programs' user can read the tree at
// path: path itself where that is so already, otherwise a copy in the sandbox.
// A checkout below /root is such a case.
func (s *Sandbox) Within(path string) (string, error) {
	if s.cred == nil || open(path) {
		return path, nil
	}
	inside := s.Path(filepath.Base(path))
	if _, err := os.Stat(inside); err == nil {
		return inside, nil
	}
	// cp, not os.CopyFS: the trees hold symbolic links.
	if out, err := exec.Command("cp", "-R", "-P", path, inside).CombinedOutput(); err != nil {
		return "", fmt.Errorf("cp %s: %w: %s", path, err, out)
	}
	return inside, nil
}

// open reports whether every folder above path may be entered by everyone.
func open(path string) bool {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil || info.Mode()&0o001 == 0 {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
	}
}

// Close ends the programs, the last started first, each in its orderly way, and
// removes the folder. Closing twice is harmless.
func (s *Sandbox) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	procs := slices.Clone(s.procs)
	s.mu.Unlock()

	var errs []error
	for _, p := range slices.Backward(procs) {
		errs = append(errs, p.Stop())
	}
	// The end of the pipe is what tells the guard to remove the folder.
	return errors.Join(append(errs, s.pipe.Close(), s.guard.Wait())...)
}
