package certs

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"

	"github.com/pgweir/pgweir/integration/certificates"
)

// TestVerify holds servers' certificates against verify-ca ("") and
// verify-full.
func TestVerify(t *testing.T) {
	ca, other := certificates.NewAuthority("authority"), certificates.NewAuthority("other")
	sub := ca.Sub("sub")
	for _, test := range []struct {
		by   *certificates.Authority
		cert certificates.Options
		host string
		want string // of the error
	}{
		{ca, certificates.Options{Name: "db"}, "", ""},
		{other, certificates.Options{Name: "db"}, "", "certificate verify failed: x509: "},
		{ca, certificates.Options{Name: "db", Old: true}, "", "certificate verify failed: x509: "},
		{ca, certificates.Options{Name: "db"}, "db", ""},
		{ca, certificates.Options{Name: "db"}, "db2", "certificate verify failed: name `db2' not present in server certificate"},
		{other, certificates.Options{Name: "db"}, "db", "certificate verify failed: x509: "},
		{ca, certificates.Options{Name: "db", Hosts: []string{"other"}}, "db", "certificate verify failed: name `db'"},
		{ca, certificates.Options{Name: "x", Hosts: []string{"*.example.com"}}, "db.example.com", ""},
		{ca, certificates.Options{Name: "10.0.0.1", Hosts: []string{"db"}}, "10.0.0.1", "certificate verify failed: name `10.0.0.1'"},
		{ca, certificates.Options{Name: "x", Hosts: []string{"10.0.0.1"}}, "10.0.0.1", ""},
		{ca, certificates.Options{Name: "x", Hosts: []string{"fd00::1"}}, "fd00:0::0:1", ""},
		{ca, certificates.Options{Name: "x", Hosts: []string{"fd00::1"}}, "fd00::2", "certificate verify failed: name `fd00::2'"},
		{ca, certificates.Options{Name: "x", Hosts: []string{"DB.Example.com"}}, "db.example.COM", ""},
		{sub, certificates.Options{Name: "db"}, "db", "certificate verify failed: x509: "},
	} {
		leaf := test.by.Pair(test.cert).Leaf
		err := verify(tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}, ca.Pool, test.host)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.HasPrefix(err.Error(), test.want)) {
			t.Errorf("%+v as %q: %v", test.cert, test.host, err)
		}
	}
}

// TestVerifyChain has a server show who signed its certificate, or trust put in
// that certificate itself.
func TestVerifyChain(t *testing.T) {
	ca := certificates.NewAuthority("authority")
	sub := ca.Sub("sub")
	leaf := sub.Pair(certificates.Options{Name: "db"}).Leaf
	own := x509.NewCertPool()
	own.AddCert(leaf)
	for _, test := range []struct {
		shown []*x509.Certificate
		roots *x509.CertPool
		ok    bool
	}{
		{[]*x509.Certificate{leaf, sub.Certificate()}, ca.Pool, true},
		{[]*x509.Certificate{leaf, sub.Certificate(), ca.Certificate()}, ca.Pool, true},
		{[]*x509.Certificate{leaf, ca.Certificate()}, ca.Pool, false},
		{[]*x509.Certificate{leaf}, sub.Pool, true},
		{[]*x509.Certificate{leaf}, own, true},
		{[]*x509.Certificate{leaf, sub.Certificate(), ca.Certificate()}, certificates.NewAuthority("authority").Pool, false},
	} {
		if err := verify(tls.ConnectionState{PeerCertificates: test.shown}, test.roots, "db"); (err == nil) != test.ok {
			t.Errorf("%d shown: %v, want ok %v", len(test.shown), err, test.ok)
		}
	}
}
