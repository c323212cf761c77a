package certs

import (
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/pgweir/pgweir/configs"
)

// soon is how long before its end a certificate is doubtful: long enough to act
// on, shorter than what is left of any that is renewed by itself.
const soon = 48 * time.Hour

// Check looks at what m's TLS settings say, and into the files that they name.
// wrong keeps a process from starting. doubtful is what the settings ask for
// and don't get, and certificates that are not valid now or won't be soon. It
// may block.
func Check(m *configs.Main, now time.Time) (wrong, doubtful []*SettingError) {
	own := new(tls.Certificate) // stands for the one that would be made
	for _, s := range []Settings{ForClients(m), ForServers(m)} {
		if !s.Wanted() {
			continue
		}
		var config *tls.Config
		var err error
		if s.prefix == "client_tls" {
			config, err = s.Accept(own)
		} else {
			config, err = s.Connect("localhost")
		}
		if bad, ok := errors.AsType[*SettingError](err); ok {
			wrong = append(wrong, bad)
			continue
		}
		doubtful = append(doubtful, s.doubts(config, now)...)
	}
	return wrong, doubtful
}

// doubts are what is doubtful about s, which config was made of.
func (s Settings) doubts(config *tls.Config, now time.Time) (list []*SettingError) {
	if !offers13(s.Ciphers13) {
		list = append(list, &SettingError{s.prefix + "13_ciphers", errors.New("the suites of TLS 1.3 are all or none; TLS 1.3 is left out")})
	}
	if s.CertFile == "" || len(config.Certificates) == 0 {
		return list
	}
	what := ""
	switch leaf := config.Certificates[0].Leaf; {
	case now.After(leaf.NotAfter):
		what = "has expired on " + day(leaf.NotAfter)
	case now.Add(soon).After(leaf.NotAfter):
		what = "expires on " + day(leaf.NotAfter)
	case now.Before(leaf.NotBefore):
		what = "is valid only from " + day(leaf.NotBefore) + " on"
	default:
		return list
	}
	return append(list, &SettingError{s.prefix + "_cert_file", fmt.Errorf("%s %s", s.CertFile, what)})
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }
