package auth

import (
	"crypto/md5"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
)

// Kind says in which form a secret is stored.
type Kind uint8

// The kinds of secrets. Postgres and PgBouncer tell them apart by their text.
const (
	KindNone  Kind = iota // no secret, or an empty one: nobody gets in with it
	KindPlain             // the password itself
	KindMD5               // "md5" and the digest of password and user name
	KindSCRAM             // a SCRAM-SHA-256 verifier
)

func (k Kind) String() string {
	switch k {
	case KindNone:
		return "none"
	case KindPlain:
		return "plain"
	case KindMD5:
		return "md5"
	case KindSCRAM:
		return "SCRAM-SHA-256"
	}
	return "Kind(" + strconv.Itoa(int(k)) + ")"
}

// Secret is what is stored to know a user by: the second column of
// userlist.txt, the answer of auth_query, or the password of a connect string.
// The zero Secret is KindNone. A Secret prints as its kind and never as its
// text, whatever the verb.
type Secret struct {
	kind     Kind
	text     string
	verifier *Verifier // KindSCRAM
}

// ParseSecret infers the kind of a stored secret as PgBouncer does: "md5" and
// 32 lower-case hex digits are KindMD5, a complete
// "SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey" is KindSCRAM, anything
// else that is not empty is KindPlain.
func ParseSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	if isMD5(text) {
		return Secret{kind: KindMD5, text: text}
	}
	if v := parseVerifier(text); v != nil {
		return Secret{kind: KindSCRAM, text: text, verifier: v}
	}
	return Secret{kind: KindPlain, text: text}
}

// Plain makes a secret of a password whatever it looks like: one that a user
// typed is never a digest.
func Plain(password string) Secret {
	if password == "" {
		return Secret{}
	}
	return Secret{kind: KindPlain, text: password}
}

// Fits reports whether s is what is stored for user with that password, which
// is KindPlain. For a SCRAM secret that takes milliseconds, unless v, which may
// be nil, remembers.
func (s Secret) Fits(user string, password Secret, v *Verifiers) bool {
	switch s.kind {
	case KindPlain:
		return equal(password.text, s.text)
	case KindMD5:
		return equal(password.md5(user), s.text)
	case KindSCRAM:
		k := v.keys(password.text, s.verifier.salt, s.verifier.iterations)
		if subtle.ConstantTimeCompare(k.storedKey[:], s.verifier.storedKey[:]) == 1 {
			return true
		}
		v.forget(password.text, s.verifier.salt, s.verifier.iterations) // guesses must not take the place of what is right
	}
	return false
}

// Kind returns the form in which the secret is stored.
func (s Secret) Kind() Kind { return s.kind }

// Equal reports whether s and t are the same stored text, read the same way.
func (s Secret) Equal(t Secret) bool { return s.kind == t.kind && s.text == t.text }

// String returns the kind of the secret.
func (s Secret) String() string { return "secret(" + s.kind.String() + ")" }

// Format writes String for every verb.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, s.String()) }

// LogValue returns String.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// md5 returns the digest form of s for user, "md5" included. The secret must
// be KindNone, KindPlain or KindMD5.
func (s Secret) md5(user string) string {
	if s.kind == KindMD5 {
		return s.text
	}
	return md5Digest([]byte(s.text), []byte(user))
}

const md5Len = len("md5") + 2*md5.Size

func isMD5(text string) bool {
	return len(text) == md5Len && strings.HasPrefix(text, "md5") &&
		strings.Trim(text[len("md5"):], "0123456789abcdef") == ""
}

// md5Digest returns "md5" and the hexadecimal MD5 of secret and salt, the step
// that Postgres applies twice: to password and user name for storage, then to
// those hex digits and the challenge's salt.
func md5Digest(secret, salt []byte) string {
	buf := make([]byte, 0, 128)
	sum := md5.Sum(append(append(buf, secret...), salt...))
	return string(hex.AppendEncode(append(buf[:0], "md5"...), sum[:]))
}

// parseVerifier reads the stored form of a SCRAM secret (Postgres:
// parse_scram_secret). It returns nil if text is not one, down to the last
// byte.
func parseVerifier(text string) *Verifier {
	rest, ok := strings.CutPrefix(text, mechanism+"$")
	if !ok {
		return nil
	}
	params, keys, ok := strings.Cut(rest, "$")
	if !ok {
		return nil
	}
	iterations, salt, ok := strings.Cut(params, ":")
	if !ok {
		return nil
	}
	stored, server, ok := strings.Cut(keys, ":")
	if !ok {
		return nil
	}
	v := &Verifier{stored: true}
	if v.iterations = parseIterations(iterations); v.iterations == 0 {
		return nil
	}
	raw, err := decode64(nil, salt)
	if err != nil || len(raw) == 0 || len(raw) > maxSalt {
		return nil
	}
	v.salt = string(raw)
	if !decodeKey(&v.storedKey, stored) || !decodeKey(&v.serverKey, server) {
		return nil
	}
	return v
}

// parseIterations reads a positive decimal number below 2³¹; 0 is anything
// else.
func parseIterations(s string) int {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return 0
	}
	return int(n)
}

// decode64 appends the bytes that s stands for in padded base64 to dst.
// Unlike encoding/base64 it doesn't skip line breaks.
func decode64(dst []byte, s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return dst, base64.CorruptInputError(0)
	}
	return base64.StdEncoding.Strict().AppendDecode(dst, []byte(s))
}

// decodeKey reads exactly one key of base64.
func decodeKey(k *key, s string) bool {
	if len(s) != base64.StdEncoding.EncodedLen(len(k)) {
		return false
	}
	var buf [keyLen + 4]byte
	raw, err := decode64(buf[:0], s)
	return err == nil && copy(k[:], raw) == keyLen && len(raw) == keyLen
}
