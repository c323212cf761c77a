package integration

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/pgweir/pgweir/integration/certificates"
	"github.com/pgweir/pgweir/wire"
)

// binding binds SCRAM to certificates that are signed in different ways, which
// decides what they are hashed with: libpq to ours, and we to Postgres'. Where a
// signature has no hash nothing can be bound, and nothing is.
func (e *encrypted) binding(t *testing.T) {
	key2048, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	key384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, key25519, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		key       crypto.Signer
		algorithm x509.SignatureAlgorithm
		binds     bool
	}{
		{key2048, x509.SHA256WithRSA, true},
		{key2048, x509.SHA512WithRSA, true},
		{key2048, x509.SHA384WithRSAPSS, true},
		{key384, x509.ECDSAWithSHA384, true},
		{key25519, x509.PureEd25519, false},
	} {
		cert, key := certificates.SelfSigned(certificates.Options{Name: "localhost", Hosts: []string{"localhost"}}, test.key, test.algorithm)
		e.show(t, cert, key)
		name := fmt.Sprintf("bound%d", serial.Add(1))
		p := startPooler(t, e.config(map[string]string{
			"client_tls_sslmode":   "require",
			"client_tls_cert_file": write(t, suite.sandbox, name+".pem", cert), "client_tls_key_file": write(t, suite.sandbox, name+".key", key),
			"server_tls_sslmode": "require", "auth_type": "scram-sha-256",
		}))
		for _, wants := range []string{"prefer", "require"} {
			out, err := e.db.Psql(testContext(t), fmt.Sprintf("host=127.0.0.1 port=%d user=bound password=secret dbname=postgres sslmode=require channel_binding=%s", p.Port, wants), "-Atc", "select 1")
			if (err == nil) != (test.binds || wants == "prefer") {
				t.Errorf("%v, channel_binding=%s: %s %v", test.algorithm, wants, out, err)
			}
		}
	}
}

// show has Postgres show another certificate, and returns when it does.
func (e *encrypted) show(t *testing.T, cert, key []byte) {
	t.Helper()
	write(t, e.sandbox, "db.pem", cert)
	write(t, e.sandbox, "db.key", key)
	if err := e.db.Exec(testContext(t), "select pg_reload_conf()"); err != nil {
		t.Fatal(err)
	}
	want, _ := pem.Decode(cert)
	eventually(t, "Postgres shows the certificate", func() error {
		conn, err := net.Dial("tcp", net.JoinHostPort("localhost", strconv.Itoa(e.db.Port)))
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		var answer [1]byte
		_, err = conn.Write(wire.AppendSSLRequest(nil))
		if err == nil {
			_, err = io.ReadFull(conn, answer[:])
		}
		if err != nil {
			return err
		}
		session := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		if err := session.Handshake(); err != nil {
			return err
		}
		if !bytes.Equal(session.ConnectionState().PeerCertificates[0].Raw, want.Bytes) {
			return errors.New("another one")
		}
		return nil
	})
}
