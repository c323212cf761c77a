package secure

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"slices"
	"syscall"

	"github.com/pgweir/pgweir/wire"
)

// Stream is a TLS session after its handshake. It is used by one goroutine at
// a time, and may go from one to the next.
type Stream struct {
	conn *tls.Conn
	t    *transport
	rest []byte            // received during the handshake and not yet read
	own  *x509.Certificate // shown to the peer, nil if none was
}

var _ wire.Stream = (*Stream)(nil)

// newStream takes over a session whose handshake is done. rest was received and
// not yet read.
func newStream(conn *tls.Conn, t *transport, rest []byte, own *x509.Certificate) *Stream {
	t.blocking = nil
	return &Stream{conn: conn, t: t, rest: rest, own: own}
}

// Received hands over bytes that were read from the socket before the session
// was put on it. They are the session's own, to be opened before all others.
func (s *Stream) Received(p []byte) { s.rest = append(s.rest, p...) }

// minOpen is the least room that Open offers for plaintext.
const minOpen = 4 << 10

// Open implements [wire.Stream].
func (s *Stream) Open(dst, in, out []byte) (plain, reply []byte, err error) {
	if s.rest != nil {
		in, s.rest = append(s.rest, in...), nil
	}
	s.t.in, s.t.out = in, out
	for err == nil {
		if cap(dst)-len(dst) < minOpen {
			dst = slices.Grow(dst, minOpen)
		}
		var n int
		n, err = s.conn.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
	}
	if err == syscall.EAGAIN {
		err = nil
	}
	out = s.t.out
	s.t.in, s.t.out = nil, nil
	return dst, out, err
}

// Seal implements [wire.Stream].
func (s *Stream) Seal(dst, p []byte) ([]byte, error) {
	s.t.out = dst
	_, err := s.conn.Write(p)
	dst, s.t.out = s.t.out, nil
	return dst, err
}

// Finish implements [wire.Stream].
func (s *Stream) Finish(dst []byte) []byte {
	s.t.out = dst
	_ = s.conn.CloseWrite() // a session that is broken has nothing more to say
	dst, s.t.out = s.t.out, nil
	return dst
}

// String is what PgBouncer shows of a session: version, cipher suite by
// OpenSSL's name, and how keys were agreed on, as in
// "TLSv1.3/TLS_AES_128_GCM_SHA256/ECDH=X25519".
func (s *Stream) String() string {
	state := s.conn.ConnectionState()
	text := versionName(state.Version) + "/" + SuiteName(state.CipherSuite)
	if state.CurveID != 0 {
		text += "/ECDH=" + curveName(state.CurveID)
	}
	return text
}

// curveName is OpenSSL's name of a curve.
func curveName(id tls.CurveID) string {
	switch id {
	case tls.CurveP256:
		return "prime256v1"
	case tls.CurveP384:
		return "secp384r1"
	case tls.CurveP521:
		return "secp521r1"
	}
	return id.String()
}

func versionName(v uint16) string {
	switch v {
	case tls.VersionTLS10:
		return "TLSv1"
	case tls.VersionTLS11:
		return "TLSv1.1"
	case tls.VersionTLS12:
		return "TLSv1.2"
	}
	return "TLSv1.3"
}

// Peer is the certificate that the peer has shown, nil if it has shown none.
// Whether it was verified is the tls.Config's doing.
func (s *Stream) Peer() *x509.Certificate {
	if certs := s.conn.ConnectionState().PeerCertificates; len(certs) > 0 {
		return certs[0]
	}
	return nil
}

// Protocol is what both sides have agreed to speak (ALPN), empty if the client
// has offered nothing.
func (s *Stream) Protocol() string { return s.conn.ConnectionState().NegotiatedProtocol }

// Own is the certificate that was shown to the peer, nil if none was.
func (s *Stream) Own() *x509.Certificate { return s.own }

// VerifyFailed begins the reason of a handshake that failed because a
// certificate could not be verified.
const VerifyFailed = "certificate verify failed"

// Reason is why a handshake failed, for the log.
func Reason(err error) string {
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return VerifyFailed + ": " + e.Err.Error()
	}
	return err.Error()
}

// IsAlert reports whether err is an alert, by which the peer has ended the
// session and said why.
func IsAlert(err error) bool {
	e, ok := errors.AsType[*net.OpError](err)
	return ok && e.Op == "remote error"
}
