package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// syslogDaemon is what listens where programs look for syslog.
type syslogDaemon struct {
	t    *testing.T
	path string
	conn *net.UnixConn
}

func (d *syslogDaemon) listen() {
	d.t.Helper()
	var err error
	if d.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: d.path, Net: "unixgram"}); err != nil {
		d.t.Fatal(err)
	}
	conn := d.conn
	d.t.Cleanup(func() { conn.Close() })
}

// leave ends the daemon, as a restart of it does.
func (d *syslogDaemon) leave() {
	d.t.Helper()
	if err := d.conn.Close(); err != nil {
		d.t.Fatal(err)
	}
	if err := os.Remove(d.path); err != nil {
		d.t.Fatal(err)
	}
}

// await reads messages until one contains text, and returns it and those before.
func (d *syslogDaemon) await(text string) (last string, all []string) {
	d.t.Helper()
	if err := d.conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
		d.t.Fatal(err)
	}
	b := make([]byte, 10_000)
	for {
		n, err := d.conn.Read(b)
		if err != nil {
			d.t.Fatalf("no %q: %v; what came: %q", text, err, all)
		}
		all = append(all, string(b[:n]))
		if strings.Contains(string(b[:n]), text) {
			return string(b[:n]), all
		}
	}
}

// wants waits for a message with text and checks how it begins.
func (d *syslogDaemon) wants(priority int, tag, text string) {
	d.t.Helper()
	if got, _ := d.await(text); !strings.HasPrefix(got, fmt.Sprintf("<%d>", priority)) || !strings.Contains(got, " "+tag+": ") {
		d.t.Errorf("%q, want <%d> and %s", got, priority, tag)
	}
}

// withDev is a command that sees dir in the place of /dev.
func withDev(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	flags := []string{"-m"}
	if os.Geteuid() != 0 {
		flags = []string{"-U", "-r", "-m"}
	}
	script := []string{"sh", "-c", `mount --bind "$0" /dev && exec "$@"`, dir}
	if out, err := exec.Command("unshare", append(append(flags, script...), "true")...).CombinedOutput(); err != nil {
		t.Skipf("a process can't have a /dev of its own here: %v: %s", err, out)
	}
	return exec.Command("unshare", append(append(flags, script...), args...)...)
}

// TestSyslog has a process find the system's log where every program does, at
// /dev/log. It is a /dev of the process' own. Settings say as what messages come,
// and RELOAD changes that. A daemon that goes away, or takes nothing, costs lines
// and no client's time.
func TestSyslog(t *testing.T) {
	t.Parallel()
	settings := map[string]string{"syslog": "1", "syslog_ident": "bouncer", "syslog_facility": "local3", "verbose": "2"}
	in := prepare(t, settings)
	dev := filepath.Join(in.dir, "dev")
	if err := os.Mkdir(dev, 0o755); err != nil {
		t.Fatal(err)
	}
	daemon := &syslogDaemon{t: t, path: filepath.Join(dev, "log")}
	daemon.listen()
	in.cmd = withDev(t, dev, os.Args[0], in.config)
	in.cmd.Env = append(os.Environ(), asProgram+"=1", "NOTIFY_SOCKET=")
	in.launch()
	in.await("process up: ")
	tag := func(ident string) string { return fmt.Sprintf("%s[%d]", ident, in.cmd.Process.Pid) }
	const access = "pgbouncer access from unix socket"
	const local3, warning, err, info = 19 << 3, 4, 3, 6
	daemon.wants(local3|info, tag("bouncer"), "LOG process up: ")
	console := in.console()
	daemon.wants(local3|info, tag("bouncer"), "LOG C-0x")

	reload := func() {
		t.Helper()
		in.configure(settings)
		in.signal(syscall.SIGHUP)
		in.await("LOG got SIGHUP, re-reading config")
	}
	settings["pool_mode"] = "often"
	reload()
	daemon.wants(local3|err, tag("bouncer"), "ERROR config file loading failed: ")
	settings["pool_mode"] = "session"
	settings["min_pool_size"] = "-1"
	reload()
	daemon.wants(local3|warning, tag("bouncer"), "WARNING ")
	delete(settings, "min_pool_size")

	// Off and on again, as somebody else.
	settings["syslog"] = "0"
	reload()
	in.awaitConfig(console, "syslog", "0")
	in.console().do(t, "SHOW VERSION")
	in.await(access) // which is for the standard error alone
	settings["syslog"], settings["syslog_ident"], settings["syslog_facility"] = "1", "other", "AUTHPRIV"
	reload()
	in.awaitConfig(console, "syslog_ident", "other")
	in.console().do(t, "SHOW VERSION")
	const authpriv = 10 << 3
	_, all := daemon.await(tag("other"))
	for _, m := range all {
		if strings.Contains(m, access) && strings.Contains(m, tag("bouncer")) || strings.Contains(m, " DEBUG ") || strings.Contains(m, " NOISE ") {
			t.Errorf("the system's log has %q", m)
		}
	}
	in.console().do(t, "SHOW VERSION")
	daemon.wants(authpriv|info, tag("other"), access)

	// A daemon that is away, and comes back.
	daemon.leave()
	in.console().do(t, "SHOW VERSION")
	in.await(access)
	daemon.listen()
	in.console().do(t, "SHOW VERSION")
	daemon.wants(authpriv|info, tag("other"), access)

	// One that takes nothing: its socket is full, and everybody is served.
	for range 200 {
		c := in.console()
		c.do(t, "SHOW VERSION")
		c.close()
	}
	settings["syslog"] = "0"
	reload()
	in.awaitConfig(console, "syslog", "0")
	in.signal(syscall.SIGQUIT)
	in.ends()
}

// awaitConfig waits until a setting has that value.
func (in *instance) awaitConfig(c *console, key, want string) {
	in.t.Helper()
	for deadline := time.Now().Add(limit); c.do(in.t, "SHOW CONFIG")[key] != want; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			in.t.Fatalf("%s is not %s", key, want)
		}
	}
}
