package auth

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"runtime"
	"strconv"
)

const (
	// mechanism is the SASL mechanism spoken, in both directions; over TLS also
	// mechanismPlus, which binds the exchange to the server's certificate.
	mechanism     = "SCRAM-SHA-256"
	mechanismPlus = "SCRAM-SHA-256-PLUS"

	// The GS2 headers (RFC 5802 section 5.1): the client has no channel
	// binding; it has, and the server has not offered it; it binds. None has an
	// authzid.
	gs2None      = "n,,"
	gs2Unoffered = "y,,"
	gs2Bound     = "p=tls-server-end-point,,"

	// maxSASL bounds a SASL message from a client (Postgres:
	// PG_MAX_SASL_MESSAGE_LENGTH).
	maxSASL = 1 << 10

	// maxSalt bounds the salt of a stored secret and of a server.
	maxSalt = 1 << 10

	// MaxServerIterations is the most that a server may ask for, so that it
	// can't keep a core busy at will (PgBouncer 1.26.1, CVE-2026-6669).
	MaxServerIterations = 1_000_000

	// nonceLen is the number of random bytes in a nonce, as in Postgres and
	// PgBouncer. Base64 makes 24 characters of them.
	nonceLen = 18

	keyLen = sha256.Size
)

// key is a key or digest of SCRAM-SHA-256.
type key [keyLen]byte

// Verifier is what a client's proof is checked against: salt, iteration count,
// StoredKey and ServerKey (RFC 5802 section 3). It is immutable. It prints
// without its keys.
type Verifier struct {
	salt       string
	iterations int
	storedKey  key
	serverKey  key

	stored bool // from a stored secret: a server may hold the same one
	mock   bool // nobody's: every proof is refused
}

// Format writes the iteration count, for every verb.
func (v *Verifier) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "verifier(%s, %d iterations)", mechanism, v.iterations)
}

// Keys are the keys that a password gives under one salt and iteration count.
// With the ClientKey among them one can log in wherever the same SCRAM secret
// is stored, without knowing the password: that is PgBouncer's SCRAM
// pass-through. Keys are immutable and print without their bytes.
type Keys struct {
	Verifier
	clientKey key
}

// secret is the stored form of k, as a server has it.
func (k *Keys) secret() Secret {
	b := strconv.AppendInt(append([]byte(mechanism), '$'), int64(k.iterations), 10)
	b = base64.StdEncoding.AppendEncode(append(b, ':'), []byte(k.salt))
	b = base64.StdEncoding.AppendEncode(append(b, '$'), k.storedKey[:])
	b = base64.StdEncoding.AppendEncode(append(b, ':'), k.serverKey[:])
	return Secret{kind: KindSCRAM, text: string(b), verifier: &k.Verifier}
}

// Format writes the iteration count, for every verb.
func (k *Keys) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "keys(%s, %d iterations)", mechanism, k.iterations)
}

// fits reports whether k is of use to a server that presents salt and
// iterations.
func (k *Keys) fits(salt []byte, iterations int) bool {
	return k != nil && k.salt == string(salt) && k.iterations == iterations
}

// deriving bounds how many derivations compute at once: whoever sends passwords,
// half of the processors are free for others.
var deriving = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))

// deriveKeys runs PBKDF2 over a password. It takes a millisecond for some
// thousand iterations.
func deriveKeys(password, salt string, iterations int) *Keys {
	deriving <- struct{}{}
	defer func() { <-deriving }()
	salted, err := pbkdf2.Key(sha256.New, saslPrep(password), []byte(salt), iterations, keyLen)
	if err != nil {
		panic("BUG: PBKDF2 refuses its parameters: " + err.Error())
	}
	k := &Keys{clientKey: mac(salted, "Client Key")}
	k.Verifier = Verifier{
		salt:       salt,
		iterations: iterations,
		storedKey:  sha256.Sum256(k.clientKey[:]),
		serverKey:  mac(salted, "Server Key"),
	}
	return k
}

// mac is HMAC-SHA-256 of the concatenation of parts.
func mac(k []byte, parts ...string) (sum key) {
	h := hmac.New(sha256.New, k)
	for _, p := range parts {
		io.WriteString(h, p)
	}
	h.Sum(sum[:0])
	return sum
}

// xor returns a XOR b.
func xor(a, b key) key {
	for i := range a {
		a[i] ^= b[i]
	}
	return a
}

// newNonce draws a nonce from random. A source that fails leaves no way to go
// on safely: newNonce panics.
func newNonce(random io.Reader) string {
	var raw [nonceLen]byte
	mustRead(random, raw[:])
	return base64.StdEncoding.EncodeToString(raw[:])
}

func mustRead(random io.Reader, p []byte) {
	if _, err := io.ReadFull(random, p); err != nil {
		panic("auth: the source of randomness failed: " + err.Error())
	}
}

// serverFirst writes the server-first-message (RFC 5802 section 7).
func serverFirst(nonce string, v *Verifier) string {
	b := make([]byte, 0, 128)
	b = append(append(b, "r="...), nonce...)
	b = base64.StdEncoding.AppendEncode(append(b, ",s="...), []byte(v.salt))
	b = strconv.AppendInt(append(b, ",i="...), int64(v.iterations), 10)
	return string(b)
}

// attributes reads a SCRAM message one attribute at a time.
type attributes struct{ rest string }

// next returns the value of the next attribute. It reports false, and consumes
// nothing, unless that attribute is name.
func (a *attributes) next(name byte) (value string, ok bool) {
	if len(a.rest) < 2 || a.rest[0] != name || a.rest[1] != '=' {
		return "", false
	}
	value = a.rest[2:]
	a.rest = ""
	for i := range len(value) {
		if value[i] == ',' {
			value, a.rest = value[:i], value[i+1:]
			break
		}
	}
	return value, true
}

// printable reports whether s can be a nonce: one or more printable ASCII
// characters, no comma (RFC 5802 section 7).
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x21 || s[i] > 0x7e || s[i] == ',' {
			return false
		}
	}
	return s != ""
}
