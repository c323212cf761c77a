// Package certs turns the client_tls_ and server_tls_ settings into what
// crypto/tls needs: certificates, keys, authorities, versions, cipher suites,
// curves. It reads files, so it belongs in chores.
package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/wire/secure"
)

// Settings are the settings of one side. The zero Settings mean no TLS.
type Settings struct {
	prefix string // of the keys

	Mode      configs.SSLMode
	CAFile    string
	CertFile  string
	KeyFile   string
	Protocols string
	Ciphers   string // up to TLS 1.2
	Ciphers13 string
	Curve     string // "" is auto
	DHParams  string // "" is auto
}

// ForClients are the settings of m for connections from clients.
func ForClients(m *configs.Main) Settings {
	return Settings{
		"client_tls", m.ClientTLSSSLMode, m.ClientTLSCAFile, m.ClientTLSCertFile, m.ClientTLSKeyFile,
		m.ClientTLSProtocols, m.ClientTLSCiphers, m.ClientTLS13Ciphers, m.ClientTLSECDHCurve, m.ClientTLSDHEParams,
	}
}

// ForServers are the settings of m for connections to servers.
func ForServers(m *configs.Main) Settings {
	return Settings{
		"server_tls", m.ServerTLSSSLMode, m.ServerTLSCAFile, m.ServerTLSCertFile, m.ServerTLSKeyFile,
		m.ServerTLSProtocols, m.ServerTLSCiphers, m.ServerTLS13Ciphers, "", "",
	}
}

// Wanted reports whether there is to be TLS at all.
func (s Settings) Wanted() bool { return s.Mode > configs.SSLDisable }

// Same reports whether connections made with s are as good as those made with
// o. As in PgBouncer the content of files does not count, nor do the suites of
// TLS 1.3.
func (s Settings) Same(o Settings) bool {
	s.Ciphers13, o.Ciphers13 = "", ""
	return s == o
}

// SettingError is what is wrong with a setting, or with what it names.
type SettingError struct {
	Key string // of [pgbouncer]
	Err error
}

func (e *SettingError) Error() string { return e.Key + ": " + e.Err.Error() }

// Unwrap returns Err.
func (e *SettingError) Unwrap() error { return e.Err }

// fail names the setting in an error.
func (s Settings) fail(key string, err error) error {
	return &SettingError{s.prefix + "_" + key, err}
}

// config makes what both sides have in common.
func (s Settings) config() (*tls.Config, error) {
	versions, err := parseProtocols(s.Protocols)
	if err != nil {
		return nil, s.fail("protocols", err)
	}
	if !offers13(s.Ciphers13) {
		versions &^= tls13
		if versions == 0 {
			return nil, &SettingError{s.prefix + "13_ciphers", fmt.Errorf("the suites of TLS 1.3 can't be chosen here, so TLS 1.3 is left out, and %s_protocols has nothing else", s.prefix)}
		}
	}
	if err := check13(s.Ciphers13); err != nil {
		return nil, &SettingError{s.prefix + "13_ciphers", fmt.Errorf("failed to set the TLSv1.3 cipher suites: %w", err)}
	}
	c := &tls.Config{
		NextProtos:                  []string{"postgresql"},
		SessionTicketsDisabled:      true, // no Postgres client resumes sessions
		DynamicRecordSizingDisabled: true, // a reply is wanted whole, not its begin
	}
	if c.MinVersion, c.MaxVersion, err = versions.span(); err != nil {
		return nil, s.fail("protocols", err)
	}
	if c.CipherSuites, err = parseCiphers(s.Ciphers); err != nil {
		return nil, s.fail("ciphers", err)
	}
	if c.CurvePreferences, err = parseCurve(s.Curve); err != nil {
		return nil, s.fail("ecdhcurve", err)
	}
	switch s.DHParams {
	case "", "auto", "none": // there is no DHE in any case
	default:
		return nil, s.fail("dheparams", fmt.Errorf("invalid value %q: must be auto or none", s.DHParams))
	}
	return c, nil
}

// Accept makes the configuration for connections from clients. own is shown to
// them where no certificate is configured.
func (s Settings) Accept(own *tls.Certificate) (*tls.Config, error) {
	c, err := s.config()
	if err != nil {
		return nil, err
	}
	if s.CertFile == "" && own != nil {
		c.Certificates = []tls.Certificate{*own}
	} else if c.Certificates, err = s.pair(); err != nil {
		return nil, err
	}
	if c.ClientCAs, err = s.authorities(); err != nil {
		return nil, err
	}
	switch s.Mode {
	case configs.SSLVerifyCA, configs.SSLVerifyFull:
		c.ClientAuth = tls.RequireAndVerifyClientCert
	default:
		if c.ClientCAs != nil {
			c.ClientAuth = tls.VerifyClientCertIfGiven
		}
	}
	return c, nil
}

// Connect makes the configuration for a connection to the server host, which
// is named as in the connect string. Files are read each time: those that were
// renewed serve at once.
func (s Settings) Connect(host string) (*tls.Config, error) {
	c, err := s.config()
	if err != nil {
		return nil, err
	}
	c.InsecureSkipVerify = true // what is to be verified, verify does
	if s.CertFile != "" || s.KeyFile != "" {
		if c.Certificates, err = s.pair(); err != nil {
			return nil, err
		}
		// Whoever signed it: the server says best what is wrong with it.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &c.Certificates[0], nil
		}
	}
	roots, err := s.authorities()
	if err != nil {
		return nil, err
	}
	switch s.Mode {
	case configs.SSLVerifyCA:
		c.VerifyConnection = func(state tls.ConnectionState) error { return verify(state, roots, "") }
	case configs.SSLVerifyFull:
		c.ServerName = host // the only mode that names it to the server
		c.VerifyConnection = func(state tls.ConnectionState) error { return verify(state, roots, host) }
	}
	return c, nil
}

// pair reads the certificate and its key.
func (s Settings) pair() ([]tls.Certificate, error) {
	cert, err := os.ReadFile(s.CertFile)
	if err != nil {
		return nil, s.fail("cert_file", unreadable(s.CertFile, err))
	}
	key, err := os.ReadFile(s.KeyFile)
	if err != nil {
		return nil, s.fail("key_file", unreadable(s.KeyFile, err))
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil && bytes.Contains(key, []byte("ENCRYPTED")) {
		return nil, s.fail("key_file", fmt.Errorf("the key in %s is encrypted, and nobody is asked for its passphrase: openssl pkey writes one without", s.KeyFile))
	}
	if err != nil {
		return nil, s.fail("cert_file", fmt.Errorf("%s with key %s: %w", s.CertFile, s.KeyFile, err))
	}
	return []tls.Certificate{pair}, nil
}

// authorities reads the certificates of those who sign the other side's. nil
// are the system's.
func (s Settings) authorities() (*x509.CertPool, error) {
	if s.CAFile == "" {
		return nil, nil
	}
	text, err := os.ReadFile(s.CAFile)
	if err != nil {
		return nil, s.fail("ca_file", unreadable(s.CAFile, err))
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, s.fail("ca_file", fmt.Errorf("%s holds no certificate in PEM format", s.CAFile))
	}
	return pool, nil
}

// unreadable says why a file can't be read, as PgBouncer does.
func unreadable(path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot read %s: No such file or directory", path)
	}
	var e *fs.PathError
	if errors.As(err, &e) {
		err = e.Err
	}
	return fmt.Errorf("cannot read %s: %w", path, err)
}

// verify checks the chain of the server's certificate, and that it names host,
// unless that is "".
func verify(state tls.ConnectionState, roots *x509.CertPool, host string) error {
	leaf := state.PeerCertificates[0]
	options := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
	for _, c := range state.PeerCertificates[1:] {
		options.Intermediates.AddCert(c)
	}
	if _, err := leaf.Verify(options); err != nil {
		return fmt.Errorf("%s: %w", secure.VerifyFailed, err)
	}
	if host != "" && !names(leaf, host) {
		return fmt.Errorf("%s: name `%s' not present in server certificate", secure.VerifyFailed, host)
	}
	return nil
}
