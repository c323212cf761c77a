package certs

import (
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/pgweir/pgweir/configs"
)

// Check looks at what m's TLS settings say, and into the files that they name.
// wrong keeps a process from starting; doubtful are certificates that are not
// valid now. It may block.
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
		var bad *SettingError
		switch {
		case errors.As(err, &bad):
			wrong = append(wrong, bad)
		case s.CertFile != "" && len(config.Certificates) > 0:
			if leaf := config.Certificates[0].Leaf; now.After(leaf.NotAfter) {
				doubtful = append(doubtful, &SettingError{s.prefix + "_cert_file", fmt.Errorf("%s has expired on %s", s.CertFile, day(leaf.NotAfter))})
			} else if now.Before(leaf.NotBefore) {
				doubtful = append(doubtful, &SettingError{s.prefix + "_cert_file", fmt.Errorf("%s is valid only from %s on", s.CertFile, day(leaf.NotBefore))})
			}
		}
	}
	return wrong, doubtful
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }
