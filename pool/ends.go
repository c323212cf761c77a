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
	remote   netip.AddrPort
	local    unique.Handle[netip.AddrPort]
	pid, uid int32 // of the process at the other end of a unix socket, else -1
	unix     bool
	tls      string // the TLS session as SHOW CLIENTS has it, "" without one
}

func endsOf(s wire.Socket) ends {
	return ends{s.Remote, unique.Make(s.Local), int32(s.PeerPID), int32(s.PeerUID), s.Unix, tlsText(s.TLS)}
}

// tlsText describes a session; "" is none. All that are alike share it.
func tlsText(s wire.Stream) string {
	if s == nil {
		return ""
	}
	return unique.Make(s.String()).Value()
}

// from is the far end as log lines write it, and our own end likewise.
func (e *ends) from() string { return e.text(e.remote) }
func (e *ends) to() string   { return e.text(e.local.Value()) }

func (e *ends) text(end netip.AddrPort) string {
	switch {
	case end.IsValid():
		return end.String()
	case e.pid > 0:
		return fmt.Sprintf("unix(%d)", e.pid)
	}
	return "unix"
}
