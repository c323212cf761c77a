package secure

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"sync"
)

// Slots bound how many handshakes compute at once. One that waits for its peer
// holds none, so peers that are slow, or say nothing, keep nobody out.
type Slots chan struct{}

// NewSlots makes n slots.
func NewSlots(n int) Slots { return make(Slots, n) }

func (s Slots) take() { s <- struct{}{} }
func (s Slots) give() { <-s }

// MaxFed bounds what Feed takes before the handshake has read it. A peer has no
// reason to send as much: what it sends first, its certificates aside, is a few
// hundred bytes, and it then has to wait.
const MaxFed = 128 << 10

// Handshake is a server's side of a TLS handshake whose bytes somebody else
// moves: Run computes, in a goroutine of its own; Feed brings what the peer has
// sent, and Take takes what there is to send. All methods may be called from
// any goroutine.
type Handshake struct {
	config *tls.Config
	wake   func()

	mu      sync.Mutex
	come    sync.Cond // in, ended or gone has changed
	in, out []byte
	ended   bool // nothing more comes
	gone    bool // nobody waits for the end any more
	awake   bool // wake was called since the last Take
	over    bool
	stream  *Stream
	err     error
}

// NewHandshake prepares a handshake by config, whose first certificate must
// have its Leaf. wake is called when there is something for Take, from Run's
// goroutine, and then not again before the next Take.
func NewHandshake(config *tls.Config, wake func()) *Handshake {
	h := &Handshake{config: config, wake: wake}
	h.come.L = &h.mu
	return h
}

// Feed hands over a copy of what the peer has sent. It reports false when that
// is more than any peer has a reason to send.
func (h *Handshake) Feed(p []byte) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.in = append(h.in, p...)
	h.come.Signal()
	return len(h.in) <= MaxFed
}

// Take returns what is to be sent, which is the caller's. At the end it returns
// also the Stream, or why there is none; out may then have a last message, an
// alert for one. After the Stream was taken nothing may be fed.
func (h *Handshake) Take() (out []byte, s *Stream, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.awake = false
	out, h.out = h.out, nil
	if h.over {
		if h.stream != nil && len(h.in) > 0 {
			h.stream.rest, h.in = h.in, nil
		}
		return out, h.stream, h.err
	}
	return out, nil, nil
}

// End says that the peer sends nothing more than was fed. Run ends soon, for
// better or worse.
func (h *Handshake) End() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = true
	h.come.Signal()
}

// Abort ends Run soon, if it has not ended. wake is not called again.
func (h *Handshake) Abort() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.gone = true
	h.come.Signal()
}

// Run does the handshake. It returns when that is over, one way or another. It
// blocks while the peer says nothing, and while all slots are taken.
func (h *Handshake) Run(slots Slots) {
	slots.take()
	defer slots.give()
	t := &transport{blocking: &fed{h, slots}}
	conn := tls.Server(t, h.config)
	err := conn.Handshake()

	h.mu.Lock()
	h.over = true
	if err != nil {
		h.err = err
	} else {
		h.stream = newStream(conn, t, nil, leaf(h.config))
	}
	h.mu.Unlock()
	h.tell()
}

// leaf is the certificate that config shows.
func leaf(config *tls.Config) *x509.Certificate {
	if len(config.Certificates) == 0 {
		return nil
	}
	return config.Certificates[0].Leaf
}

// tell wakes whoever takes.
func (h *Handshake) tell() {
	h.mu.Lock()
	wake := !h.awake && !h.gone
	h.awake = true
	h.mu.Unlock()
	if wake {
		h.wake()
	}
}

var errGone = errors.New("the connection is closed")

// fed is the transport of a Handshake.
type fed struct {
	h     *Handshake
	slots Slots
}

// Read has sent what was written, and waits for what the peer says to it.
// Meanwhile others may compute.
func (f *fed) Read(p []byte) (int, error) {
	h := f.h
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.in) == 0 && !h.ended && !h.gone {
		if len(h.out) > 0 {
			h.mu.Unlock()
			h.tell()
			h.mu.Lock()
		}
		f.slots.give()
		for len(h.in) == 0 && !h.ended && !h.gone {
			h.come.Wait()
		}
		h.mu.Unlock()
		f.slots.take()
		h.mu.Lock()
	}
	if h.gone {
		return 0, errGone
	}
	if len(h.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p, h.in)
	h.in = h.in[n:]
	return n, nil
}

// Write keeps p until the handshake waits, or is over: a flight leaves whole,
// and an alert with the reason for it.
func (f *fed) Write(p []byte) (int, error) {
	f.h.mu.Lock()
	defer f.h.mu.Unlock()
	f.h.out = append(f.h.out, p...)
	return len(p), nil
}

// Client is a TLS session with a server over a connection that may block. Until
// Release it is read and written like any connection.
type Client struct {
	conn *tls.Conn
	t    *transport
	own  *x509.Certificate
}

// Connect does a client's side of a TLS handshake over conn, whose deadlines
// interrupt it. It may block.
func Connect(conn net.Conn, config *tls.Config) (*Client, error) {
	t := &transport{blocking: conn}
	c := &Client{tls.Client(t, config), t, leaf(config)}
	if err := c.conn.Handshake(); err != nil {
		return nil, err
	}
	return c, nil
}

var _ io.ReadWriter = (*Client)(nil)

// Read implements io.Reader.
func (c *Client) Read(p []byte) (int, error) { return c.conn.Read(p) }

// Write implements io.Writer.
func (c *Client) Write(p []byte) (int, error) { return c.conn.Write(p) }

// Peer is the certificate that the server has shown.
func (c *Client) Peer() *x509.Certificate {
	return c.conn.ConnectionState().PeerCertificates[0]
}

// Finish tells the server that nothing more follows. It may block.
func (c *Client) Finish() {
	_ = c.conn.CloseWrite() // a session that is broken has nothing more to say
}

// Release makes a Stream of the session, for a loop. The Client may not be used
// again, and nobody may be within one of its methods.
func (c *Client) Release() *Stream { return newStream(c.conn, c.t, nil, c.own) }
