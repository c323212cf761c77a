package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestTerminate(t *testing.T) {
	t.Parallel()
	in := runInstance(t, nil)
	console := in.console()
	in.signal(syscall.SIGTERM)
	in.await("LOG got SIGTERM, shutting down, waiting for all clients disconnect")
	refuses(t, fmt.Sprintf("127.0.0.1:%d", in.port))

	// The console is still there for a look, and is waited for.
	second := in.console()
	if got := second.do(t, "SHOW VERSION")[""]; got != productVersion() {
		t.Errorf("SHOW VERSION = %q", got)
	}
	second.close()
	console.close()
	in.ends()
	if _, err := os.Stat(in.socket()); !os.IsNotExist(err) {
		t.Errorf("the unix socket is left over: %v", err)
	}
}

// The second signal, of either kind, waits for nobody.
func TestTerminateTwice(t *testing.T) {
	t.Parallel()
	for _, signals := range [][2]syscall.Signal{
		{syscall.SIGTERM, syscall.SIGTERM},
		{syscall.SIGTERM, syscall.SIGINT},
	} {
		in := runInstance(t, nil)
		console := in.console()
		in.signal(signals[0])
		in.await("waiting for all clients disconnect")
		in.signal(signals[1])
		in.await("LOG got " + names[signals[1]] + " while shutting down, fast exit")
		in.ends()
		console.gone(t)
	}
}

// SIGINT waits for servers only, and there are none.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	in := runInstance(t, nil)
	console := in.console()
	in.signal(syscall.SIGINT)
	in.await("LOG got SIGINT, shutting down, waiting for all servers connections to be released")
	in.ends()
	console.gone(t)
}

func TestQuit(t *testing.T) {
	t.Parallel()
	in := runInstance(t, nil)
	console := in.console()
	in.signal(syscall.SIGQUIT)
	in.await("LOG got SIGQUIT, fast exit")
	in.ends()
	console.gone(t)
	if _, err := os.Stat(in.socket()); !os.IsNotExist(err) {
		t.Errorf("the unix socket is left over: %v", err)
	}
}

func TestConsoleShutdown(t *testing.T) {
	t.Parallel()
	in := runInstance(t, nil)
	console := in.console()
	if _, err := console.try("SHUTDOWN"); err == nil {
		t.Error("SHUTDOWN was answered")
	}
	in.ends()
}

func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	in := runInstance(t, nil)
	console := in.console()
	for _, step := range []struct {
		signal syscall.Signal
		line   string
		paused string
	}{
		{syscall.SIGUSR2, "LOG got SIGUSR2, but not paused/suspended", "no"},
		{syscall.SIGUSR1, "LOG got SIGUSR1, pausing all activity", "yes"},
		{syscall.SIGUSR1, "LOG got SIGUSR1, but already paused/suspended", "yes"},
		{syscall.SIGUSR2, "LOG got SIGUSR2, continuing from PAUSE", "no"},
	} {
		in.signal(step.signal)
		in.await(step.line)
		if got := console.do(t, "SHOW STATE")["paused"]; got != step.paused {
			t.Errorf("after %q SHOW STATE says paused %q", step.line, got)
		}
	}
	in.signal(syscall.SIGTERM)
	in.await("waiting for all clients disconnect")
	in.signal(syscall.SIGUSR2)
	in.await("LOG got SIGUSR2 while shutting down, ignoring")
	console.close()
	in.ends()
}

func TestHangup(t *testing.T) {
	t.Parallel()
	manager := newManager(t)
	in := runInstance(t, map[string]string{"default_pool_size": "7"}, manager.env())
	manager.await("READY=1")
	console := in.console()
	poolSize := func() string { return console.do(t, "SHOW CONFIG")["default_pool_size"] }

	in.configure(map[string]string{"default_pool_size": "8"})
	in.signal(syscall.SIGHUP)
	in.await("LOG got SIGHUP, re-reading config")
	manager.awaitReload()
	if got := poolSize(); got != "8" {
		t.Errorf("default_pool_size = %s after a reload, want 8", got)
	}

	// A mistake: nothing changes, and the line is named.
	in.configure(map[string]string{"default_pool_size": "9", "pool_mode": "often"})
	line := lineOf(t, in.config, "pool_mode")
	in.signal(syscall.SIGHUP)
	in.await(fmt.Sprintf("config file loading failed: %s:%d: ", in.config, line))
	manager.awaitReload()
	if got := poolSize(); got != "8" {
		t.Errorf("default_pool_size = %s after a failed reload, want 8", got)
	}

	// So it is when a certificate can't be read.
	log := filepath.Join(in.dir, "log")
	in.configure(map[string]string{
		"default_pool_size": "9", "logfile": log, "verbose": "2",
		"client_tls_sslmode": "allow", "client_tls_cert_file": in.dir + "/missing.pem", "client_tls_key_file": in.dir + "/missing.key",
	})
	in.signal(syscall.SIGHUP)
	in.await("config file loading failed: TLS setup failed: client_tls_cert_file: cannot read")
	manager.awaitReload()
	if _, err := os.Stat(log); !os.IsNotExist(err) {
		t.Errorf("the log file of a failed reload: %v", err)
	}
	if got := poolSize(); got != "8" {
		t.Errorf("default_pool_size = %s after a reload without its certificate, want 8", got)
	}

	// And when the log file can't be opened.
	in.configure(map[string]string{"default_pool_size": "9", "client_tls_sslmode": "allow", "logfile": in.dir + "/missing/log"})
	in.signal(syscall.SIGHUP)
	in.await("config file loading failed: logfile: open " + in.dir + "/missing/log: no such file or directory")
	manager.awaitReload()
	if got := poolSize(); got != "8" {
		t.Errorf("default_pool_size = %s after a reload without its log file, want 8", got)
	}
	serves(t, "tcp", fmt.Sprintf("127.0.0.1:%d", in.port)) // without TLS

	in.signal(syscall.SIGTERM)
	manager.await("STOPPING=1")
	console.close()
	in.ends()
}

func TestLogRotation(t *testing.T) {
	t.Parallel()
	manager := newManager(t)
	in := prepare(t, nil)
	log, rotated := filepath.Join(in.dir, "log"), filepath.Join(in.dir, "log.1")
	in.configure(map[string]string{"logfile": log})
	in.start([]string{"-q"}, manager.env())
	manager.await("READY=1")
	if err := os.Rename(log, rotated); err != nil {
		t.Fatal(err)
	}
	in.signal(syscall.SIGHUP)
	manager.awaitReload()
	in.signal(syscall.SIGTERM)
	if status, stderr := in.end(); status != 0 || stderr != "\n" {
		t.Errorf("exit status %d, and with -q on stderr: %q", status, stderr)
	}
	for _, f := range []struct{ path, line string }{{rotated, "LOG process up: "}, {log, "LOG got SIGTERM"}} {
		if text, err := os.ReadFile(f.path); err != nil || !strings.Contains(string(text), f.line) {
			t.Errorf("%s: %v, without %q:\n%s", f.path, err, f.line, text)
		}
	}
}

// lineOf is the number of the line of the file that begins with text.
func lineOf(t *testing.T, path, text string) int {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(data), "\n") {
		if strings.HasPrefix(line, text) {
			return i + 1
		}
	}
	t.Fatalf("no line of %s begins with %q", path, text)
	return 0
}
