package pool

import (
	"crypto/tls"

	"github.com/pgweir/pgweir/wire"
	"github.com/pgweir/pgweir/wire/secure"
)

// typeHandshake is the first byte of a TLS handshake. A client that begins with
// it skips the SSLRequest (libpq's sslnegotiation=direct).
const typeHandshake = 0x16

// offersTLS is what c gets TLS by, nil if it gets none.
func (c *Client) offersTLS() *tls.Config {
	if offer := c.w.p.opts.ClientTLS; offer != nil && !c.unix {
		return offer()
	}
	return nil
}

// encrypted reports whether c speaks TLS.
func (c *Client) encrypted() bool { return c.tls() != "" }

// requestTLS answers the SSLRequest of that size at the begin of b. It returns
// what firstPacket does.
func (c *Client) requestTLS(b []byte, size int) int {
	config := c.offersTLS()
	switch {
	case c.encrypted():
		c.disconnect(false, "SSL req inside SSL")
		return 0
	case config == nil:
		return c.refuseEncryption(b, size, &c.login.refused[0], "SSL")
	case len(b) > size:
		c.disconnect(true, "received unencrypted data after SSL request")
		return 0
	}
	c.conn.Write([]byte{'S'})
	c.startTLS(config)
	return size
}

// shaking is a handshake with a client, under way.
type shaking struct {
	w      *Worker
	client *Client // nil once it has hung up
	tls    *secure.Handshake
	began  bool // its chore was started
	spoken bool // the client has heard of it
}

// startTLS expects a handshake. It begins when the client does, in a chore,
// which hears of all that comes by feed.
func (c *Client) startTLS(config *tls.Config) {
	s := &shaking{w: c.w, client: c}
	s.tls = secure.NewHandshake(config, func() { s.w.loop.Post(s.goOn) })
	c.login.phase, c.login.handshake = phaseHandshake, s
}

// feed hands b to the handshake. It returns what firstPacket does.
func (c *Client) feed(b []byte) int {
	s, p := c.login.handshake, c.w.p
	if !s.tls.Feed(b) {
		c.disconnect(false, "TLS handshake failed: the client sends too much")
		return 0
	}
	if !s.began {
		s.began = true
		p.opts.Chore(func() { s.tls.Run(p.handshakes) })
	}
	return len(b)
}

// goOn sends what the handshake has to say, and ends it when it is over.
func (s *shaking) goOn() {
	c := s.client
	if c == nil {
		s.lastWords()
		return
	}
	if c.login == nil || c.login.handshake != s {
		return
	}
	out, stream, err := s.tls.Take()
	if len(out) > 0 {
		s.spoken = true
		c.conn.Write(out)
	}
	switch {
	case err != nil:
		c.disconnect(false, "TLS handshake failed: "+secure.Reason(err))
	case stream != nil:
		c.login.handshake, c.login.stream = nil, stream
		c.conn.Pause()
		c.encrypt()
	}
}

// hungUp is called when c will send nothing more. A driver that cancels a query
// sends the last of the handshake, the request, and the end of the connection
// without waiting for anything; so a handshake that the client has heard of
// goes on without it.
func (c *Client) hungUp() {
	l := c.login
	if l == nil || l.handshake == nil || !l.handshake.spoken {
		return
	}
	s := l.handshake
	s.client, l.handshake = nil, nil
	s.tls.End()
}

// lastWords looks whether what was left of a client is a cancel request.
func (s *shaking) lastWords() {
	_, stream, _ := s.tls.Take()
	if stream == nil {
		return
	}
	p, _, _ := stream.Open(nil, nil, nil)
	if f, _, ok, err := wire.PeekFirst(p); err == nil && ok && f.Kind == wire.FirstCancel {
		s.w.carryOut(&cancel{key: f.Key})
	}
}

// encrypt puts the session between c and its socket, as soon as everything in
// clear has left.
func (c *Client) encrypt() {
	socket, ok := c.conn.Detach()
	if !ok {
		return // Drained comes, or Closed
	}
	l := c.login
	l.stream.Received(socket.Early) // nothing that was not sealed may pass for it
	socket.Early, socket.TLS = nil, l.stream
	conn, err := c.w.loop.Attach(socket, c)
	if err != nil {
		c.disconnect(false, "cannot take in a client connection: "+err.Error())
		return
	}
	c.conn, c.ends, l.phase = conn, endsOf(socket), phaseFirst
	if l.direct && l.stream.Protocol() == "" { // nothing else says that both sides mean Postgres
		c.disconnect(true, "a direct TLS connection must offer the protocol postgresql (ALPN)")
	}
}
