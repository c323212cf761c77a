package auth

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"

	"github.com/pgweir/pgweir/wire"
)

// converse has a client of ours log in to a server of ours, with what each
// believes to be the server's certificate. It returns the mechanism that the
// client chose, and what each side makes of the other.
func converse(t *testing.T, clients, servers []byte) (mechanism string, verdict Verdict, clientErr error) {
	t.Helper()
	verifier := &deriveKeys("pencil", "salt salt salt", 4096).Verifier
	server := New(MethodSCRAM, "user", Plain("pencil"), false, verifier, rand.Reader)
	Bind(server, servers)
	client := NewServerExchange("user", Plain("pencil"), nil, nil, rand.Reader)
	client.Bind(clients)
	message, verdict := server.Start(nil), More
	for verdict == More {
		body := message[wire.HeaderLen:]
		out, _, err := client.Step(nil, int32(binary.BigEndian.Uint32(body)), body[4:])
		if err != nil {
			return mechanism, verdict, err
		}
		if mechanism == "" {
			name, _, _ := bytes.Cut(out[wire.HeaderLen:], []byte{0})
			mechanism = string(name)
		}
		message, verdict = server.Step(nil, out[wire.HeaderLen:])
	}
	if verdict == Accepted {
		body := message[wire.HeaderLen:]
		_, _, clientErr = client.Step(nil, int32(binary.BigEndian.Uint32(body)), body[4:])
	}
	return mechanism, verdict, clientErr
}

func TestChannelBinding(t *testing.T) {
	one, other := []byte("certificate"), []byte("another's")
	for _, test := range []struct {
		name             string
		clients, servers []byte
		mechanism        string
		verdict          Verdict
	}{
		{"no TLS", nil, nil, "SCRAM-SHA-256", Accepted},
		{"both bind", one, one, "SCRAM-SHA-256-PLUS", Accepted},
		{"somebody has put himself between", one, other, "SCRAM-SHA-256-PLUS", Rejected},
		{"the client can't bind", nil, one, "SCRAM-SHA-256", Accepted},
		{"the server can't bind", one, nil, "SCRAM-SHA-256", Accepted},
	} {
		t.Run(test.name, func(t *testing.T) {
			mechanism, verdict, err := converse(t, test.clients, test.servers)
			if mechanism != test.mechanism || verdict != test.verdict || err != nil {
				t.Errorf("%s, %v, %v; want %s, %v", mechanism, verdict, err, test.mechanism, test.verdict)
			}
		})
	}
}

// TestDowngrade takes the binding out of what a client says, or the mechanism
// out of what a server offers.
func TestDowngrade(t *testing.T) {
	verifier := &deriveKeys("pencil", "salt salt salt", 4096).Verifier
	first := func(mechanism, message string) []byte {
		b := append([]byte(mechanism), 0)
		b = binary.BigEndian.AppendUint32(b, uint32(len(message)))
		return append(b, message...)
	}
	for _, test := range []struct {
		name     string
		endPoint []byte
		message  []byte
		want     Verdict
	}{
		{"not capable", []byte("c"), first("SCRAM-SHA-256", "n,,n=,r=abcdef"), More},
		{"was told that we are not", []byte("c"), first("SCRAM-SHA-256", "y,,n=,r=abcdef"), Rejected},
		{"was told so rightly", nil, first("SCRAM-SHA-256", "y,,n=,r=abcdef"), More},
		{"binds under the plain name", []byte("c"), first("SCRAM-SHA-256", "p=tls-server-end-point,,n=,r=abcdef"), Rejected},
		{"does not bind under the other", []byte("c"), first("SCRAM-SHA-256-PLUS", "n,,n=,r=abcdef"), Rejected},
		{"binds to something else", []byte("c"), first("SCRAM-SHA-256-PLUS", "p=tls-unique,,n=,r=abcdef"), Rejected},
		{"binds", []byte("c"), first("SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,n=,r=abcdef"), More},
		{"binds in clear", nil, first("SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,n=,r=abcdef"), Rejected},
		{"has another identity", []byte("c"), first("SCRAM-SHA-256-PLUS", "p=tls-server-end-point,a=x,n=,r=abcdef"), Rejected},
	} {
		e := New(MethodSCRAM, "user", Plain("pencil"), false, verifier, rand.Reader)
		Bind(e, test.endPoint)
		if _, got := e.Step(nil, test.message); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}

	e := NewServerExchange("user", Plain("pencil"), nil, nil, rand.Reader)
	if _, _, err := e.Step(nil, authSASL, []byte("SCRAM-SHA-256-PLUS\x00\x00")); !errors.Is(err, ErrNoMechanism) {
		t.Errorf("without TLS, where only the binding one is offered: %v", err)
	}
	e = NewServerExchange("user", Plain("pencil"), nil, nil, rand.Reader)
	e.Bind([]byte("c"))
	out, _, err := e.Step(nil, authSASL, []byte("SCRAM-SHA-256\x00\x00"))
	if err != nil || !bytes.Contains(out, []byte("y,,n=,r=")) {
		t.Errorf("%q, %v to a server that can't bind", out, err)
	}
}

func TestEndPoint(t *testing.T) {
	raw := []byte("a certificate")
	short, long := sha256.Sum256(raw), sha512.Sum512(raw)
	middle := sha512.Sum384(raw)
	for algorithm, want := range map[x509.SignatureAlgorithm][]byte{
		x509.SHA1WithRSA: short[:], x509.SHA256WithRSA: short[:], x509.SHA256WithRSAPSS: short[:],
		x509.ECDSAWithSHA384: middle[:], x509.SHA512WithRSA: long[:],
		x509.PureEd25519: nil, x509.UnknownSignatureAlgorithm: nil,
	} {
		if got := EndPoint(&x509.Certificate{Raw: raw, SignatureAlgorithm: algorithm}); !bytes.Equal(got, want) {
			t.Errorf("%v: %x", algorithm, got)
		}
	}
	if EndPoint(nil) != nil {
		t.Error("no certificate has an end point")
	}
}

func TestCertifies(t *testing.T) {
	cert := &x509.Certificate{
		Subject:  pkix.Name{CommonName: "Alice"},
		DNSNames: []string{"db.example.com", "*.pool.example.com", "*.com", "*", "a*.example.com", "*.*.example.com", ""},
	}
	for _, addr := range []string{"10.0.0.1", "2001:db8::1"} {
		cert.IPAddresses = append(cert.IPAddresses, netip.MustParseAddr(addr).AsSlice())
	}
	for name, want := range map[string]bool{
		"alice": true, "Alice": true, "alic": false, "": false, "*": true,
		"db.example.com": true, "DB.EXAMPLE.COM": true, "example.com": false,
		"a.pool.example.com": true, ".pool.example.com": false, "a.b.pool.example.com": false, "pool.example.com": false,
		"example.org": false, "x.com": false, "abc.example.com": false, "x.y.example.com": false,
		"10.0.0.1": true, "::ffff:10.0.0.1": true, "10.0.0.2": false, "2001:db8:0::1": true,
	} {
		if got := Certifies(cert, name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
	if CertifiesName(cert, "Alice") || CertifiesAddress(cert, netip.MustParseAddr("10.0.0.3")) || Certifies(nil, "x") {
		t.Error("the common name is an alternative name")
	}
}
