package auth

import (
	"bytes"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/pgweir/pgweir/wire"
)

// The ways in which logging in to a server fails on our side. The texts are
// PgBouncer's. All but ErrAuthRequest are what waiting clients are told; that
// one is only why the server connection was closed. What a ServerExchange
// returns wraps one of them in an error whose text adds, for the log, what was
// wrong.
var (
	ErrWrongPasswordType = errors.New("server login failed: wrong password type")
	ErrNoMechanism       = errors.New("server login failed: none of the server's SASL authentication mechanisms are supported")
	ErrServerSignature   = errors.New("server login failed: invalid server signature")
	ErrAuthRequest       = errors.New("failed to answer authreq")
)

// ServerExchange is one login of ours to a server: trust, password, md5 or
// SCRAM-SHA-256, as the server asks.
type ServerExchange struct {
	user   string
	secret Secret
	keys   *Keys
	cache  *Verifiers
	random io.Reader

	endPoint []byte // what SCRAM-SHA-256-PLUS binds to, nil without TLS

	state  serverState
	nonce  string // serverSASL: our part
	bare   string // serverSASL: the client-first-message-bare
	bound  string // serverSASL: the GS2 header and what it binds to
	expect key    // serverProved: the signature that proves the server
	proof  Proof  // how the secret was asked for
}

// Proof is how a server asked for the secret of a login that it let in, and the
// least that answers it again.
type Proof struct {
	// Asked is whether it did: a server that trusts us has not looked at the
	// secret.
	Asked bool

	// Secret and Keys are for NewServerExchange. Only a server that asks for
	// the password itself leaves it here.
	Secret Secret
	Keys   *Keys
}

// Proof is of use once Step has said done.
func (e *ServerExchange) Proof() Proof { return e.proof }

// serverState is what a ServerExchange may be told next.
type serverState uint8

const (
	serverStart    serverState = iota // any request, or AuthenticationOk
	serverAnswered                    // a password was sent: only AuthenticationOk
	serverSASL                        // client-first sent: only SASLContinue
	serverProved                      // client-final sent: only SASLFinal
	serverDone                        // terminal: nothing
)

// NewServerExchange prepares to log in as user with secret. keys, which may be
// nil, stand in for a secret that is a SCRAM one. cache, which may be nil,
// remembers keys from one login to the next. random is read for the nonce.
func NewServerExchange(user string, secret Secret, keys *Keys, cache *Verifiers, random io.Reader) *ServerExchange {
	return &ServerExchange{user: user, secret: secret, keys: keys, cache: cache, random: random}
}

// Bind lets the exchange use SCRAM-SHA-256-PLUS, if the server offers it:
// endPoint is the EndPoint of the certificate that the server has shown. nil
// changes nothing. It is called before Step.
func (e *ServerExchange) Bind(endPoint []byte) { e.endPoint = endPoint }

// Step takes an Authentication message, taken apart into its code and what
// follows it, and appends the answer. done is true if and only if the message
// was the AuthenticationOk that ends the exchange; the server has then proved,
// if SCRAM was spoken, that it knows the secret too. After an error, or after
// done, every further Step is an error.
//
// A Step may derive keys, at most MaxServerIterations: it belongs in a chore.
func (e *ServerExchange) Step(dst []byte, code int32, body []byte) (out []byte, done bool, err error) {
	state := e.state
	e.state = serverDone
	switch {
	case code == authOK && (state == serverStart || state == serverAnswered):
		return dst, true, nil
	case code == authCleartext && state == serverStart:
		return e.cleartext(dst)
	case code == authMD5 && state == serverStart:
		return e.md5(dst, body)
	case code == authSASL && state == serverStart:
		return e.sasl(dst, body)
	case code == authSASLContinue && state == serverSASL:
		return e.saslContinue(dst, body)
	case code == authSASLFinal && state == serverProved:
		return dst, false, e.saslFinal(body)
	case state == serverStart:
		return dst, false, fmt.Errorf("%w: authentication method %d is not supported", ErrAuthRequest, code)
	}
	return dst, false, fmt.Errorf("%w: authentication message %d out of order", ErrAuthRequest, code)
}

func (e *ServerExchange) cleartext(dst []byte) ([]byte, bool, error) {
	if e.secret.kind != KindPlain && e.secret.kind != KindNone {
		return dst, false, fmt.Errorf("%w: the server asks for the password itself, stored is %s", ErrWrongPasswordType, e.secret.kind)
	}
	e.state = serverAnswered
	e.proof = Proof{Asked: true, Secret: e.secret}
	return appendPassword(dst, e.secret.text), false, nil
}

func (e *ServerExchange) md5(dst, body []byte) ([]byte, bool, error) {
	if e.secret.kind == KindSCRAM {
		return dst, false, fmt.Errorf("%w: the server asks for MD5, stored is %s", ErrWrongPasswordType, e.secret.kind)
	}
	if len(body) != 4 {
		return dst, false, fmt.Errorf("%w: MD5 salt of %d bytes", ErrAuthRequest, len(body))
	}
	e.state = serverAnswered
	e.proof = Proof{Asked: true, Secret: Secret{kind: KindMD5, text: e.secret.md5(e.user)}}
	return appendPassword(dst, answerMD5(e.user, e.secret, body)), false, nil
}

// sasl picks the mechanism and sends the client-first-message.
func (e *ServerExchange) sasl(dst, body []byte) ([]byte, bool, error) {
	name, header := mechanism, gs2None
	switch plus := offers(body, mechanismPlus); {
	case plus && e.endPoint != nil:
		name, header = mechanismPlus, gs2Bound
	case e.endPoint != nil:
		header = gs2Unoffered // a server that did offer it knows that somebody lies
	}
	if !offers(body, name) {
		return dst, false, fmt.Errorf("%w: the server offers %q", ErrNoMechanism, body[:min(len(body), 200)])
	}
	if e.secret.kind == KindMD5 || e.secret.kind == KindSCRAM && e.keys == nil {
		return dst, false, fmt.Errorf("%w: the server asks for %s, stored is %s and no client has logged in by SCRAM yet",
			ErrWrongPasswordType, name, e.secret.kind)
	}
	e.state, e.nonce = serverSASL, newNonce(e.random)
	// The user name is left empty, as libpq does: the startup packet's counts.
	e.bare = "n=,r=" + e.nonce
	first := header + e.bare
	if e.bound = header; header == gs2Bound {
		e.bound += string(e.endPoint)
	}
	dst, at := wire.Begin(dst, wire.Password)
	dst = wire.AppendString(dst, name)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(first)))
	return wire.End(append(dst, first...), at), false, nil
}

// offers reports whether a SASL request lists name.
func offers(list []byte, name string) bool {
	for {
		m, rest, ok := bytes.Cut(list, []byte{0})
		if !ok || len(m) == 0 {
			return false
		}
		if string(m) == name {
			return true
		}
		list = rest
	}
}

// saslContinue answers the server-first-message with our proof.
func (e *ServerExchange) saslContinue(dst, body []byte) ([]byte, bool, error) {
	first := string(body)
	nonce, salt, iterations, err := readServerFirst(first, e.nonce)
	if err != nil {
		return dst, false, err
	}
	k := e.keys
	switch {
	case e.secret.kind != KindSCRAM:
		k = e.cache.keys(e.secret.text, string(salt), iterations)
	case !k.fits(salt, iterations):
		return dst, false, fmt.Errorf("%w: the server stores another SCRAM secret than the one a client logged in with", ErrWrongPasswordType)
	}
	final := "c=" + base64.StdEncoding.EncodeToString([]byte(e.bound)) + ",r=" + nonce
	signed := e.bare + "," + first + "," + final
	proof := xor(k.clientKey, mac(k.storedKey[:], signed))
	e.expect = mac(k.serverKey[:], signed)
	e.state = serverProved
	e.proof = Proof{Asked: true, Secret: k.secret(), Keys: k}

	dst, at := wire.Begin(dst, wire.Password)
	dst = append(append(dst, final...), ",p="...)
	dst = base64.StdEncoding.AppendEncode(dst, proof[:])
	return wire.End(dst, at), false, nil
}

// readServerFirst reads a server-first-message. nonce begins with ours.
func readServerFirst(message, ours string) (nonce string, salt []byte, iterations int, err error) {
	a := attributes{message}
	nonce, ok := a.next('r')
	if !ok || !printable(nonce) || len(nonce) <= len(ours) || !strings.HasPrefix(nonce, ours) {
		return "", nil, 0, fmt.Errorf("%w: bad nonce in the server's SCRAM message", ErrAuthRequest)
	}
	salt64, ok := a.next('s')
	if !ok || len(salt64) > base64.StdEncoding.EncodedLen(maxSalt) {
		return "", nil, 0, fmt.Errorf("%w: no salt in the server's SCRAM message, or more than %d bytes", ErrAuthRequest, maxSalt)
	}
	salt, err = decode64(nil, salt64)
	if err != nil || len(salt) == 0 {
		return "", nil, 0, fmt.Errorf("%w: bad salt in the server's SCRAM message", ErrAuthRequest)
	}
	count, ok := a.next('i')
	iterations = parseIterations(count)
	if !ok || iterations == 0 {
		return "", nil, 0, fmt.Errorf("%w: bad iteration count in the server's SCRAM message", ErrAuthRequest)
	}
	if iterations > MaxServerIterations {
		return "", nil, 0, fmt.Errorf("%w: the server asks for %d SCRAM iterations, at most %d are allowed", ErrAuthRequest, iterations, MaxServerIterations)
	}
	return nonce, salt, iterations, nil
}

// saslFinal checks that the server knows the secret too.
func (e *ServerExchange) saslFinal(body []byte) error {
	a := attributes{string(body)}
	if reason, ok := a.next('e'); ok {
		return fmt.Errorf("%w: the server reports SCRAM error %q", ErrAuthRequest, reason)
	}
	var signature key
	if v, ok := a.next('v'); !ok || !decodeKey(&signature, v) {
		return fmt.Errorf("%w: bad signature in the server's SCRAM message", ErrAuthRequest)
	}
	if subtle.ConstantTimeCompare(signature[:], e.expect[:]) != 1 {
		return ErrServerSignature
	}
	e.state = serverAnswered
	return nil
}

func appendPassword(dst []byte, password string) []byte {
	dst, at := wire.Begin(dst, wire.Password)
	return wire.End(wire.AppendString(dst, password), at)
}
