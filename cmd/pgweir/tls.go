package main

import (
	"context"
	"fmt"
	"time"

	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/pool/certs"
)

// refreshEvery is how often the files of client_tls_ settings are looked at.
const refreshEvery = 3 * time.Second

// configureTLS reads what the TLS settings of snap name and puts it in force
// for clients, or changes nothing.
func (p *process) configureTLS(snap *configs.Snapshot) error {
	commit, err := p.tls.Prepare(&snap.Main, time.Now())
	if err != nil {
		return fmt.Errorf("TLS setup failed: %w", err)
	}
	for _, s := range []certs.Settings{certs.ForClients(&snap.Main), certs.ForServers(&snap.Main)} {
		for _, note := range s.Notes() {
			p.log.Log(pool.Warning, "", note)
		}
	}
	if s := certs.ForClients(&snap.Main); s.Wanted() && s.CertFile == "" {
		p.log.Log(pool.Warning, "", "client_tls_cert_file is not set: clients are shown a certificate made for this process, which nobody can verify")
	}
	commit()
	return nil
}

// watchTLS puts renewed certificates in force, until ctx ends.
func (p *process) watchTLS(ctx context.Context) {
	ticker := time.NewTicker(refreshEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		switch changed, err := p.tls.Refresh(); {
		case err != nil:
			p.log.Log(pool.Error, "", "TLS setup failed: "+err.Error()+"; what was in force stays")
		case changed:
			p.log.Log(pool.Info, "", "client_tls_ files have changed, and are in force")
		}
	}
}
