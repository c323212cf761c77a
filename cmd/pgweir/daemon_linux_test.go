package main

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// daemon starts a pgweir with -d and returns its process id. The parent must
// have ended without a word.
func daemon(t *testing.T, in *instance, args ...string) (pid int) {
	t.Helper()
	in.start(append(args, "-d"))
	if status, stderr := in.end(); status != 0 || strings.TrimSpace(stderr) != "" {
		t.Fatalf("exit status %d, stderr:\n%s", status, stderr)
	}
	text, err := os.ReadFile(filepath.Join(in.dir, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	if pid, err = strconv.Atoi(strings.TrimSpace(string(text))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Kill(pid, unix.SIGKILL) })
	return pid
}

// awaitEnd waits for the end of a process that is no child of this one.
func awaitEnd(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(limit.Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		if n != 1 || err != nil {
			t.Fatalf("process %d has not ended: %v", pid, err)
		}
		return
	}
}

// prepareDaemon is prepare with a pidfile and a log file.
func prepareDaemon(t *testing.T) (in *instance, log string) {
	t.Helper()
	in = prepare(t, nil)
	log = filepath.Join(in.dir, "log")
	in.configure(map[string]string{"pidfile": filepath.Join(in.dir, "pid"), "logfile": log})
	return in, log
}

func TestDaemon(t *testing.T) {
	t.Parallel()
	in, log := prepareDaemon(t)
	pid := daemon(t, in)
	if sid, err := unix.Getsid(pid); err != nil || sid != pid {
		t.Errorf("the daemon %d is in session %d, %v", pid, sid, err)
	}
	for fd := range 3 {
		if path, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd)); err != nil || path != os.DevNull {
			t.Errorf("descriptor %d of the daemon is %s, %v", fd, path, err)
		}
	}
	if got := in.console().do(t, "SHOW VERSION")[""]; got != productVersion() {
		t.Errorf("SHOW VERSION = %q", got)
	}
	if err := unix.Kill(pid, unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	awaitEnd(t, pid)
	text, err := os.ReadFile(log)
	for _, line := range []string{fmt.Sprintf("[%d] LOG process up: ", pid), fmt.Sprintf("[%d] LOG got SIGINT", pid)} {
		if err != nil || !strings.Contains(string(text), line) {
			t.Errorf("the log file: %v, without %q:\n%s", err, line, text)
		}
	}
	for _, name := range []string{in.socket(), filepath.Join(in.dir, "pid")} {
		if _, err := os.Stat(name); !os.IsNotExist(err) {
			t.Errorf("%s is left over: %v", name, err)
		}
	}
}

// A daemon that crashes leaves its trace where somebody will look.
func TestDaemonCrashes(t *testing.T) {
	t.Parallel()
	in, log := prepareDaemon(t)
	pid := daemon(t, in)
	if err := unix.Kill(pid, unix.SIGABRT); err != nil {
		t.Fatal(err)
	}
	awaitEnd(t, pid)
	if text, err := os.ReadFile(log); err != nil || !strings.Contains(string(text), "SIGABRT: abort") || !strings.Contains(string(text), "goroutine ") {
		t.Errorf("the log file has no trace: %v\n%s", err, text)
	}
}

// What keeps a daemon from starting is told where it was started.
func TestDaemonFails(t *testing.T) {
	t.Parallel()
	in := prepare(t, nil)
	in.start([]string{"-d"})
	in.fails("FATAL daemon needs pidfile configured")

	busy := runInstance(t, nil)
	in, log := prepareDaemon(t)
	in.configure(map[string]string{
		"pidfile": filepath.Join(in.dir, "pid"), "logfile": log,
		"listen_port": strconv.Itoa(busy.port),
	})
	in.start([]string{"-d"})
	status, stderr := in.end()
	if want := os.Args[0] + ": failed to listen on any address in listen_addr list: 127.0.0.1\n"; status != 1 || stderr != want {
		t.Errorf("exit status %d, stderr %q, want %q", status, stderr, want)
	}
	if text, err := os.ReadFile(log); err != nil || !strings.Contains(string(text), "FATAL failed to listen") {
		t.Errorf("the log file: %v\n%s", err, text)
	}
}

// The settings' user takes part in everything from the log file on.
func TestUser(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root may become another user")
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Skip(err)
	}
	uid, _ := strconv.Atoi(nobody.Uid)
	gid, _ := strconv.Atoi(nobody.Gid)
	in, log := prepareDaemon(t)
	if err := os.Chown(in.dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	pid := daemon(t, in, "-u", "nobody")
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"Uid:" + strings.Repeat("\t"+nobody.Uid, 4), "Gid:" + strings.Repeat("\t"+nobody.Gid, 4)} {
		if !strings.Contains(string(status), line+"\n") {
			t.Errorf("no line %q in the status of the process:\n%s", line, status)
		}
	}
	for _, name := range []string{log, in.socket(), filepath.Join(in.dir, "pid")} {
		var info unix.Stat_t
		if err := unix.Stat(name, &info); err != nil || int(info.Uid) != uid {
			t.Errorf("%s belongs to user %d, %v, want %d", name, info.Uid, err, uid)
		}
	}
	// The console's owner is that user, and no longer root.
	if _, err := in.console().try("RELOAD"); err == nil || !strings.Contains(err.Error(), "admin access needed") {
		t.Errorf("RELOAD by root on the console of nobody's process: %v", err)
	}

	in = prepare(t, nil)
	in.start([]string{"--user=no such user"})
	in.fails("FATAL could not find user 'no such user': ")
}
