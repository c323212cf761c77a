package certs

import (
	"crypto/x509"
	"net/netip"

	"github.com/pgweir/pgweir/auth"
)

// names reports whether a server's certificate is for host, a name or an
// address. The common name counts only where there are no alternative names,
// as in libpq.
func names(cert *x509.Certificate, host string) bool {
	if len(cert.DNSNames) == 0 && len(cert.IPAddresses) == 0 {
		return auth.Certifies(cert, host)
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return auth.CertifiesAddress(cert, addr)
	}
	return auth.CertifiesName(cert, host)
}
