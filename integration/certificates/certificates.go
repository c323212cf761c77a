// Package certificates makes certificates for tests: authorities, servers'
// and clients'.
package certificates

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"time"
)

// Authority signs certificates.
type Authority struct {
	PEM  []byte // its own certificate
	Pool *x509.CertPool

	cert *x509.Certificate
	key  crypto.Signer
}

// Options say what a certificate is like. It is one for a P-256 key, for
// servers and clients, and valid now.
type Options struct {
	Name  string   // the common name
	Hosts []string // alternative names: DNS names and addresses
	RSA   bool     // a key of RSA-2048 instead
	Old   bool     // valid until yesterday
}

// NewAuthority makes an authority.
func NewAuthority(name string) *Authority { return newAuthority(name, nil) }

// Sub makes an authority that a has signed. Its PEM belongs behind the
// certificates that it issues.
func (a *Authority) Sub(name string) *Authority { return newAuthority(name, a) }

// newAuthority makes an authority that by has signed, itself if that is nil.
func newAuthority(name string, by *Authority) *Authority {
	a := &Authority{Pool: x509.NewCertPool()}
	a.key = newKey(false)
	template := template(Options{Name: name})
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage |= x509.KeyUsageCertSign
	parent, key := template, a.key
	if by != nil {
		parent, key = by.cert, by.key
	}
	der := must(x509.CreateCertificate(rand.Reader, template, parent, a.key.Public(), key))
	a.cert = must(x509.ParseCertificate(der))
	a.PEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	a.Pool.AddCert(a.cert)
	return a
}

// Certificate is the authority's own.
func (a *Authority) Certificate() *x509.Certificate { return a.cert }

// Issue makes a certificate and its key, both in PEM format.
func (a *Authority) Issue(o Options) (cert, key []byte) {
	signer := newKey(o.RSA)
	der := must(x509.CreateCertificate(rand.Reader, template(o), a.cert, signer.Public(), a.key))
	secret := must(x509.MarshalPKCS8PrivateKey(signer))
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
}

// SelfSigned makes a certificate that its own key has signed by algorithm, and
// its key, both in PEM format.
func SelfSigned(o Options, key crypto.Signer, algorithm x509.SignatureAlgorithm) (cert, secret []byte) {
	template := template(o)
	template.SignatureAlgorithm = algorithm
	der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(key))})
}

// Pair is Issue for a program of Go's.
func (a *Authority) Pair(o Options) tls.Certificate {
	cert, key := a.Issue(o)
	return must(tls.X509KeyPair(cert, key))
}

func newKey(isRSA bool) crypto.Signer {
	if isRSA {
		return must(rsa.GenerateKey(rand.Reader, 2048))
	}
	return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
}

func template(o Options) *x509.Certificate {
	t := &x509.Certificate{
		SerialNumber: must(rand.Int(rand.Reader, big.NewInt(1<<62))),
		Subject:      pkix.Name{CommonName: o.Name},
		NotBefore:    time.Now().AddDate(0, -1, 0),
		NotAfter:     time.Now().AddDate(0, 1, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if o.Old {
		t.NotAfter = time.Now().AddDate(0, 0, -1)
	}
	for _, host := range o.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, host)
		}
	}
	return t
}

// must returns v. Without randomness there are no tests.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
