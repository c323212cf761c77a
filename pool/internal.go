package pool

import "github.com/pgweir/pgweir/wire"

// An internal client is one of pgweir's own: a lookup, or a trial. To its pool
// it is a client like any other, whose socket is the lookup or trial itself. It
// is counted by its pool, and nowhere else.

// newInternal makes an internal client of s.
func (s *Shard) newInternal(conn wire.Conn) *Client {
	w := s.w
	c := &Client{
		w: w, conn: conn, shard: s, user: s.pool.user, state: ClientIdle, id: w.p.ids.Add(1),
		connected: w.now(), lastPacket: w.now(), ends: endsOf(wire.Socket{Unix: true, PeerPID: -1, PeerUID: -1}),
	}
	s.idleClients.pushBack(c)
	return c
}

// internal reports whether c has no socket.
func (c *Client) internal() bool {
	switch c.conn.(type) {
	case *lookup, *trial:
		return true
	}
	return false
}

// inert is the part of a wire.Conn that one without a socket has no use for.
type inert struct{}

// Queued implements wire.Conn.
func (inert) Queued() int { return 0 }

// Pause implements wire.Conn.
func (inert) Pause() {}

// Hold implements wire.Conn.
func (inert) Hold() {}

// Resume implements wire.Conn.
func (inert) Resume() {}

// Detach implements wire.Conn.
func (inert) Detach() (wire.Socket, bool) { return wire.Socket{}, false }
