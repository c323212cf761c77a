package pool

import (
	"crypto/tls"
	"io"
	"time"

	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool/dial"
	"github.com/pgweir/pgweir/wire"
)

// Options are what a Pooler needs of the world around it.
type Options struct {
	// Snapshot is the configuration to start with.
	Snapshot *configs.Snapshot

	// Loops are the event loops, one Worker each. They need not run yet.
	Loops []wire.Loop

	// Dialer connects to servers.
	Dialer Dialer

	// ClientTLS is by what the next client that asks for TLS gets it, over TCP;
	// nil, or a nil result, is not at all. It is called on the loops.
	ClientTLS func() *tls.Config

	// Names knows the addresses of servers' names; nil: the Dialer finds them
	// by itself.
	Names *dial.Names

	// Chore runs fn where it may block.
	Chore func(fn func())

	// After runs fn when d has passed, on any goroutine; fn does not block.
	After func(d time.Duration, fn func())

	// Random is read for keys, salts and nonces: crypto/rand.Reader, but in
	// tests. It may be used by all loops at once.
	Random io.Reader

	// Seed seeds what needs no secrecy: jitter.
	Seed uint64

	// Wall is the wall-clock time of the zero wire.Time.
	Wall time.Time

	// Now is the loops' clock, for what runs outside of them.
	Now func() wire.Time

	// UID is the user id of the process: who has the same may use the console
	// over a unix socket.
	UID int

	// Hostname is the name of this machine, for application_name_add_host.
	Hostname string

	// Log takes the log lines.
	Log Logger

	// LDAP returns nil if and only if an LDAP server says that password is
	// that of user. It may block. nil: no LDAP.
	LDAP func(o *configs.LDAP, user, password string) error

	// PAM returns nil if and only if PAM says that password is that of user, who
	// comes from host. It may block. nil: no PAM.
	PAM func(user, password, host string) error

	// Console answers on the admin database. It is set before the loops run.
	Console Console

	// Reload reads the configuration anew. It may block.
	Reload func(old *configs.Snapshot) (*configs.Snapshot, error)

	// Stop is called once, from any goroutine, when a shutdown has come to its
	// end and the process may exit.
	Stop func()

	// CloseListeners is called once, from any goroutine, when a shutdown
	// begins: TCP listeners go, those of unix sockets stay. closed is to be
	// called, on any goroutine, when nobody comes from them any more.
	CloseListeners func(closed func())

	// Poison spoils buffers as soon as nobody may read them any more, so that
	// a test notices who does: those that are given back at once, those that
	// are good for one turn when Check is called.
	Poison bool
}

// Dialer opens connections to servers. Its methods return at once, and call
// back from any goroutine, once.
type Dialer interface {
	// Connect dials and logs in. It sets what r lacks for that: Detach.
	Connect(r dial.Request, done func(*dial.Session, error))

	// Cancel sends a CancelRequest to host, as r's port, options and TLS say,
	// within timeout (0: no limit). When it is connected it calls ready with a function that must be
	// called once: with true to send the request, with false to leave it.
	// done is told the end: nil if and only if the request was sent and the
	// server has dealt with it.
	Cancel(r dial.Request, host string, key []byte, timeout time.Duration, ready func(send func(bool)), done func(error))
}
