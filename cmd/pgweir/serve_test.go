package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgweir/pgweir/integration/certificates"
)

func TestBadConfiguration(t *testing.T) {
	t.Parallel()
	in := prepare(t, map[string]string{"pool_mode": "often"})
	in.start(nil)
	in.fails(fmt.Sprintf("FATAL cannot load config file: %s:%d: ", in.config, lineOf(t, in.config, "pool_mode")))

	in = prepare(t, nil)
	if err := os.Remove(in.config); err != nil {
		t.Fatal(err)
	}
	in.start(nil)
	in.fails("FATAL cannot load config file: ", in.config)
}

// What check warns of is logged at the start.
func TestWarnings(t *testing.T) {
	t.Parallel()
	in := prepare(t, map[string]string{"min_pool_size": "30"})
	in.start(nil)
	in.await(fmt.Sprintf("WARNING %s:%d: min_pool_size: ", in.config, lineOf(t, in.config, "min_pool_size")))
	in.await("process up")
}

func TestQuiet(t *testing.T) {
	t.Parallel()
	// Without any log the error goes to stderr all the same.
	in := prepare(t, map[string]string{"listen_addr": "", "unix_socket_dir": ""})
	in.start([]string{"--quiet"})
	if status, stderr := in.end(); status != 1 || stderr != os.Args[0]+": nowhere to listen on: set listen_addr or unix_socket_dir\n" {
		t.Errorf("exit status %d, stderr %q", status, stderr)
	}

	in = prepare(t, nil)
	log := filepath.Join(in.dir, "log")
	in.configure(map[string]string{"listen_addr": "", "unix_socket_dir": "", "logfile": log})
	in.start([]string{"--quiet"})
	if status, stderr := in.end(); status != 1 || stderr != "\n" {
		t.Errorf("with a log file: exit status %d, stderr %q", status, stderr)
	}
	if text, err := os.ReadFile(log); err != nil || !strings.Contains(string(text), "FATAL nowhere to listen on") {
		t.Errorf("the log file: %v\n%s", err, text)
	}
}

func TestLogFileCannotBeOpened(t *testing.T) {
	t.Parallel()
	in := prepare(t, map[string]string{"logfile": "/missing/log"})
	in.start(nil)
	in.fails("FATAL logfile: open /missing/log: no such file or directory")
}

// -v counts, but what the file says counts more.
func TestVerbose(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args     []string
		settings map[string]string
		want     string
	}{
		{nil, nil, ""},
		{[]string{"-v"}, nil, "1"},
		{[]string{"-vv"}, nil, "2"},
		{[]string{"-v", "--verbose"}, nil, "2"},
		{[]string{"-vv"}, map[string]string{"verbose": "0"}, "0"},
	} {
		in := prepare(t, test.settings)
		in.start(test.args)
		in.await("process up")
		if got := in.console().do(t, "SHOW CONFIG")["verbose"]; got != test.want {
			t.Errorf("%q, %v: verbose = %q, want %q", test.args, test.settings, got, test.want)
		}
	}
}

func TestSet(t *testing.T) {
	t.Parallel()
	in := runInstance(t, nil)
	console := in.console()
	log := filepath.Join(in.dir, "log")
	console.do(t, "SET logfile = '"+log+"'")
	if _, err := console.try("SET logfile = '/missing/log'"); err == nil {
		t.Error("a log file that can't be opened was accepted")
	}
	if got := console.do(t, "SHOW CONFIG")["logfile"]; got != log {
		t.Errorf("logfile = %q, want %q", got, log)
	}
	if _, err := console.try("SET pool_mode = often"); err == nil {
		t.Error("a pool_mode that doesn't exist was accepted")
	}
	console.do(t, "SHUTDOWN WAIT_FOR_CLIENTS")
	console.close()
	in.ends()
	if text, err := os.ReadFile(log); err != nil || !strings.Contains(string(text), " LOG ") {
		t.Errorf("the log file: %v\n%s", err, text)
	}
}

// A certificate and its key are set one after the other: what was in force stays
// until both are there.
func TestSetTLS(t *testing.T) {
	t.Parallel()
	in := runInstance(t, nil)
	console := in.console()
	ca := certificates.NewAuthority("authority")
	files := map[string]string{}
	for _, name := range []string{"one", "two"} {
		cert, key := ca.Issue(certificates.Options{Name: name})
		for kind, data := range map[string][]byte{"cert": cert, "key": key} {
			files[kind+name] = filepath.Join(in.dir, kind+name)
			if err := os.WriteFile(files[kind+name], data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	set := func(key, value string) {
		t.Helper()
		console.do(t, "SET "+key+" = '"+value+"'")
	}
	inForce := func(want string) {
		t.Helper()
		config := console.do(t, "SHOW CONFIG")
		if got := config["client_tls_cert_file"]; got != want || (want != "") != (config["client_tls_key_file"] != "") {
			t.Errorf("client_tls_cert_file = %q, want %q; client_tls_key_file = %q", got, want, config["client_tls_key_file"])
		}
	}
	set("client_tls_sslmode", "allow")
	set("client_tls_key_file", files["keyone"])
	inForce("")
	set("client_tls_cert_file", files["certone"])
	inForce(files["certone"])
	set("client_tls_cert_file", files["certtwo"])
	inForce(files["certone"])
	set("client_tls_key_file", "/missing")
	inForce(files["certone"])
	set("client_tls_key_file", files["keytwo"])
	inForce(files["certtwo"])
	set("client_tls_key_file", files["keyone"]) // given up by a reload
	console.do(t, "RELOAD")
	set("client_tls_protocols", "tlsv1.3")
	if config := console.do(t, "SHOW CONFIG"); config["client_tls_protocols"] != "tlsv1.3" || config["client_tls_key_file"] != "" {
		t.Errorf("after RELOAD client_tls_protocols = %q, client_tls_key_file = %q", config["client_tls_protocols"], config["client_tls_key_file"])
	}
	console.do(t, "SHUTDOWN WAIT_FOR_CLIENTS")
	console.close()
	if _, log := in.end(); strings.Count(log, "what was in force stays") != 4 {
		t.Errorf("not every refusal is told:\n%s", log)
	}
}

func TestPidfileOfAProcess(t *testing.T) {
	t.Parallel()
	first := prepare(t, nil)
	path := filepath.Join(first.dir, "pid")
	first.configure(map[string]string{"pidfile": path})
	first.start(nil)
	first.await("process up")
	want := fmt.Sprintln(first.cmd.Process.Pid)
	if text, err := os.ReadFile(path); err != nil || string(text) != want {
		t.Errorf("the file holds %q, %v, want %q", text, err, want)
	}

	second := prepare(t, map[string]string{"pidfile": path})
	second.start(nil)
	second.fails("FATAL pidfile '" + path + "' exists, another instance running?")
	if text, err := os.ReadFile(path); err != nil || string(text) != want {
		t.Errorf("after a second process the file holds %q, %v, want %q", text, err, want)
	}

	if _, err := first.console().try("SHUTDOWN"); err == nil {
		t.Error("SHUTDOWN was answered")
	}
	first.ends()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the pidfile is left over: %v", err)
	}

	// What a killed process leaves behind is in nobody's way.
	first.start(nil)
	first.await("process up")
	_ = first.cmd.Process.Kill()
	first.end()
	first.start(nil)
	first.await("LOG stale pidfile, removing")
	first.await("process up")
}
