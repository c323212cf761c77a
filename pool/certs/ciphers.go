package certs

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pgweir/pgweir/wire/secure"
)

// parseCiphers reads a list of cipher suites up to TLS 1.2 in OpenSSL's
// notation: names and classes, "+" between classes that a suite must all be
// in, "!" before what is never taken, "-" before what is taken out. Order is of
// no account, for crypto/tls has its own; so are "+" before a word and words
// with "@". What OpenSSL knows and crypto/tls does not is passed over, as
// OpenSSL passes over what it does not know. nil is the built-in list.
func parseCiphers(list string) (ids []uint16, err error) {
	switch list {
	case "", "default", "secure", "normal", "fast":
		return nil, nil
	}
	var never []uint16
	for _, word := range split(list) {
		if strings.HasPrefix(word, "@") {
			continue
		}
		class, op := strings.TrimLeft(word, "!-+"), word[0]
		for _, s := range secure.Suites {
			if !isAll(s.Name, class) {
				continue
			}
			switch op {
			case '!':
				never = append(never, s.ID)
			case '-':
				ids = slices.DeleteFunc(ids, func(id uint16) bool { return id == s.ID })
			case '+':
			default:
				if !slices.Contains(ids, s.ID) {
					ids = append(ids, s.ID)
				}
			}
		}
	}
	ids = slices.DeleteFunc(ids, func(id uint16) bool { return slices.Contains(never, id) })
	if len(ids) == 0 {
		return nil, fmt.Errorf("no cipher suite is left of %q", list)
	}
	return ids, nil
}

// isAll reports whether the suite called name is in each of classes, which have
// "+" between them.
func isAll(name, classes string) bool {
	for class := range strings.SplitSeq(classes, "+") {
		if !is(name, class) {
			return false
		}
	}
	return true
}

// is reports whether the suite called name is in a class of OpenSSL's.
func is(name, class string) bool {
	has := func(part string) bool { return strings.Contains(name, part) }
	ecdhe := has("ECDHE")
	switch class {
	case name, "ALL", "HIGH":
		return true
	case "DEFAULT":
		return ecdhe // crypto/tls' own default leaves the others out
	case "ECDHE", "EECDH", "kECDHE", "kEECDH", "ECDH":
		return ecdhe
	case "kRSA":
		return !ecdhe
	case "RSA", "aRSA":
		return !has("ECDSA")
	case "ECDSA", "aECDSA":
		return has("ECDSA")
	case "AES":
		return has("AES")
	case "AES128":
		return has("AES128")
	case "AES256":
		return has("AES256")
	case "AESGCM":
		return has("GCM")
	case "CHACHA20":
		return has("CHACHA20")
	case "SHA", "SHA1":
		return strings.HasSuffix(name, "-SHA")
	case "SHA256":
		return strings.HasSuffix(name, "-SHA256") && !has("GCM")
	case "TLSv1.2":
		return has("GCM") || has("CHACHA20")
	case "TLSv1", "TLSv1.0", "SSLv3":
		return strings.HasSuffix(name, "-SHA")
	}
	return false
}
