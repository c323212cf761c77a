package auth

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"io"
	"strings"

	"github.com/pgweir/pgweir/wire"
)

// scramExchange is the server's side of SCRAM-SHA-256 (RFC 5802 section 5,
// RFC 7677): we are the server, a client proves itself.
type scramExchange struct {
	outcome
	verifier *Verifier
	mock     bool
	random   io.Reader // nil once the nonce is drawn

	// Set by the client-first-message.
	nonce   string // the client's part and ours
	binding string // the "c=" that must come back: base64 of the GS2 header
	signed  string // client-first-message-bare "," server-first-message ","
}

func newSCRAM(v *Verifier, random io.Reader) *scramExchange {
	if v == nil {
		panic("BUG: SCRAM exchange without a verifier")
	}
	return &scramExchange{verifier: v, mock: v.mock, random: random}
}

func (e *scramExchange) Start(dst []byte) []byte {
	dst, at := beginAuth(dst, authSASL)
	dst = wire.AppendString(dst, mechanism)
	return wire.End(append(dst, 0), at)
}

func (e *scramExchange) Step(dst, body []byte) ([]byte, Verdict) {
	if e.over {
		return dst, e.reject("")
	}
	if len(body) > maxSASL {
		return dst, e.reject(reasonSASL)
	}
	if e.random != nil {
		return e.first(dst, body)
	}
	return e.final(dst, body)
}

// first takes a SASLInitialResponse and answers with the salt.
func (e *scramExchange) first(dst, body []byte) ([]byte, Verdict) {
	name, body, ok := bytes.Cut(body, []byte{0})
	if !ok {
		return dst, e.reject(reasonSASL)
	}
	if string(name) != mechanism {
		return dst, e.reject(reasonMechanism)
	}
	if len(body) < 4 || uint64(binary.BigEndian.Uint32(body)) != uint64(len(body)-4) {
		return dst, e.reject(reasonSASL)
	}
	message := string(body[4:])
	clientNonce, binding, bare, ok := readClientFirst(message)
	if !ok {
		return dst, e.reject(reasonSASL)
	}
	e.nonce = clientNonce + newNonce(e.random)
	e.random = nil
	e.binding = binding
	reply := serverFirst(e.nonce, e.verifier)
	e.signed = bare + "," + reply + ","

	dst, at := beginAuth(dst, authSASLContinue)
	return wire.End(append(dst, reply...), at), More
}

// readClientFirst reads a client-first-message: "n,," or "y,," (no channel
// binding, no authzid), then "n=", whose value is ignored, then the nonce.
// What follows the nonce are optional extensions; a mandatory one ("m=") would
// come first and is refused, as RFC 5802 section 5.1 wants.
func readClientFirst(message string) (nonce, binding, bare string, ok bool) {
	if bare, ok = strings.CutPrefix(message, "n,,"); ok {
		binding = "biws"
	} else if bare, ok = strings.CutPrefix(message, "y,,"); ok {
		binding = "eSws"
	} else {
		return "", "", "", false
	}
	a := attributes{bare}
	if _, ok = a.next('n'); !ok {
		return "", "", "", false
	}
	if nonce, ok = a.next('r'); !ok || !printable(nonce) {
		return "", "", "", false
	}
	return nonce, binding, bare, true
}

// final takes the SASLResponse with the proof and answers with the server's
// signature.
func (e *scramExchange) final(dst, body []byte) ([]byte, Verdict) {
	message := string(body)
	unproved, proof, ok := readClientFinal(message, e.binding, e.nonce)
	if !ok {
		return dst, e.reject(reasonSASL)
	}
	clientKey := xor(proof, mac(e.verifier.storedKey[:], e.signed, unproved))
	digest := sha256.Sum256(clientKey[:])
	right := subtle.ConstantTimeCompare(digest[:], e.verifier.storedKey[:]) == 1
	if !right || e.mock {
		return dst, e.reject(reasonSASL)
	}
	signature := mac(e.verifier.serverKey[:], e.signed, unproved)

	dst, at := beginAuth(dst, authSASLFinal)
	dst = base64.StdEncoding.AppendEncode(append(dst, "v="...), signature[:])
	dst = wire.End(dst, at)
	var r Result
	if e.verifier.stored {
		r.Keys = &Keys{Verifier: *e.verifier, clientKey: clientKey}
	}
	return dst, e.accept(r)
}

// readClientFinal reads a client-final-message: exactly the channel binding
// and nonce that are expected, optional extensions, and the proof, which must
// be the last attribute. unproved is the message up to the proof.
func readClientFinal(message, binding, nonce string) (unproved string, proof key, ok bool) {
	a := attributes{message}
	if c, ok := a.next('c'); !ok || c != binding {
		return "", proof, false
	}
	if r, ok := a.next('r'); !ok || r != nonce {
		return "", proof, false
	}
	unproved, proof64, ok := strings.Cut(message, ",p=")
	if !ok || !decodeKey(&proof, proof64) {
		return "", proof, false
	}
	return unproved, proof, true
}
