package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// TestSocketActivation passes a TCP and a unix socket to a process. It listens
// on them and on nothing else, and leaves the unix socket's file alone.
func TestSocketActivation(t *testing.T) {
	in := prepare(t, map[string]string{"listen_addr": "192.0.2.1"}) // which is not ours
	path := filepath.Join(in.dir, fmt.Sprintf(".s.PGSQL.%d", in.port))
	for network, address := range map[string]string{"tcp": fmt.Sprintf("127.0.0.1:%d", in.port), "unix": path} {
		ln, err := net.Listen(network, address)
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
	in.start(nil)
	in.await("socket passed from service manager (fd 3)")
	in.await("socket passed from service manager (fd 4)")
	in.await("process up")
	for _, f := range in.passed {
		f.Close()
	}
	for _, host := range []string{"127.0.0.1", in.dir} {
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

// TestNoSocketToListenOn: what is passed must be a socket that listens.
func TestNoSocketToListenOn(t *testing.T) {
	in := prepare(t, nil)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	in.passed = []*os.File{r}
	in.start(nil)
	r.Close()
	in.await("FATAL socket passed from service manager (fd 3): getsockopt:")
	if status, _ := in.end(); status != 1 {
		t.Errorf("status %d", status)
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
