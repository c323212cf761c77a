package dial

import (
	"fmt"
	"io"
	"net"

	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/wire"
	"github.com/pgweir/pgweir/wire/secure"
)

// encrypt asks the server for TLS and begins it on conn, as r.TLS wants. nil
// without an error is a connection that stays in clear: only the server's own
// 'N' leads to that, never a handshake that failed.
func (r *Request) encrypt(conn net.Conn, host string) (*secure.Client, *LoginError) {
	if !r.TLS.Wanted() || IsUnix(host) {
		return nil, nil
	}
	config, err := r.files.Connect(r.TLS, host)
	if err != nil {
		return nil, &LoginError{Kind: TLSFailed, Reason: reasonTLS, Detail: err.Error()}
	}
	if _, err := conn.Write(wire.AppendSSLRequest(nil)); err != nil {
		return nil, crashed(err)
	}
	// A server that says more than its one byte before the handshake is
	// none, or somebody between us has put it there.
	var answer [2]byte
	n, err := io.ReadAtLeast(conn, answer[:], 1)
	switch {
	case n == 0:
		return nil, crashed(err)
	case n > 1:
		return nil, &LoginError{Kind: Protocol, Reason: reasonEarly}
	case answer[0] == 'N' && r.TLS.Mode < configs.SSLRequire:
		return nil, nil
	case answer[0] == 'N':
		return nil, &LoginError{Kind: TLSFailed, Reason: reasonNoSSL}
	case answer[0] != 'S':
		return nil, &LoginError{Kind: Protocol, Reason: reasonSSL, Detail: fmt.Sprintf("the server sent %q", answer[0])}
	}
	session, err := secure.Connect(conn, config)
	if err != nil {
		return nil, &LoginError{Kind: TLSFailed, Reason: reasonTLS, Detail: secure.Reason(err)}
	}
	return session, nil
}
