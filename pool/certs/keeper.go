package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgweir/pgweir/configs"
)

// Keeper holds the TLS configuration for clients that is in force. The zero
// Keeper has none.
type Keeper struct {
	current atomic.Pointer[tls.Config]

	mu       sync.Mutex // held over everything that reads files
	settings Settings
	files    [3]stamp
	own      *tls.Certificate // made when it was needed first

	servers     Settings // for connections to servers, and their files
	serverFiles [3]stamp
}

// Config is the configuration for the next handshake with a client, nil if
// clients get no TLS. It may be called on a loop.
func (k *Keeper) Config() *tls.Config { return k.current.Load() }

// Prepare reads all that m's TLS settings name, those for servers too, and
// returns commit, which puts it in force. An error says which setting is to
// blame, and changes nothing. now begins the life of a certificate that is made
// here. It may block.
func (k *Keeper) Prepare(m *configs.Main, now time.Time) (commit func(), err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	servers := ForServers(m)
	serverFiles := servers.stamps()
	if servers.Wanted() {
		if _, err := servers.Connect("localhost"); err != nil {
			return nil, err
		}
	}
	s := ForClients(m)
	files := s.stamps()
	var config *tls.Config
	if s.Wanted() {
		if s.CertFile == "" && k.own == nil {
			if k.own, err = selfSigned(now); err != nil {
				return nil, err
			}
		}
		if config, err = s.Accept(k.own); err != nil {
			return nil, err
		}
	}
	return func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.settings, k.files = s, files
		k.servers, k.serverFiles = servers, serverFiles
		k.current.Store(config)
	}, nil
}

// Refresh looks whether a file has changed, and if so puts what is there now in
// force for clients. It reports whether it did; on an error what was in force
// stays, and the same files are not tried again. Files for servers are looked at
// too, but only an error follows from that: [Files] take them by themselves. It
// may block.
func (k *Keeper) Refresh() (changed bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if changed, err = k.refresh(); err == nil {
		err = k.look()
	}
	return changed, err
}

// look is Refresh for the files for servers.
func (k *Keeper) look() error {
	if !k.servers.Wanted() {
		return nil
	}
	files := k.servers.stamps()
	if files == k.serverFiles {
		return nil
	}
	k.serverFiles = files
	_, err := k.servers.Connect("localhost")
	return err
}

// refresh is Refresh for the files for clients.
func (k *Keeper) refresh() (changed bool, err error) {
	if !k.settings.Wanted() {
		return false, nil
	}
	files := k.settings.stamps()
	if files == k.files {
		return false, nil
	}
	k.files = files
	config, err := k.settings.Accept(k.own)
	if err != nil {
		return false, err
	}
	k.current.Store(config)
	return true, nil
}

// selfSigned makes a certificate for this machine alone, which nobody can
// verify. Its key never leaves memory.
func selfSigned(now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "localhost"},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.AddDate(10, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}
