package wire

import (
	"net/netip"
	"time"
)

// Time is a moment on a loop's clock: nanoseconds since the process started,
// never going back. The zero Time means "never" wherever a moment may be unset.
type Time int64

// Sub returns t-u.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t - u) }

// Add returns t+d.
func (t Time) Add(d time.Duration) Time { return t + Time(d) }

// Conn is a socket on a loop, as the rules above it see it. Every method runs
// on the loop that owns the socket, returns at once, and never calls the
// Handler: what there is to tell is told later in the turn.
type Conn interface {
	// Write sends p behind whatever is queued. What the peer does not take at
	// once is copied and queued without bound: the caller keeps the bound, by
	// asking Queued and no longer reading the other side. p is the caller's
	// again when Write returns. A failure is reported through Handler.Closed;
	// until then further writes are dropped.
	Write(p []byte)

	// Queued is the number of bytes written and not yet taken by the peer's
	// kernel.
	Queued() int

	// Pause stops reading: Handler.Data is not called again before Resume. A
	// peer that closes is noticed all the same (Handler.Closed). Pausing costs
	// no system call as long as the peer stays silent.
	Pause()

	// Hold is Pause for a peer all of whose bytes matter: that it has closed is
	// noticed behind the last of them only, which is after Resume. Only where the
	// socket fails are they handed over without being asked for, and then Closed.
	Hold()

	// Resume starts reading again. It never calls Data by itself.
	Resume()

	// Close gives the queued bytes a last chance (at most Linger), then closes
	// the socket in a way that lets the peer read them. The Handler is not
	// called again.
	Close()

	// Abort closes the socket at once; queued bytes are lost. The Handler is
	// not called again.
	Abort()

	// Detach takes the socket off its loop so that another loop may Attach it.
	// It reports false, and does nothing, while bytes are queued, a failure
	// waits to be told, or the kernel knows the peer no more. After true the Conn is dead.
	Detach() (Socket, bool)
}

// Linger bounds how long Close waits for a peer to take its last bytes.
const Linger = 5 * time.Second

// Handler is told what happens to a Conn. Every call comes on the loop that
// owns the Conn.
type Handler interface {
	// Data hands over bytes that were read. They are the Handler's until it
	// returns, and not longer: what it wants to keep it copies. It may pause,
	// close or abort the Conn from within.
	Data(p []byte)

	// Drained tells that the queue, which had been non-empty at the end of a
	// turn, is empty now.
	Drained()

	// Closed tells that the peer closed (err is io.EOF), the socket failed, or
	// the Handler panicked.
	// It comes once, the Conn is dead already, and nothing comes after it.
	Closed(err error)
}

// Socket is an open descriptor between two owners: accepted and not yet
// attached, logged in by a chore, or under way from one loop to another.
// Whoever holds the Socket must attach it or close it.
type Socket struct {
	FD int // non-blocking, close-on-exec, unknown to the Go runtime's poller

	// Remote and Local are the two ends. On a unix socket both are the zero
	// AddrPort and Unix is set.
	Remote, Local netip.AddrPort
	Unix          bool

	// PeerUID and PeerPID are the credentials of the process at the other end
	// of a unix socket, -1 where they are unknown.
	PeerUID, PeerPID int

	// Early holds bytes that were read before the hand-over. They come before
	// everything still on the descriptor: Attach delivers them first, in the
	// loop's next turn.
	Early []byte

	// TLS is the session that the descriptor's bytes belong to, nil for plain
	// ones. Early is plaintext in any case.
	TLS Stream
}

// Stream is the TLS session of a socket, after its handshake. It holds no
// socket: bytes go in, bytes come out. Whoever owns the Socket owns it.
type Stream interface {
	// Open takes what was received, all of it, and appends to dst what it
	// means; a record that has not come whole is kept until its rest comes. To
	// out it appends what the session has to answer by itself, which is to be
	// sent before anything else. in may be nil: a new owner begins so, for the
	// last one may have received more than it has opened. The error is io.EOF
	// when the peer has ended the session, and final; dst and out are valid
	// with it.
	Open(dst, in, out []byte) (plain, reply []byte, err error)

	// Seal appends to dst what is to be sent for p. It must be sent, behind
	// whatever was sealed before. An error is final.
	Seal(dst, p []byte) ([]byte, error)

	// Finish appends to dst what tells the peer that nothing more follows.
	Finish(dst []byte) []byte

	// String names version, cipher suite and key exchange, as PgBouncer does.
	String() string
}

// Loop is one event loop as the rules see it. The epoll loop of package
// wire/loop is the real one; the simulator has its own.
type Loop interface {
	// Now is the time of the current turn.
	Now() Time

	// Post runs fn on the loop, soon, in the order of posting. It may be
	// called from any goroutine, never blocks, and is the only way in from
	// outside. A loop that was stopped drops fn and reports false.
	Post(fn func()) bool

	// Attach makes the loop the owner of s. It runs on the loop. On failure
	// the descriptor is closed.
	Attach(s Socket, h Handler) (Conn, error)
}
