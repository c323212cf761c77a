package pool

import (
	"fmt"
	"net/netip"
	"unique"

	"github.com/pgweir/pgweir/wire"
)

// ends are the two ends of a socket, kept small: ten thousand clients came to
// one address of ours.
type ends struct {
	remote netip.AddrPort
	near   unique.Handle[near]
	pid    int32 // of the process at the other end of a unix socket, else -1
	unix   bool
}

// near is what many sockets have in common.
type near struct {
	local netip.AddrPort
	tls   string // the TLS session as SHOW CLIENTS has it, "" without one
}

func endsOf(s wire.Socket) ends {
	n := near{local: s.Local}
	if s.TLS != nil {
		n.tls = s.TLS.String()
	}
	return ends{s.Remote, unique.Make(n), int32(s.PeerPID), s.Unix}
}

// local is our own end.
func (e *ends) local() netip.AddrPort { return e.near.Value().local }

// tls describes the TLS session, "" without one.
func (e *ends) tls() string { return e.near.Value().tls }

// from is the far end as log lines write it, and to is our own end likewise.
func (e *ends) from() string { return e.text(e.remote) }
func (e *ends) to() string   { return e.text(e.local()) }

func (e *ends) text(end netip.AddrPort) string {
	switch {
	case end.IsValid():
		return end.String()
	case e.pid > 0:
		return fmt.Sprintf("unix(%d)", e.pid)
	}
	return "unix"
}
