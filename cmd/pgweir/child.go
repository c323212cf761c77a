package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// child is the command of `pgweir exec`, in a process group of its own.
type child struct {
	name    string
	pid     int
	process *os.Process
	done    chan struct{} // closed when it has ended

	// Valid from then on:
	state *os.ProcessState
}

// startChild starts the program at path with our standard files. If it is
// started from a terminal it gets the terminal, and with it what is typed there,
// Ctrl-C included. reaped is told the id of each orphan that has been reaped,
// from a goroutine of its own.
func startChild(path string, args, environ []string, reaped func(pid int)) (*child, error) {
	cmd := &exec.Cmd{
		Path: path, Args: args, Env: environ, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true},
	}
	if group, err := unix.IoctlGetInt(0, unix.TIOCGPGRP); err == nil && group == unix.Getpgrp() {
		cmd.SysProcAttr.Foreground = true // which means Setpgid
		cmd.SysProcAttr.Ctty = 0
	}
	endWithUs(cmd.SysProcAttr)
	c := &child{name: args[0], done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// What the kernel tells the child when its parent has died, it tells when
		// the thread has that started it: this one must stay.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			c.process, c.pid = cmd.Process, cmd.Process.Pid
		}
		started <- err
		if err == nil {
			_ = cmd.Wait() // the state tells
			c.state = cmd.ProcessState
			close(c.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("can't start it: %w", err)
	}
	go reapOrphans(c, reaped)
	return c, nil
}

// signal sends a signal to the command, not to its children: those are its own
// business. A command that runs as another user can't be told.
func (c *child) signal(s syscall.Signal) error {
	if err := c.process.Signal(s); !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// kill ends the command and all that is in its process group.
func (c *child) kill() { _ = syscall.Kill(-c.pid, syscall.SIGKILL) } // nobody may be left

// status is the exit status as a shell has it.
func (c *child) status() int {
	if w := c.state.Sys().(syscall.WaitStatus); w.Signaled() {
		return 128 + int(w.Signal())
	}
	return c.state.ExitCode()
}
