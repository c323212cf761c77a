package certs

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"

	"github.com/pgweir/pgweir/wire/secure"
)

// versions is a set of TLS versions.
type versions uint8

const (
	tls10 versions = 1 << iota
	tls11
	tls12
	tls13
)

var protocolWords = map[string]versions{
	"all":     tls10 | tls11 | tls12 | tls13,
	"default": tls12 | tls13,
	"secure":  tls12 | tls13,
	"tlsv1":   tls10 | tls11 | tls12 | tls13,
	"tlsv1.0": tls10,
	"tlsv1.1": tls11,
	"tlsv1.2": tls12,
	"tlsv1.3": tls13,
}

// parseProtocols reads a list of words, separated by commas or colons. "!"
// takes one out: of all, if it comes first.
func parseProtocols(list string) (set versions, err error) {
	for i, word := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ':' }) {
		word = strings.ToLower(strings.TrimSpace(word))
		name, negated := strings.CutPrefix(word, "!")
		v, ok := protocolWords[name]
		switch {
		case !ok:
			return 0, fmt.Errorf("unknown word %q: must be all, default, secure, tlsv1, tlsv1.0, tlsv1.1, tlsv1.2 or tlsv1.3", word)
		case negated && i == 0:
			set = protocolWords["all"] &^ v
		case negated:
			set &^= v
		default:
			set |= v
		}
	}
	if set == 0 {
		return 0, fmt.Errorf("no TLS version is left of %q", list)
	}
	return set, nil
}

// span is the least and the greatest version of a set that has no gap.
func (v versions) span() (least, most uint16, err error) {
	names := [...]uint16{tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12, tls.VersionTLS13}
	for i, name := range names {
		if v&(1<<i) == 0 {
			continue
		}
		if most != 0 && name != most+1 {
			return 0, 0, errors.New("TLS versions must follow upon each other, without a gap")
		}
		if least == 0 {
			least = name
		}
		most = name
	}
	return least, most, nil
}

// split splits a list of cipher suites or curves.
func split(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(":, ;\t", r) })
}

// check13 reports a name that is no cipher suite of TLS 1.3.
func check13(list string) error {
	for _, name := range split(list) {
		known := name == "TLS_AES_128_CCM_SHA256" || name == "TLS_AES_128_CCM_8_SHA256"
		for _, s := range secure.Suites13 {
			known = known || s.Name == name
		}
		if !known {
			return fmt.Errorf("%q is none", name)
		}
	}
	return nil
}

// offers13 reports whether list allows whatever suite of TLS 1.3 is chosen.
// crypto/tls chooses by itself, so any other list is met by leaving TLS 1.3
// out.
func offers13(list string) bool {
	if list == "" {
		return true
	}
	allowed := map[string]bool{}
	for _, name := range split(list) {
		allowed[name] = true
	}
	for _, s := range secure.Suites13 {
		if !allowed[s.Name] {
			return false
		}
	}
	return true
}

var curves = map[string]tls.CurveID{
	"prime256v1": tls.CurveP256, "secp256r1": tls.CurveP256, "p-256": tls.CurveP256,
	"secp384r1": tls.CurveP384, "p-384": tls.CurveP384,
	"secp521r1": tls.CurveP521, "p-521": tls.CurveP521,
	"x25519":         tls.X25519,
	"x25519mlkem768": tls.X25519MLKEM768,
}

// parseCurve reads a curve's name, or several. nil leaves the choice to
// crypto/tls.
func parseCurve(list string) (ids []tls.CurveID, err error) {
	if list == "" || list == "auto" {
		return nil, nil
	}
	if list == "none" {
		return nil, errors.New("none would leave no safe key exchange: use auto or a curve's name")
	}
	for _, name := range split(list) {
		id, ok := curves[strings.ToLower(name)]
		if !ok {
			return nil, fmt.Errorf("unknown curve %q: must be auto, prime256v1, secp384r1, secp521r1 or X25519", name)
		}
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return nil, fmt.Errorf("no curve is left of %q", list)
	}
	return ids, nil
}
