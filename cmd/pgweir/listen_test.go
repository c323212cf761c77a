package main

import (
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestUnixSocket(t *testing.T) {
	t.Parallel()
	gid := os.Getgid()
	if groups, err := os.Getgroups(); err == nil && len(groups) > 0 {
		gid = groups[len(groups)-1] // which need not be that of new files
	}
	names := []string{strconv.Itoa(gid)}
	if g, err := user.LookupGroupId(names[0]); err == nil {
		names = append(names, g.Name)
	}
	for _, group := range names {
		in := runInstance(t, map[string]string{"unix_socket_mode": "0710", "unix_socket_group": group})
		info, err := os.Stat(in.socket())
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != 0o710 {
			t.Errorf("mode %#o, want 0710", got)
		}
		if got := info.Sys().(*syscall.Stat_t).Gid; int(got) != gid {
			t.Errorf("group %d, want %s", got, group)
		}
		serves(t, "unix", in.socket())
	}

	// By default everybody may connect.
	in := runInstance(t, nil)
	if info, err := os.Stat(in.socket()); err != nil || info.Mode().Perm() != 0o777 {
		t.Errorf("mode %v, %v, want 0777", info.Mode(), err)
	}
}

func TestUnixSocketGroupUnknown(t *testing.T) {
	t.Parallel()
	in := prepare(t, map[string]string{"unix_socket_group": "no such group"})
	in.start(nil)
	in.fails("FATAL unix_socket_group: ", "no such group")
	if _, err := os.Stat(in.socket()); !os.IsNotExist(err) {
		t.Errorf("the unix socket is left over: %v", err)
	}
}

func TestUnixSocketInUse(t *testing.T) {
	t.Parallel()
	first := runInstance(t, nil)
	second := prepare(t, map[string]string{"unix_socket_dir": first.dir, "listen_port": strconv.Itoa(first.port)})
	second.start(nil)
	second.fails("FATAL unix socket is in use, cannot continue")
	serves(t, "unix", first.socket())
}

func TestUnixSocketStale(t *testing.T) {
	t.Parallel()
	in := prepare(t, nil)
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: in.socket(), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	in.start(nil)
	in.await("process up")
	serves(t, "unix", in.socket())
}

func TestUnixSocketLocked(t *testing.T) {
	t.Parallel()
	in := prepare(t, nil)
	if err := os.WriteFile(in.socket()+".lock", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	in.start(nil)
	in.fails(fmt.Sprintf("FATAL unix port %d is in use", in.port))
}

func TestUnixSocketNameTooLong(t *testing.T) {
	t.Parallel()
	in := prepare(t, map[string]string{"unix_socket_dir": "/tmp/" + strings.Repeat("x", 200)})
	in.start(nil)
	in.fails("FATAL unix_socket_dir: the name of the socket, /tmp/xxx", " bytes, and the system takes 10")
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	in := prepare(t, nil)
	busy, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", in.port))
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	in.start(nil)
	in.fails(
		fmt.Sprintf("WARNING cannot listen on 127.0.0.1:%d: bind(): address already in use", in.port),
		"FATAL failed to listen on any address in listen_addr list: 127.0.0.1",
	)
}

func TestNowhereToListen(t *testing.T) {
	t.Parallel()
	in := prepare(t, map[string]string{"listen_addr": "", "unix_socket_dir": ""})
	in.start(nil)
	in.fails("FATAL nowhere to listen on")
}

func TestUnknownHost(t *testing.T) {
	t.Parallel()
	in := runInstance(t, map[string]string{"listen_addr": "127.0.0.1, 127.0.0.256"})
	serves(t, "tcp", fmt.Sprintf("127.0.0.1:%d", in.port))
	if log := strings.Join(in.said, "\n"); !strings.Contains(log, "WARNING cannot listen on 127.0.0.256: ") {
		t.Errorf("no warning of the other address in the log:\n%s", log)
	}
}

func TestWildcard(t *testing.T) {
	t.Parallel()
	in := runInstance(t, map[string]string{"listen_addr": "*", "unix_socket_dir": ""})
	serves(t, "tcp", fmt.Sprintf("127.0.0.1:%d", in.port))
	if ln, err := net.Listen("tcp6", "[::1]:0"); err == nil { // the machine has IPv6
		ln.Close()
		serves(t, "tcp", fmt.Sprintf("[::1]:%d", in.port))
	}
	if entries, err := filepath.Glob(filepath.Join(in.dir, ".s.*")); err != nil || len(entries) > 0 {
		t.Errorf("without unix_socket_dir there are %v, %v", entries, err)
	}
}

// Clients that come one by one would all stay on the loop that the kernel wakes
// first.
func TestLoopsShareClients(t *testing.T) {
	t.Parallel()
	in := runInstance(t, map[string]string{"loops": "2"})
	const clients = 20
	for range clients {
		c, err := net.Dial("unix", in.socket())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if answer, err := askOn(c); answer != 'N' || err != nil {
			t.Fatalf("answers %q, %v", answer, err)
		}
	}
	runtime := in.console().do(t, "SHOW RUNTIME")
	for i := range 2 {
		key := fmt.Sprintf("loop_%d_connections", i)
		if n, err := strconv.Atoi(runtime[key]); err != nil || n < clients/4 {
			t.Errorf("%s = %q, %v, of %d", key, runtime[key], err, clients)
		}
	}
}
