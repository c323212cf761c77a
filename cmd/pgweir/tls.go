package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/pool/certs"
)

// refreshEvery is how often the files of client_tls_ settings are looked at.
const refreshEvery = 3 * time.Second

// warnEvery is how often it is looked whether certificates are near their end.
const warnEvery = 24 * time.Hour

// configureTLS reads what the TLS settings of snap name and puts it in force
// for clients, or changes nothing.
func (p *process) configureTLS(snap *configs.Snapshot) error {
	commit, err := p.prepareTLS(snap)
	if err == nil {
		commit()
	}
	return err
}

// prepareTLS reads what the TLS settings of snap name. commit puts it in force
// for clients.
func (p *process) prepareTLS(snap *configs.Snapshot) (commit func(), err error) {
	clients := certs.ForClients(&snap.Main)
	made := clients.Wanted() && clients.CertFile == ""
	if made && !p.sockets.onlyLocal() {
		return nil, errors.New("TLS setup failed: client_tls_cert_file and client_tls_key_file must be set, for others than this machine can connect to a socket that the service manager has passed")
	}
	use, err := p.tls.Prepare(&snap.Main, time.Now())
	if err != nil {
		return nil, fmt.Errorf("TLS setup failed: %w", err)
	}
	return func() {
		p.warnTLS(&snap.Main)
		if made && snap.Main.ClientTLSSSLMode.Required() { // who only allows it expects nothing of it
			p.log.Log(pool.Warning, "", "client_tls_cert_file is not set: clients are shown a certificate made for this process, which nobody can verify")
		}
		use()
	}, nil
}

// warnTLS tells what is doubtful about m's TLS settings.
func (p *process) warnTLS(m *configs.Main) {
	_, doubtful := certs.Check(m, time.Now())
	for _, e := range doubtful {
		p.log.Log(pool.Warning, "", e.Error())
	}
}

// watchTLS puts renewed certificates in force, and warns of those that nobody
// has renewed, until ctx ends.
func (p *process) watchTLS(ctx context.Context) {
	refresh, warn := time.NewTicker(refreshEvery), time.NewTicker(warnEvery)
	defer refresh.Stop()
	defer warn.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-warn.C:
			p.warnTLS(&p.Snapshot().Main)
			continue
		case <-refresh.C:
		}
		changed, err := p.tls.Refresh()
		if err != nil {
			p.log.Log(pool.Error, "", "TLS setup failed: "+err.Error()+"; what was in force stays")
		}
		if changed {
			p.log.Log(pool.Info, "", "client_tls_ files have changed, and are in force")
			p.warnTLS(&p.Snapshot().Main)
		}
	}
}

// onlyLocal reports whether nobody but this machine can connect to the sockets,
// whoever has opened them.
func (ls *listeners) onlyLocal() bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, l := range ls.tcp {
		var ip net.IP
		switch at, _ := unix.Getsockname(l.fd); at := at.(type) {
		case *unix.SockaddrInet4:
			ip = at.Addr[:]
		case *unix.SockaddrInet6:
			ip = at.Addr[:]
		}
		if !ip.IsLoopback() {
			return false
		}
	}
	return true
}
