package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"

	"github.com/pgweir/pgweir/admin"
	"github.com/pgweir/pgweir/admin/metrics"
	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool"
)

// web answers on http_listen. A nil web does nothing.
type web struct {
	*metrics.Server
	ln     net.Listener
	shared bool // the port, with other processes
}

// openWeb opens the address of http_listen, where nobody is answered before
// serve. Without the setting it returns nil.
func (p *process) openWeb(snap *configs.Snapshot) (*web, error) {
	m := &snap.Main
	if m.HTTPListen == "" {
		return nil, nil
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		if !m.SOReusePort {
			return nil
		}
		var unshared error
		err := c.Control(func(fd uintptr) { unshared = sharePort(int(fd)) })
		return errors.Join(err, unshared)
	}}
	ln, err := config.Listen(context.Background(), "tcp", strings.TrimPrefix(m.HTTPListen, "*"))
	if err != nil {
		file, line := snap.Position("http_listen")
		return nil, fmt.Errorf("%s:%d: http_listen: cannot listen on %s: %w", file, line, m.HTTPListen, callOf(err))
	}
	p.log.Log(pool.Info, "", "answering HTTP on "+ln.Addr().String())
	return &web{metrics.New(metrics.Options{
		Pools: p.Pooler, Version: version, Compatible: admin.PgBouncerVersion, Ready: p.ready,
	}), ln, m.SOReusePort}, nil
}

// serve answers until close.
func (w *web) serve(log pool.Logger) {
	if w == nil {
		return
	}
	if err := w.Serve(w.ln); err != nil {
		log.Log(pool.Error, "", "http_listen: "+err.Error())
	}
}

// leave is called when a shutdown begins. A port that is shared is the
// successor's from then on; on others /readyz says no until the end.
func (w *web) leave() {
	if w != nil && w.shared {
		w.Close()
	}
}

// close ends it.
func (w *web) close() {
	if w != nil {
		w.Close()
		w.ln.Close() // if it was never served
	}
}

// ready is nil while new clients are let in, and otherwise says why they are
// not.
func (p *process) ready() error {
	if p.Stopping() {
		return errors.New("shutting down")
	}
	return nil
}
