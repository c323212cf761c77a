package integration

import (
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgweir/pgweir/integration/certificates"
	"github.com/pgweir/pgweir/wire"
)

// modes has libpq connect in each of its modes to poolers in each of theirs.
func (e *encrypted) modes(t *testing.T) {
	cert, key := e.issue(t, certificates.Options{Name: "pooler", Hosts: []string{"localhost"}})
	all := []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}
	for mode, takes := range map[string][]string{
		"disable": all[:3],
		"allow":   all,
		"prefer":  all,
		"require": all[1:], // allow tries again
	} {
		p := startPooler(t, e.config(map[string]string{
			"client_tls_sslmode": mode, "client_tls_cert_file": cert, "client_tls_key_file": key, "server_tls_sslmode": "require",
		}))
		for _, theirs := range all {
			dsn := fmt.Sprintf("host=localhost hostaddr=127.0.0.1 port=%d user=encrypted dbname=postgres sslmode=%s sslrootcert=%s", p.Port, theirs, e.caFile)
			out, err := e.db.Psql(testContext(t), dsn, "-Atc", "select 1")
			if want := slices.Contains(takes, theirs); (err == nil) != want {
				t.Errorf("client_tls_sslmode=%s, sslmode=%s: %s %v", mode, theirs, out, err)
			}
		}
		if mode == "disable" {
			continue
		}
		dsn := fmt.Sprintf("host=localhost hostaddr=127.0.0.1 port=%d user=encrypted dbname=postgres sslrootcert=", p.Port)
		for _, wrong := range []string{e.other + " sslmode=verify-ca", e.caFile + " host=elsewhere sslmode=verify-full"} {
			if out, err := e.db.Psql(testContext(t), dsn+wrong, "-Atc", "select 1"); err == nil {
				t.Errorf("%s: %s", wrong, out)
			}
		}
	}
}

// injection puts something in clear behind a request for encryption.
func (e *encrypted) injection(t *testing.T) {
	p := startPooler(t, e.config(map[string]string{"client_tls_sslmode": "allow"}))
	for code, what := range map[uint64]string{80877103: "SSL", 80877104: "GSSAPI encryption"} {
		conn, err := net.Dial("tcp", net.JoinHostPort(p.Host, strconv.Itoa(p.Port)))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		request := binary.BigEndian.AppendUint64(nil, 8<<32|code)
		if _, err := conn.Write(append(request, 'x')); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(conn)
		if err != nil || !strings.Contains(string(answer), "received unencrypted data after "+what+" request") {
			t.Errorf("%q, %v", answer, err)
		}
	}
}

// direct begins with TLS at once: only who offers Postgres' protocol is let in.
func (e *encrypted) direct(t *testing.T) {
	p := startPooler(t, e.config(map[string]string{"client_tls_sslmode": "require"}))
	address := net.JoinHostPort(p.Host, strconv.Itoa(p.Port))
	for _, test := range []struct {
		offers []string
		fails  string // the handshake
		told   string
	}{
		{[]string{"postgresql"}, "", "user=encrypted"},
		{[]string{"h2", "postgresql"}, "", "user=encrypted"},
		{nil, "", "must offer the protocol postgresql (ALPN)"},
		{[]string{"http/1.1"}, "no application protocol", ""},
	} {
		conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, NextProtos: test.offers})
		if err == nil {
			defer conn.Close()
			_, err = conn.Write(wire.AppendStartup(nil, [][2]string{{"user", "encrypted"}, {"database", "postgres"}}))
		}
		if test.fails != "" {
			if err == nil || !strings.Contains(err.Error(), test.fails) {
				t.Errorf("%q: %v, want %s", test.offers, err, test.fails)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 1)
		if _, err := io.ReadFull(conn, answer); err != nil || (answer[0] == 'E') != (test.told != "user=encrypted") {
			t.Errorf("%q: answer %q, %v", test.offers, answer, err)
		}
		wantLog(t, p, test.told)
	}
}
