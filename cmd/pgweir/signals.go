package main

import (
	"fmt"
	"os"
	"syscall"

	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool"
)

// handled are the signals that mean something, see signalled.
var handled = []os.Signal{
	syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2,
}

// signalled does what a signal asks for, as PgBouncer does since 1.23:
//
//	SIGTERM  SHUTDOWN WAIT_FOR_CLIENTS, or what sigterm_mode says; again, or
//	         after SIGINT: at once
//	SIGINT   SHUTDOWN WAIT_FOR_SERVERS; again, or after SIGTERM: at once
//	SIGQUIT  SHUTDOWN at once
//	SIGHUP   RELOAD
//	SIGUSR1  PAUSE
//	SIGUSR2  RESUME
func (p *process) signalled(s syscall.Signal) {
	say := func(text string) { p.log.Log(pool.Info, "", "got "+names[s]+text) }
	shutdown := func(mode pool.ShutdownMode, what string) {
		if p.Stopping() {
			say(" while shutting down, fast exit")
			p.Shutdown(pool.ShutdownImmediate)
			return
		}
		say(", shutting down, " + what)
		p.notify.stopping()
		p.Shutdown(mode)
	}
	switch s {
	case syscall.SIGTERM:
		switch m := p.Snapshot().Main; m.SigtermMode {
		case configs.SigtermDrain:
			shutdown(pool.ShutdownDrain, fmt.Sprintf("closing clients between transactions, within %v", m.SigtermGrace))
		case configs.SigtermWaitForServers:
			shutdown(pool.ShutdownWaitForServers, waitForServers)
		default:
			shutdown(pool.ShutdownWaitForClients, "waiting for all clients disconnect")
		}
	case syscall.SIGINT:
		shutdown(pool.ShutdownWaitForServers, waitForServers)
	case syscall.SIGQUIT:
		say(", fast exit")
		p.Shutdown(pool.ShutdownImmediate)
	case syscall.SIGHUP:
		say(", re-reading config")
		go p.chore(p.reloadForManager) // files may be slow, and signals must not wait
	case syscall.SIGUSR1:
		if p.Pause(closed, "") != nil {
			say(", but already paused/suspended")
			return
		}
		say(", pausing all activity")
	case syscall.SIGUSR2:
		switch {
		case p.Stopping():
			say(" while shutting down, ignoring")
		case p.Resume("") != nil:
			say(", but not paused/suspended")
		default:
			say(", continuing from PAUSE")
		}
	}
}

const waitForServers = "waiting for all servers connections to be released"

// reloadForManager reloads and keeps the service manager informed. What goes
// wrong is in the log.
func (p *process) reloadForManager() {
	p.notify.reloading()
	_ = p.Reload()
	p.notify.ready()
}

var names = map[syscall.Signal]string{
	syscall.SIGTERM: "SIGTERM", syscall.SIGINT: "SIGINT", syscall.SIGQUIT: "SIGQUIT",
	syscall.SIGHUP: "SIGHUP", syscall.SIGUSR1: "SIGUSR1", syscall.SIGUSR2: "SIGUSR2",
}

// closed makes Pause return without waiting for the servers in use.
var closed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()
