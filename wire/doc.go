// Package wire is the Postgres protocol as far as bytes go: frames, first
// packets, writers of messages, error fields. It does no I/O and imports
// nothing of pgweir's. Because all other packages stand on it, it also has the
// contract between sockets and rules (conn.go), and this: the map of pgweir.
//
// # The rooms
//
//	cmd/pgweir   command line, signals, listeners; builds the objects. No rules
//	admin        the console and its SHOW commands; admin/logs: the log;
//	             admin/metrics: HTTP, for Prometheus and health checks
//	pool         the rules: who gets which server, when, and when not
//	pool/sql     finding prepared statements' names in texts, quoting
//	pool/params  parameters of sessions: what a server is told when its client has others
//	pool/latency histograms of durations
//	pool/dial    looking names up, logging in to servers, sending cancel requests
//	pool/certs   certificates, and all else that TLS settings ask for
//	pool/ldap    asking LDAP servers about passwords; pool/pam: PAM
//	auth         who may come in: exchanges as state machines, without I/O
//	wire/loop    event loops: the only room with raw system calls
//	wire/secure  TLS, without sockets: handshakes, and sessions for the loops
//	wire         this package
//	configs      pgbouncer.ini, read into one immutable Snapshot
//	configs/dyno a pgbouncer.ini made of the environment, for pgweir exec
//	integration  real Postgres, the simulator, transcripts, real drivers, a real app, benchmarks
//
// Imports run one way, cmd -> admin -> pool -> auth -> wire. configs imports
// nothing of ours, and all but wire may read it.
//
// # How bytes flow
//
//	                 ┌───────────────── one loop, one goroutine ─────────────────┐
//	application ───► │ read buffer ─► Client.Data ─► Peek, ledger ─► Conn.Write  │ ───► Postgres
//	            ◄─── │ Conn.Write  ◄─ ledger, Peek ◄─ Server.Data ◄─ read buffer │ ◄───
//	                 └───────────────────────────────────────────────────────────┘
//	                       ▲ Post                              ▲ Post
//	        console, RELOAD, other loops             chores: logging in to servers, PBKDF2, TLS handshakes
//
// There are N loops. A client lives on one from accept to close, and is served
// by servers on the same loop. A server that another loop needs more goes over
// whole: Detach, Post, Attach. Messages are framed where they were read, and
// all that goes the same way is passed on in one write. Large bodies pass
// through and are never held whole. Under TLS the loop opens what it has read
// before Data, and seals what Write is given; nobody else can tell.
//
// # Who owns what, and when
//
//	accepted     a Socket: whoever holds it attaches it to a loop or closes it
//	login        the Worker of the loop; input that came early is in Client.held
//	idle         the client's Shard, its pool's part on the loop; it has no buffer
//	waiting      the same; it is not read, and Client.held has its request so far
//	active       client and server are a pair; what a peer does not take at once
//	             is in its Conn's queue, and beyond a bound the other is not read
//	opening      a chore of pool/dial has the connection; its slot is taken already
//	console      each message is copied to a chore, and the answer comes by Post
//	closing      the loop alone, until the last bytes are out or Linger is over
//
// # What a reader can rely on
//
//   - A function that takes a context, or says that it may block, is never
//     called on a loop. It runs in a chore: a goroutine whose result comes back
//     by Post.
//   - Post is the only way into a loop. What belongs to a loop needs no lock,
//     and nothing on a loop waits, but for a mutex held over a few map
//     operations where a server is opened or closed and where a client logs in.
//   - Bytes handed to Data are the callee's until it returns. Bytes handed to
//     Write are the caller's again when it returns. Names, values and bodies
//     that this package finds lie in the bytes they were found in.
//   - A server is given away if and only if its ledger is clear (no reply is
//     owed, no COPY is open), its last ReadyForQuery said 'I', and everything
//     meant for it has left. On any doubt it is closed.
//   - State and list are one: an object stands in the list of its state, and
//     one function moves it.
//   - A slot is taken before a server is opened, and given back when it is
//     closed, in one place: no limit is ever exceeded.
//   - Time and randomness are arguments, so a whole pooler runs in a test.
//
// # Where to read on
//
// conn.go here; then package pool's page, pool/state.go and pool/client.go
// (a request's way), pool/reply.go (the answer's), pool/ledger.go (when it is
// over). Package wire/loop's page tells what a turn of a loop is.
// cmd/pgweir/process.go shows how everything is put together.
// docs/decisions.md says why.
package wire
