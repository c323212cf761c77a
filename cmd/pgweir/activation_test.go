package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// TestSocketActivation passes sockets to a process: over TCP, IPv6 too, and a
// unix socket. It listens on them and on nothing else, whatever their names are,
// and leaves the unix socket's file alone.
func TestSocketActivation(t *testing.T) {
	in := prepare(t, map[string]string{"listen_addr": "192.0.2.1"}) // which is not ours
	path := filepath.Join(in.dir, fmt.Sprintf(".s.PGSQL.%d", in.port))
	hosts := []string{"127.0.0.1", in.dir, "::1"}
	for _, host := range slices.Clone(hosts) {
		network, address := "tcp", net.JoinHostPort(host, fmt.Sprint(in.port))
		if host == in.dir {
			network, address = "unix", path
		}
		ln, err := net.Listen(network, address)
		if host == "::1" && err != nil { // the machine has no IPv6
			hosts = hosts[:2]
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if u, ok := ln.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(false)
		}
		f, err := ln.(interface{ File() (*os.File, error) }).File()
		if err != nil {
			t.Fatal(err)
		}
		ln.Close()
		in.passed = append(in.passed, f)
	}
	in.start(nil, "LISTEN_FDNAMES=web:local:web")
	for i := range hosts {
		in.await(fmt.Sprintf("socket passed from service manager (fd %d)", firstPassed+i))
	}
	in.await("process up")
	for _, f := range in.passed {
		f.Close()
	}
	for _, host := range hosts {
		conn, err := pgconn.Connect(t.Context(), fmt.Sprintf("host=%s port=%d user=anybody dbname=pgbouncer sslmode=disable", host, in.port))
		if err != nil {
			t.Errorf("%s: %v", host, err)
			continue
		}
		conn.Close(t.Context())
	}
	in.signal(syscall.SIGTERM)
	if status, log := in.end(); status != 0 {
		t.Errorf("status %d; the log:\n%s", status, log)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the service manager's socket is gone: %v", err)
	}
}

// TestNoSocketToListenOn: what is passed must be a stream socket that listens.
func TestNoSocketToListenOn(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	datagrams, err := udp.File()
	if err != nil {
		t.Fatal(err)
	}
	for why, f := range map[string]*os.File{"getsockopt:": r, "it is no stream socket that listens": datagrams} {
		in := prepare(t, nil)
		in.passed = []*os.File{f}
		in.start(nil)
		f.Close()
		in.await("FATAL socket passed from service manager (fd 3): " + why)
		if status, _ := in.end(); status != 1 {
			t.Errorf("status %d", status)
		}
	}
}

// TestPublicSocketNeedsCertificate: whatever listen_addr says, others than this
// machine can connect to a socket that was passed.
func TestPublicSocketNeedsCertificate(t *testing.T) {
	in := prepare(t, map[string]string{"client_tls_sslmode": "allow"})
	ln, err := net.Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", in.port))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	f, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	in.passed = []*os.File{f}
	in.start(nil)
	f.Close()
	in.await("FATAL TLS setup failed: client_tls_cert_file and client_tls_key_file must be set")
	if status, _ := in.end(); status != 1 {
		t.Errorf("status %d", status)
	}
}
