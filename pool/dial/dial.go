// Package dial connects and logs in to Postgres servers, and sends cancel
// requests. Everything here may block: it runs in chores, never on a loop.
package dial

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pgweir/pgweir/auth"
	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool/certs"
	"github.com/pgweir/pgweir/wire"
)

// Request says where to log in, and as whom. Connect does not change it.
type Request struct {
	// Hosts are tried in turn until one answers. Each is a name, an IP address, the folder of a unix socket
	// ("/run/postgresql"), or such a folder in Linux's abstract name space
	// ("@name"). Port is also part of the unix socket's name.
	Hosts []string
	Port  int

	// Attrs is what a host must be to be taken; the others are passed over. If
	// nothing better is found, SessionPreferStandby takes one that was.
	Attrs configs.SessionAttrs

	// Unwanted is closed when nobody wants the connection any more: then Connect
	// gives up. It may be nil.
	Unwanted <-chan struct{}

	// Names knows the addresses of names; nil: the system is asked each time.
	Names *Names

	// Failed, if it is not nil, hears of each host that was passed over, before
	// the next one is tried. It must not block.
	Failed func(*LoginError)

	// Params are all parameters of the StartupMessage, in the order in which
	// they are sent; user and database are among them.
	Params [][2]string

	// User and Secret answer the server's request for a password. Keys, which
	// may be nil, stand in for a SCRAM secret. Verifiers, which may be nil,
	// remembers derived keys.
	User      string
	Secret    auth.Secret
	Keys      *auth.Keys
	Verifiers *auth.Verifiers

	// PasswordCommand, if it is not empty, is a shell command whose output is
	// the secret in the place of Secret. It is run for each host that is tried.
	PasswordCommand string

	commands *commands // those that run now; nil: none is shared

	// Random is read for nonces: crypto/rand.Reader, outside of tests.
	Random io.Reader

	// ConnectTimeout bounds connecting to one host and logging in there
	// (server_connect_timeout). 0 means that only the context does.
	ConnectTimeout time.Duration

	Options Options

	// TLS says whether and how TCP connections are encrypted. The zero Settings
	// ask for nothing.
	TLS certs.Settings

	files *certs.Files // what TLS names; nil: it is read each time

	// Detach takes the descriptor out of a connection of package net, for a
	// loop. It closes the connection in any case.
	Detach func(net.Conn) (wire.Socket, error)
}

// Options are set on TCP sockets, not on unix sockets. The zero value leaves
// the system's defaults, without keepalive. TCP_NODELAY is always set.
type Options struct {
	Keepalive bool          // tcp_keepalive
	Idle      time.Duration // tcp_keepidle, whole seconds; 0 is the system's
	Interval  time.Duration // tcp_keepintvl, whole seconds; 0 is the system's
	Count     int           // tcp_keepcnt; 0 is the system's

	UserTimeout time.Duration // tcp_user_timeout, milliseconds; 0 is the system's; Linux only
	Buffer      int           // tcp_socket_buffer: bytes each way; 0 is the system's
}

// Param is a parameter that the server reported.
type Param struct{ Name, Value string }

// Session is a logged-in server connection that waits for its first query.
// Whoever has it owns Socket.
type Session struct {
	// Socket has in Early what the server sent behind its first ReadyForQuery.
	Socket wire.Socket

	// Params are the ParameterStatus messages of the login, in order.
	Params []Param

	// Key is the body of BackendKeyData: four bytes of process id and 4 to 256
	// of secret. It is nil when the server sent none: its queries can't be
	// cancelled then.
	Key []byte

	// Proof is how the server asked for the secret.
	Proof auth.Proof

	// Name says which of Request.Hosts answered. Host is what to dial to meet
	// the same server again, for Cancel: the folder of the unix socket, or the
	// IP address where Name may stand for many.
	Name, Host string

	// Standby is whether the server is one, if Request.Attrs asked for one.
	Standby bool
}

// Close ends a session that nobody attached: a Terminate, if the socket takes
// it at once, and the descriptor is closed.
func (s *Session) Close() {
	bye := []byte{wire.Terminate, 0, 0, 0, 4}
	if t := s.Socket.TLS; t != nil {
		bye, _ = t.Seal(nil, bye) // of a broken session nothing is left to say
		bye = t.Finish(bye)
	}
	// A peer that is gone already, or doesn't read, learns it by the close.
	_, _ = syscall.Write(s.Socket.FD, bye)
	CloseSocket(s.Socket)
}

// CloseSocket closes the descriptor of a socket that nobody attached.
func CloseSocket(s wire.Socket) { _ = syscall.Close(s.FD) }

// Connect logs in to the first host that lets it. A host that can't be
// reached, breaks off, is starting up or shutting down (SQLSTATE 57P03 and the
// like), or is not what Attrs ask for is passed over for the next one; any other
// answer is final. A name is tried at each of its addresses. err is always a *LoginError,
// from the host tried last.
func Connect(ctx context.Context, r Request) (*Session, error) {
	if unwanted := r.Unwanted; unwanted != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		go func() {
			select {
			case <-unwanted:
				cancel()
			case <-ctx.Done():
			}
		}()
	}
	if len(r.Hosts) == 0 {
		return nil, &LoginError{Kind: ConnectFailed, Reason: reasonConnect, Detail: "no host is configured"}
	}
	var last *LoginError
	var unfit []string
	for _, host := range r.Hosts {
		s, err := r.host(ctx, host)
		if err == nil {
			return s, nil
		}
		last = err
		last.Host = host
		if !last.tryNext() {
			return nil, last
		}
		if r.Failed != nil {
			r.Failed(last)
		}
		if last.Kind == Unfit {
			unfit = append(unfit, host)
		}
	}
	if r.Attrs == configs.SessionPreferStandby && len(unfit) > 0 {
		r.Hosts, r.Attrs = unfit, configs.SessionAny
		return Connect(ctx, r)
	}
	return nil, last
}

// host connects and logs in to one host, at the first of its addresses that
// lets it.
func (r *Request) host(ctx context.Context, host string) (*Session, *LoginError) {
	if r.PasswordCommand != "" {
		secret, err := r.password(ctx, host)
		if err != nil {
			return nil, err
		}
		r.Secret = secret
	}
	if !r.named(host) {
		return r.one(ctx, host, host)
	}
	addrs, err := r.addresses(ctx, host)
	if err != nil {
		return nil, connectError(ctx, err)
	}
	var last *LoginError
	for _, addr := range addrs {
		s, err := r.one(ctx, host, addr.String())
		if err == nil {
			r.Names.answered(host, addr, 0)
			return s, nil
		}
		r.Names.answered(host, addr, err.Kind)
		if !err.tryNext() {
			return nil, err
		}
		if last == nil || last.Kind != Unfit { // one that works tells more than others that don't
			last = err
		}
	}
	return nil, last
}

// addresses looks host up.
func (r *Request) addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	if r.ConnectTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.ConnectTimeout)
		defer cancel()
	}
	return r.Names.Resolve(ctx, host)
}

// isAddress reports whether host is an IP address and no name.
func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// one connects to addr, which is host or an address of its, and logs in there.
func (r *Request) one(ctx context.Context, host, addr string) (*Session, *LoginError) {
	if r.ConnectTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.ConnectTimeout)
		defer cancel()
	}
	conn, err := open(ctx, addr, r.Port, r.Options)
	if err != nil {
		return nil, connectError(ctx, err)
	}
	release := interruptible(ctx, conn)
	l, failed := r.login(conn, host)
	if !release() && failed == nil {
		failed = &LoginError{Kind: ServerCrashed, Reason: reasonCrashed}
	}
	if failed != nil {
		conn.Close()
		return nil, failed.because(ctx)
	}
	s := l.session
	s.Proof = l.exchange.Proof()
	s.Name, s.Host = host, address(conn, addr)
	if s.Socket, err = r.Detach(conn); err != nil {
		return nil, &LoginError{Kind: ConnectFailed, Reason: reasonConnect, Detail: err.Error()}
	}
	s.Socket.Early = l.rest()
	if l.tls != nil {
		s.Socket.TLS = l.tls.Release()
	}
	return s, nil
}

// login encrypts conn, as far as is wanted, and logs in over it.
func (r *Request) login(conn net.Conn, host string) (*login, *LoginError) {
	session, failed := r.encrypt(conn, host)
	if failed != nil {
		return nil, failed
	}
	var over io.ReadWriter = conn
	if session != nil {
		over = session
	}
	l := newLogin(over, r)
	failed = l.run()
	if failed == nil {
		failed = l.fit(r.Attrs)
	} else {
		failed.Granted = l.granted
	}
	return l, failed
}

// Cancel asks the server at host to cancel what the session with key is doing.
// host is Session.Host, or that of a peer, which may be a name; key is
// Session.Key. Of r the Port, the Options, Names and TLS count, and from Hosts,
// if there is one, the name that the server's certificate must have:
// Session.Name. Right before the request is written beforeSend is asked: false
// means that there is nothing to cancel any more, and Cancel closes without a
// word and returns nil. It returns only when the server has closed the
// connection, which it does after it has sent the signal: from then on the
// session's next query is safe. After an error that follows a beforeSend of
// true, the signal may still be to come: the session should be closed.
func Cancel(ctx context.Context, r Request, host string, key []byte, beforeSend func() bool) error {
	conn, err := r.find(ctx, host)
	if err != nil {
		return connectError(ctx, err)
	}
	defer conn.Close()
	defer interruptible(ctx, conn)()
	name := host
	if len(r.Hosts) > 0 {
		name = r.Hosts[0]
	}
	session, failed := r.encrypt(conn, name)
	if failed != nil {
		return failed.because(ctx)
	}
	var server io.ReadWriter = conn
	if session != nil {
		server = session
	}
	if !beforeSend() {
		if session != nil {
			session.Finish()
		}
		if over := ended(ctx); over != nil {
			return over
		}
		return nil
	}
	if _, err := server.Write(wire.AppendCancelRequest(nil, key)); err != nil {
		return crashed(err).because(ctx)
	}
	var one [1]byte
	switch _, err := server.Read(one[:]); {
	case err == nil:
		return &LoginError{Kind: Protocol, Reason: reasonUnknown, Detail: "the server answered a cancel request"}
	case !errors.Is(err, io.EOF):
		return crashed(err).because(ctx)
	}
	return nil
}

// find connects to host, at the first of its addresses that answers.
func (r *Request) find(ctx context.Context, host string) (conn net.Conn, err error) {
	if !r.named(host) {
		return open(ctx, host, r.Port, r.Options)
	}
	addrs, err := r.Names.Resolve(ctx, host)
	for _, addr := range addrs {
		conn, err = open(ctx, addr.String(), r.Port, r.Options)
		if err == nil {
			r.Names.answered(host, addr, 0)
			break
		}
		r.Names.answered(host, addr, connectError(ctx, err).Kind)
	}
	return conn, err
}

// named reports whether host has to be looked up in r.Names.
func (r *Request) named(host string) bool {
	return r.Names != nil && !IsUnix(host) && !isAddress(host)
}

// open connects to host.
func open(ctx context.Context, host string, port int, o Options) (net.Conn, error) {
	d := net.Dialer{Control: o.control, KeepAliveConfig: o.keepalive()}
	if !o.Keepalive {
		d.KeepAlive = -1
	}
	if IsUnix(host) {
		return d.DialContext(ctx, "unix", host+"/.s.PGSQL."+strconv.Itoa(port))
	}
	return d.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
}

// IsUnix reports whether host stands for the folder of a unix socket.
func IsUnix(host string) bool {
	return strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@")
}

// address is the host to dial for another connection to conn's peer.
func address(conn net.Conn, host string) string {
	if p, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err == nil {
		return p.Addr().String()
	}
	return host
}

// interruptible makes reads and writes on conn fail when ctx ends, until
// release. release reports whether ctx has left conn alone.
func interruptible(ctx context.Context, conn net.Conn) (release func() bool) {
	return context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
}
