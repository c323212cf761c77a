package secure

import (
	"io"
	"net"
	"syscall"
	"time"
)

// transport is what a tls.Conn reads from and writes to: until the end of the
// handshake something that may block, from then on the bytes that somebody else
// has read and will write.
type transport struct {
	blocking io.ReadWriter // nil from release on
	in       []byte        // received, not yet read
	out      []byte        // to be sent
}

var _ net.Conn = (*transport)(nil)

// Read implements net.Conn. Without blocking it says EAGAIN where there is
// nothing; the value must be bare, for crypto/tls asserts its type.
func (t *transport) Read(p []byte) (int, error) {
	if t.blocking != nil {
		return t.blocking.Read(p)
	}
	if len(t.in) == 0 {
		return 0, syscall.EAGAIN
	}
	n := copy(p, t.in)
	t.in = t.in[n:]
	return n, nil
}

// Write implements net.Conn. Without blocking it can't fail.
func (t *transport) Write(p []byte) (int, error) {
	if t.blocking != nil {
		return t.blocking.Write(p)
	}
	t.out = append(t.out, p...)
	return len(p), nil
}

// The rest of net.Conn. Whoever owns the socket closes it and keeps the time.

func (t *transport) Close() error                     { return nil }
func (t *transport) LocalAddr() net.Addr              { return nil }
func (t *transport) RemoteAddr() net.Addr             { return nil }
func (t *transport) SetDeadline(time.Time) error      { return nil }
func (t *transport) SetReadDeadline(time.Time) error  { return nil }
func (t *transport) SetWriteDeadline(time.Time) error { return nil }
