package auth

import (
	"crypto"
	"crypto/x509"
	"net/netip"
	"slices"
	"strings"

	"github.com/pgweir/pgweir/configs"
)

// Certifies reports whether cert, which was verified, belongs to name: one of
// its alternative names is name (a DNS name, in any case, which may begin with
// "*.", or an address), or its common name is.
func Certifies(cert *x509.Certificate, name string) bool {
	if cert == nil || name == "" {
		return false
	}
	if addr, err := netip.ParseAddr(name); err == nil {
		return CertifiesAddress(cert, addr) || cert.Subject.CommonName == name
	}
	return CertifiesName(cert, name) || matches(cert.Subject.CommonName, name)
}

// CertifiesUser reports whether who has cert may log in as user: whether it
// belongs to user, or, with a map, to a system user who may be user.
func CertifiesUser(m *configs.IdentMap, cert *x509.Certificate, user string) bool {
	if m == nil {
		return Certifies(cert, user)
	}
	return slices.ContainsFunc(m.Pairs, func(p configs.IdentPair) bool {
		return (p.All || p.User == user) && Certifies(cert, p.System)
	})
}

// CertifiesName reports whether one of cert's alternative names is name.
func CertifiesName(cert *x509.Certificate, name string) bool {
	for _, pattern := range cert.DNSNames {
		if matches(pattern, name) {
			return true
		}
	}
	return false
}

// CertifiesAddress reports whether one of cert's alternative names is addr.
func CertifiesAddress(cert *x509.Certificate, addr netip.Addr) bool {
	for _, ip := range cert.IPAddresses {
		if a, ok := netip.AddrFromSlice(ip); ok && a.Unmap() == addr.Unmap() {
			return true
		}
	}
	return false
}

// matches reports whether name is pattern, or, if that begins with "*.", has
// one label in the star's place. A star for a whole top-level domain matches
// nothing.
func matches(pattern, name string) bool {
	if pattern == "" || strings.Contains(pattern, "\x00") {
		return false
	}
	if strings.EqualFold(pattern, name) {
		return true
	}
	suffix, wild := strings.CutPrefix(pattern, "*")
	if !wild || !strings.HasPrefix(suffix, ".") || strings.Count(suffix, ".") < 2 || strings.Contains(suffix, "*") {
		return false
	}
	label, rest, ok := strings.Cut(name, ".")
	return ok && label != "" && strings.EqualFold(suffix[1:], rest)
}

// EndPoint is what a certificate binds a SCRAM exchange to, by RFC 5929's
// tls-server-end-point: its hash, by the hash of its signature, but never a
// weaker one than SHA-256. It is nil for a certificate whose signature has no
// hash of its own (Ed25519): then there is no channel binding.
func EndPoint(cert *x509.Certificate) []byte {
	if cert == nil {
		return nil
	}
	var h crypto.Hash
	switch cert.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1,
		x509.SHA256WithRSA, x509.SHA256WithRSAPSS, x509.ECDSAWithSHA256, x509.DSAWithSHA256:
		h = crypto.SHA256
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		h = crypto.SHA384
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		h = crypto.SHA512
	default:
		return nil
	}
	sum := h.New()
	sum.Write(cert.Raw)
	return sum.Sum(nil)
}
