package auth

import (
	"bytes"
	"crypto/subtle"
	"encoding/binary"
	"io"
	"strconv"

	"github.com/pgweir/pgweir/wire"
)

// Method is the way in which a client proves who it is.
type Method uint8

// The methods that take an exchange. PgBouncer's other values of auth_type
// take none (trust, any, cert, peer), or choose one of these (hba).
const (
	MethodPlain Method = iota + 1 // auth_type plain: the password in clear
	MethodMD5                     // auth_type md5; SCRAM if the secret is SCRAM
	MethodSCRAM                   // auth_type scram-sha-256
)

func (m Method) String() string {
	switch m {
	case MethodPlain:
		return "plain"
	case MethodMD5:
		return "md5"
	case MethodSCRAM:
		return "scram-sha-256"
	}
	return "Method(" + strconv.Itoa(int(m)) + ")"
}

// The codes of Authentication messages (protocol manual, "Message Formats").
const (
	authOK           = 0
	authCleartext    = 3
	authMD5          = 5
	authSASL         = 10
	authSASLContinue = 11
	authSASLFinal    = 12
)

// Verdict is where an exchange stands after a message.
type Verdict uint8

// The verdicts. The zero Verdict is Rejected, so that what was forgotten is
// refused.
const (
	Rejected Verdict = iota // over: tell the client Reason and close
	Accepted                // over: the client is who it says
	More                    // the client's next message decides
	Busy                    // call Work in a chore, then Step with a nil body
)

func (v Verdict) String() string {
	switch v {
	case Rejected:
		return "rejected"
	case Accepted:
		return "accepted"
	case More:
		return "more"
	case Busy:
		return "busy"
	}
	return "Verdict(" + strconv.Itoa(int(v)) + ")"
}

// The reasons of a rejection, PgBouncer's texts.
const (
	reasonPassword  = "password authentication failed"
	reasonEmpty     = "empty password returned by client"
	reasonSASL      = "SASL authentication failed"
	reasonMechanism = "client selected an invalid SASL authentication mechanism"
)

// Exchange is one login of one client. Nothing but the client's 'p' messages
// may come in while it is under way: the caller refuses the rest, a second
// StartupMessage above all.
type Exchange interface {
	// Start appends the Authentication message that opens the exchange. It is
	// called once, before Step.
	Start(dst []byte) []byte

	// Step takes the body of a 'p' message, which it doesn't keep, and appends
	// what there is to answer. AuthenticationOk and ErrorResponse are left to
	// the caller. After Accepted or Rejected every further Step is Rejected.
	Step(dst, body []byte) ([]byte, Verdict)

	// Work does the slow part of a Step that answered Busy. It may run on
	// another goroutine, and touches nothing but the exchange; the exchange is
	// left alone meanwhile.
	Work()

	// Reason is the text for the client, "" unless the verdict was Rejected.
	Reason() string

	// Result is what the login told, empty unless the verdict was Accepted.
	Result() Result
}

// Result is what a successful login left behind for logging in to servers.
type Result struct {
	// Keys are set after SCRAM against a stored SCRAM secret. A server that
	// stores the same secret can be logged in to with them.
	Keys *Keys

	// Password is the verified password after MethodPlain, else KindNone.
	Password Secret
}

// New begins the login of a client that calls itself user. An unknown user,
// and one that must not get in, has mock set: the exchange then looks like any
// other and ends in a rejection. So does one whose secret is KindNone, or
// KindMD5 under MethodSCRAM.
//
// verifier is from Verifiers.Lookup or Derive, and is needed if and only if
// NeedsVerifier. random is read for salts and nonces during this call and the
// first Step.
func New(method Method, user string, secret Secret, mock bool, verifier *Verifier, random io.Reader) Exchange {
	mock = mock || secret.kind == KindNone
	switch {
	case NeedsVerifier(method, secret):
		e := newSCRAM(verifier, random)
		e.mock = e.mock || mock
		return e
	case method == MethodMD5:
		return newMD5(user, secret, mock, random)
	case method == MethodPlain:
		return &plainExchange{user: user, secret: secret, mock: mock}
	}
	panic("BUG: no exchange for " + method.String())
}

// NeedsVerifier reports whether New speaks SCRAM for method and secret.
func NeedsVerifier(method Method, secret Secret) bool {
	return method == MethodSCRAM || method == MethodMD5 && secret.kind == KindSCRAM
}

// Bind lets e, which has not started, offer SCRAM-SHA-256-PLUS: endPoint is the
// EndPoint of the certificate that the client was shown. nil, and an exchange
// that does not speak SCRAM, changes nothing.
func Bind(e Exchange, endPoint []byte) {
	if s, ok := e.(*scramExchange); ok {
		s.endPoint = endPoint
	}
}

// outcome is the end of an exchange.
type outcome struct {
	over   bool
	reason string
	result Result
}

func (o *outcome) Work() {}

func (o *outcome) Reason() string { return o.reason }

func (o *outcome) Result() Result { return o.result }

// reject ends the exchange. The first reason stays.
func (o *outcome) reject(reason string) Verdict {
	if !o.over {
		o.over, o.reason = true, reason
	}
	o.result = Result{}
	return Rejected
}

// accept ends the exchange.
func (o *outcome) accept(r Result) Verdict {
	o.over, o.result = true, r
	return Accepted
}

// plainExchange asks for the password in clear.
type plainExchange struct {
	outcome
	user   string
	secret Secret
	mock   bool

	// Set while Busy: the password to check, and whether Work found it right.
	password Secret
	right    bool
}

func (e *plainExchange) Start(dst []byte) []byte {
	dst, at := beginAuth(dst, authCleartext)
	return wire.End(dst, at)
}

func (e *plainExchange) Step(dst, body []byte) ([]byte, Verdict) {
	if e.over {
		return dst, e.reject("")
	}
	if e.password.kind != KindNone {
		return dst, e.decide(e.right)
	}
	password, reason := readPassword(body)
	if reason != "" {
		return dst, e.reject(reason)
	}
	e.password = Plain(string(password))
	switch {
	case e.mock:
		return dst, e.decide(false)
	case e.secret.kind == KindSCRAM:
		return dst, Busy
	}
	return dst, e.decide(e.secret.Fits(e.user, e.password, nil))
}

// Work derives the password's keys under the salt of the stored SCRAM secret.
func (e *plainExchange) Work() { e.right = e.secret.Fits(e.user, e.password, nil) }

func (e *plainExchange) decide(right bool) Verdict {
	if !right {
		return e.reject(reasonPassword)
	}
	return e.accept(Result{Password: e.password})
}

// md5Exchange asks for the MD5 of the stored digest and a salt.
type md5Exchange struct {
	outcome
	salt [4]byte
	want string // what the client must send
	mock bool
}

func newMD5(user string, secret Secret, mock bool, random io.Reader) *md5Exchange {
	e := &md5Exchange{mock: mock}
	mustRead(random, e.salt[:])
	e.want = answerMD5(user, secret, e.salt[:])
	return e
}

func (e *md5Exchange) Start(dst []byte) []byte {
	dst, at := beginAuth(dst, authMD5)
	return wire.End(append(dst, e.salt[:]...), at)
}

func (e *md5Exchange) Step(dst, body []byte) ([]byte, Verdict) {
	if e.over {
		return dst, e.reject("")
	}
	answer, reason := readPassword(body)
	if reason != "" {
		return dst, e.reject(reason)
	}
	if !equal(string(answer), e.want) || e.mock {
		return dst, e.reject(reasonPassword)
	}
	return dst, e.accept(Result{})
}

// answerMD5 is the answer to an MD5 challenge, "md5" included. The secret must
// not be KindSCRAM.
func answerMD5(user string, secret Secret, salt []byte) string {
	return md5Digest([]byte(secret.md5(user)[len("md5"):]), salt)
}

// readPassword takes the string out of a PasswordMessage. A reason other than
// "" says why it can't be a password.
func readPassword(body []byte) (password []byte, reason string) {
	password, rest, ok := bytes.Cut(body, []byte{0})
	switch {
	case !ok || len(rest) > 0:
		return nil, reasonPassword
	case len(password) == 0:
		return nil, reasonEmpty
	}
	return password, ""
}

// equal compares without telling by its duration where a and b differ.
func equal(a, b string) bool {
	return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}

// beginAuth opens an Authentication message. wire.End closes it.
func beginAuth(dst []byte, code uint32) (out []byte, at int) {
	dst, at = wire.Begin(dst, wire.Authentication)
	return binary.BigEndian.AppendUint32(dst, code), at
}
