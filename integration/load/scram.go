package load

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// scramClient is the client's half of SCRAM-SHA-256 (RFC 5802, RFC 7677). It
// does not check the server's signature: it measures, it trusts nobody with
// anything.
type scramClient struct {
	password string
	nonce    string
}

func newScramClient(password string) *scramClient {
	return &scramClient{password: password, nonce: rand.Text()}
}

func (s *scramClient) bare() string { return "n=,r=" + s.nonce }

// first is the client-first-message.
func (s *scramClient) first() string { return "n,," + s.bare() }

// saltedPasswords remembers what 4096 hashes gave, because clients that log in
// again and again would measure themselves otherwise.
var saltedPasswords sync.Map // of saltedKey to []byte

type saltedKey struct {
	password, salt string
	iterations     int
}

// final answers the server-first-message by the client-final-message (RFC 5802,
// section 3).
func (s *scramClient) final(serverFirst []byte) ([]byte, error) {
	attributes := map[string]string{}
	for part := range strings.SplitSeq(string(serverFirst), ",") {
		if name, value, ok := strings.Cut(part, "="); ok {
			attributes[name] = value
		}
	}
	salt, err := base64.StdEncoding.DecodeString(attributes["s"])
	if err != nil {
		return nil, fmt.Errorf("server-first-message %q: %w", serverFirst, err)
	}
	iterations, err := strconv.Atoi(attributes["i"])
	if err != nil {
		return nil, fmt.Errorf("server-first-message %q: %w", serverFirst, err)
	}
	key := saltedKey{s.password, string(salt), iterations}
	salted, ok := saltedPasswords.Load(key)
	if !ok {
		derived, err := pbkdf2.Key(sha256.New, s.password, salt, iterations, sha256.Size)
		if err != nil {
			return nil, err
		}
		salted, _ = saltedPasswords.LoadOrStore(key, derived)
	}
	mac := func(key []byte, text string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	const noBinding = "c=biws" // base64 of "n,,"
	final := noBinding + ",r=" + attributes["r"]
	clientKey := mac(salted.([]byte), "Client Key")
	storedKey := sha256.Sum256(clientKey)
	proof := mac(storedKey[:], s.bare()+","+string(serverFirst)+","+final)
	for i := range proof {
		proof[i] ^= clientKey[i]
	}
	return []byte(final + ",p=" + base64.StdEncoding.EncodeToString(proof)), nil
}
