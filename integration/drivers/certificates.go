package main

import (
	"github.com/pgweir/pgweir/integration/certificates"
	"github.com/pgweir/pgweir/integration/sandbox"
)

// certFiles are files. The zero value means that there is no TLS.
type certFiles struct{ ca, cert, key string }

// makeCertificates makes an authority and a certificate for 127.0.0.1 in the
// sandbox.
func makeCertificates(s *sandbox.Sandbox) (c certFiles, err error) {
	ca := certificates.NewAuthority("drivers authority")
	cert, key := ca.Issue(certificates.Options{Name: "drivers server", Hosts: []string{"localhost", "127.0.0.1"}})
	for _, file := range []struct {
		path *string
		name string
		data []byte
	}{
		{&c.ca, "ca.pem", ca.PEM},
		{&c.cert, "cert.pem", cert},
		{&c.key, "key.pem", key},
	} {
		if *file.path, err = s.WriteFile(file.name, file.data); err != nil {
			return certFiles{}, err
		}
	}
	return c, nil
}
