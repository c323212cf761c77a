package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"syscall"
)

// daemonEnv, in the environment, is the descriptor of the pipe on which the
// daemon answers to the process that started it.
const daemonEnv = "PGWEIR_DAEMON_PIPE"

// started is all that a daemon writes to the pipe when it serves. Anything else
// is why it doesn't.
const started = "\x06"

// daemonize starts this program again with the same arguments, in a session of
// its own and away from the terminal, and waits until it serves. Go can't fork
// a process that has threads; this way, unlike PgBouncer's, whatever keeps the
// daemon from starting is seen here.
func daemonize(stderr io.Writer) error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("daemon: %w", err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("daemon: %w", err)
	}
	defer read.Close()
	cmd := exec.CommandContext(context.Background(), program)
	cmd.Args = os.Args
	cmd.ExtraFiles = []*os.File{write} // becomes descriptor 3
	cmd.Env = append(os.Environ(), daemonEnv+"=3")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start() // standard input and output are /dev/null
	if err = errors.Join(err, write.Close()); err != nil {
		return fmt.Errorf("daemon: %w", err)
	}
	answer, err := io.ReadAll(read)
	switch {
	case err != nil:
		return fmt.Errorf("daemon: %w", err)
	case string(answer) == started:
		return cmd.Process.Release()
	}
	if _, err := stderr.Write(answer); err != nil {
		return err
	}
	if err := cmd.Wait(); len(answer) == 0 {
		return fmt.Errorf("daemon: it ended without a word: %v", err)
	}
	return errSilent
}

// parent is the process that waits for this one, the daemon, to serve. nil is
// none: this process is no daemon.
type parent struct{ pipe *os.File }

// parentProcess finds the parent in the environment, once. Until told
// otherwise it gets the trace if the process crashes.
func parentProcess() *parent {
	fd, err := strconv.Atoi(os.Getenv(daemonEnv))
	if err != nil {
		return nil
	}
	_ = os.Unsetenv(daemonEnv)
	syscall.CloseOnExec(fd)
	p := &parent{os.NewFile(uintptr(fd), "pipe to the parent")}
	_ = debug.SetCrashOutput(p.pipe, debug.CrashOptions{})
	return p
}

// serving tells the parent to go. It may be gone already.
func (p *parent) serving() {
	if p != nil {
		_, _ = p.pipe.WriteString(started)
		_ = p.pipe.Close()
	}
}

// failed tells the parent why this process ends.
func (p *parent) failed(text string) {
	_, _ = fmt.Fprintln(p.pipe, text)
	_ = p.pipe.Close()
}
