package pool

import (
	"crypto/tls"

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

// startTLS expects a handshake. It begins when the client does, in a chore,
// which hears of all that comes by feed.
func (c *Client) startTLS(config *tls.Config) {
	c.login.phase = phaseHandshake
	c.login.handshake = secure.NewHandshake(config, func() { c.w.loop.Post(c.shakeHands) })
}

// feed hands b to the handshake. It returns what firstPacket does.
func (c *Client) feed(b []byte) int {
	l, p := c.login, c.w.p
	h := l.handshake
	if !h.Feed(b) {
		c.disconnect(false, "TLS handshake failed: the client sends too much")
		return 0
	}
	if !l.shaking {
		l.shaking = true
		p.opts.Chore(func() { h.Run(p.handshakes) })
	}
	return len(b)
}

// shakeHands sends what the handshake has to say, and ends it when it is over.
func (c *Client) shakeHands() {
	l := c.login
	if c.state != ClientLogin || l.handshake == nil {
		return
	}
	out, stream, err := l.handshake.Take()
	if len(out) > 0 {
		c.conn.Write(out)
	}
	switch {
	case err != nil:
		c.disconnect(false, "TLS handshake failed: "+secure.Reason(err))
	case stream != nil:
		l.handshake, l.stream = nil, stream
		c.conn.Pause()
		c.encrypt()
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
	socket.TLS = l.stream
	conn, err := c.w.loop.Attach(socket, c)
	if err != nil {
		c.disconnect(false, "cannot take in a client connection: "+err.Error())
		return
	}
	c.conn, c.ends, l.phase = conn, endsOf(socket), phaseFirst
}
