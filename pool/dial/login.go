package dial

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/pgweir/pgweir/auth"
	"github.com/pgweir/pgweir/wire"
	"github.com/pgweir/pgweir/wire/secure"
)

// What a server may send before it has shown that it is one.
const (
	maxAuth    = 64 << 10 // one Authentication message
	maxMessage = 1 << 20  // any other message
	maxLogin   = 4 << 20  // all messages of a login together
)

// login is one login under way.
type login struct {
	conn     io.ReadWriter
	tls      *secure.Client // conn, if it is encrypted
	in       *bufio.Reader
	params   [][2]string
	exchange *auth.ServerExchange

	session *Session
	granted bool   // AuthenticationOk was received
	total   int    // bytes of messages so far
	body    []byte // of the message at hand
	out     []byte
}

func newLogin(conn io.ReadWriter, r *Request) *login {
	l := &login{
		conn:     conn,
		in:       bufio.NewReaderSize(conn, 8<<10),
		params:   r.Params,
		exchange: auth.NewServerExchange(r.User, r.Secret, r.Keys, r.Verifiers, r.Random),
		session:  new(Session),
	}
	if session, ok := conn.(*secure.Client); ok {
		l.tls = session
		l.exchange.Bind(auth.EndPoint(session.Peer()))
	}
	return l
}

// run logs in, up to and including the first ReadyForQuery.
func (l *login) run() *LoginError {
	if _, err := l.conn.Write(wire.AppendStartup(nil, l.params)); err != nil {
		return crashed(err)
	}
	for {
		typ, body, err := l.next()
		if err != nil {
			return err
		}
		ready, err := l.take(typ, body)
		if ready || err != nil {
			return err
		}
	}
}

// next reads one message. Its body is valid until the next call.
func (l *login) next() (typ byte, body []byte, failed *LoginError) {
	header, err := l.in.Peek(wire.HeaderLen)
	if err != nil {
		return 0, nil, crashed(err)
	}
	limit := maxMessage
	if header[0] == wire.Authentication {
		limit = maxAuth
	}
	typ, size, _, err := wire.Peek(header, limit)
	if l.total += size; err != nil || l.total > maxLogin {
		// A postmaster that can't fork sends an 'E' and bare text.
		seen, _ := l.in.Peek(min(l.in.Buffered(), 200))
		return 0, nil, &LoginError{Kind: Protocol, Reason: reasonHeader, Detail: fmt.Sprintf("the server sent %q", seen)}
	}
	l.in.Discard(wire.HeaderLen)
	n := size - wire.HeaderLen
	if cap(l.body) < n {
		l.body = make([]byte, n)
	}
	l.body = l.body[:n]
	if _, err := io.ReadFull(l.in, l.body); err != nil {
		return 0, nil, crashed(err)
	}
	return typ, l.body, nil
}

// take acts on one message. ready is true if and only if it was the
// ReadyForQuery that ends the login.
func (l *login) take(typ byte, body []byte) (ready bool, failed *LoginError) {
	switch {
	case typ == wire.ErrorResponse:
		return false, refused(wire.ParseFields(body))
	case typ == wire.NoticeResponse:
		return false, nil
	case typ == wire.Authentication:
		return false, l.authenticate(body)
	case !l.granted:
	case typ == wire.ParameterStatus:
		return false, l.parameter(body)
	case typ == wire.BackendKeyData:
		return false, l.key(body)
	case typ == wire.ReadyForQuery && len(body) == 1 && wire.TxStatus(body[0]) == wire.TxIdle:
		return true, nil
	}
	return false, &LoginError{Kind: Protocol, Reason: reasonUnknown, Detail: fmt.Sprintf("message %q of %d bytes", typ, len(body))}
}

// authenticate answers an Authentication message.
func (l *login) authenticate(body []byte) *LoginError {
	if len(body) < 4 {
		return authError(fmt.Errorf("%w: message of %d bytes", auth.ErrAuthRequest, len(body)))
	}
	out, done, err := l.exchange.Step(l.out[:0], int32(binary.BigEndian.Uint32(body)), body[4:])
	if err != nil {
		return authError(err)
	}
	l.out = out
	if done {
		l.granted = true
		return nil
	}
	if len(out) > 0 {
		if _, err := l.conn.Write(out); err != nil {
			return crashed(err)
		}
	}
	return nil
}

func (l *login) parameter(body []byte) *LoginError {
	name, rest, ok := wire.CutString(body)
	value, rest, ok2 := wire.CutString(rest)
	if !ok || !ok2 || len(name) == 0 || len(rest) > 0 {
		return &LoginError{Kind: Protocol, Reason: reasonParam}
	}
	l.session.Params = append(l.session.Params, Param{string(name), string(value)})
	return nil
}

// The secret part of a cancel key has 4 bytes in protocol 3.0, up to 256 since
// 3.2; the process id has 4.
const minKey, maxKey = 4 + 4, 4 + 256

func (l *login) key(body []byte) *LoginError {
	if len(body) < minKey || len(body) > maxKey {
		return &LoginError{Kind: Protocol, Reason: reasonKey, Detail: fmt.Sprintf("BackendKeyData of %d bytes", len(body))}
	}
	l.session.Key = append([]byte(nil), body...)
	return nil
}

// rest is what was read behind the last message, nil if nothing was.
func (l *login) rest() []byte {
	b, _ := l.in.Peek(l.in.Buffered())
	return append([]byte(nil), b...)
}
