package main

import (
	"crypto/tls"

	"github.com/pgweir/pgweir/integration/certificates"
	"github.com/pgweir/pgweir/integration/sandbox"
)

// The kinds of keys that certificates are for.
const (
	keyRSA  = "RSA-2048"
	keyP256 = "P-256"
)

// certs are the poolers' certificates, and what clients verify them by.
type certs struct {
	ca     string                       // the file of the authority
	client *tls.Config                  // of clients
	files  map[string]map[string]string // by kind of key: the poolers' settings
}

func makeCerts(s *sandbox.Sandbox) (c certs, err error) {
	ca := certificates.NewAuthority("bench")
	if c.ca, err = s.WriteFile("ca.pem", ca.PEM); err != nil {
		return c, err
	}
	c.client = &tls.Config{RootCAs: ca.Pool, ServerName: certName}
	c.files = map[string]map[string]string{}
	for _, kind := range []string{keyRSA, keyP256} {
		cert, key := ca.Issue(certificates.Options{Name: certName, Hosts: []string{certName}, RSA: kind == keyRSA})
		files := map[string]string{"client_tls_sslmode": "require"}
		if files["client_tls_cert_file"], err = s.WriteFile(kind+".pem", cert); err != nil {
			return c, err
		}
		if files["client_tls_key_file"], err = s.WriteFile(kind+".key", key); err != nil {
			return c, err
		}
		c.files[kind] = files
	}
	return c, nil
}

// certName is whom the certificates are for.
const certName = "pooler"

// settings are a pooler's that has a certificate of that kind.
func (c certs) settings(kind string) map[string]string { return c.files[kind] }
