// Package secure is TLS without sockets. A [Handshake] with a client runs in a
// chore, and a loop moves its bytes; [Connect] is the handshake with a server,
// over a connection that may block. What either leaves is a [Stream]: bytes in,
// bytes out, for a socket on a loop.
//
// It stands on three properties of crypto/tls, which the tests of this package
// hold it to. Reading may be interrupted anywhere: an error that says it is
// temporary, as syscall.EAGAIN does, is not kept, and a record that has come in
// part waits for its rest. Writing may not: a record that was sealed and not
// taken breaks the session, so here a write only ever appends to a buffer. And
// reading may write: who is asked for new keys (KeyUpdate) answers at once.
package secure
