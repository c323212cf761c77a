package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/pgweir/pgweir/admin/logs"
	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool"
)

// serve runs a pooler until it is told to shut down. What keeps it from
// starting is logged, and then errSilent returned.
func serve(o options) error {
	parent := parentProcess()
	log := logs.New(logOptions(o.quiet || parent != nil))
	defer log.Close()
	err := start(o, parent, log)
	switch {
	case err == nil, err == errSilent:
		return err
	case parent != nil:
		parent.failed(fmt.Sprintf("%s: %v", os.Args[0], err))
	case !log.Enabled(pool.Fatal):
		return err // there is no log, and silence would help nobody
	}
	log.Log(pool.Fatal, "", err.Error())
	return errSilent
}

func logOptions(quiet bool) logs.Options {
	o := logs.Options{PID: os.Getpid()}
	if !quiet {
		o.Stderr = os.Stderr
		o.Journal = logs.UnderJournal(os.Getenv("JOURNAL_STREAM"), os.Stderr)
	}
	return o
}

// start goes through the start, in PgBouncer's order, and then waits for the
// end.
func start(o options, parent *parent, log *logs.Log) error {
	signal.Ignore(syscall.SIGPIPE)
	snap, err := load(o)
	if err != nil {
		return fmt.Errorf("cannot load config file: %w", err)
	}
	passed, err := passedSockets()
	if err != nil {
		return err
	}
	if o.daemon && parent == nil {
		if passed > 0 {
			return errors.New("-d goes not with sockets from a service manager, which runs processes in the background by itself")
		}
		if snap.Main.PidFile == "" {
			return errors.New("daemon needs pidfile configured")
		}
		warn(log, snap)
		return daemonize(os.Stderr)
	}
	if err := switchUser(snap.Main.User); err != nil {
		return err
	}
	if err := configureLog(log, &snap.Main); err != nil {
		return err
	}
	warn(log, snap)
	if os.Geteuid() == 0 {
		log.Log(pool.Warning, "", "running as root: give it a user of its own with the setting user, or -u")
	}
	if passed == 0 && unixSocketInUse(&snap.Main) {
		return errors.New("unix socket is in use, cannot continue")
	}
	pidfile := pidfile(snap.Main.PidFile)
	stale, err := pidfile.claim()
	if err != nil {
		return err
	}
	if stale {
		log.Log(pool.Info, "", "stale pidfile, removing")
	}
	if limits, err := openFiles(snap); err != nil {
		log.Log(pool.Error, "", err.Error())
	} else {
		log.Log(pool.Info, "", limits)
	}

	var sockets *listeners
	if passed > 0 {
		sockets, err = adopt(passed, &snap.Main, log)
	} else {
		sockets, err = listen(context.Background(), &snap.Main, log)
	}
	if err != nil {
		return err
	}
	defer sockets.removeFile()
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, handled...)
	p, err := newProcess(snap, sockets, log)
	if err != nil {
		return err
	}
	if err := pidfile.write(); err != nil {
		return err
	}
	defer pidfile.remove()
	stop := p.run()
	defer stop()
	log.Printf(pool.Info, "process up: %s, %s, %s, loops: %d", productVersion(), runtime.Version(), eventSource(), len(p.loops))
	p.notify.ready()
	parent.serving()
	for {
		select {
		case <-p.ended:
			return nil
		case s := <-signals:
			p.signalled(s.(syscall.Signal))
		}
	}
}

// load reads the configuration, and what the command line has to say to it.
func load(o options) (*configs.Snapshot, error) {
	snap, err := configs.Load(o.path)
	if err == nil && o.user != "" {
		snap, err = snap.Override("user", o.user)
	}
	if err == nil && o.verbose > 0 && !snap.IsSet("verbose") {
		snap, err = snap.Override("verbose", fmt.Sprint(o.verbose))
	}
	return snap, err
}

// warn logs what Load or Reload had to say.
func warn(log *logs.Log, snap *configs.Snapshot) {
	for _, w := range snap.Warnings {
		log.Log(pool.Warning, "", w.Error())
	}
}
