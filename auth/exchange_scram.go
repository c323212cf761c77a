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
	endPoint []byte    // what SCRAM-SHA-256-PLUS binds to, nil if that is not offered

	// Set by the client-first-message.
	nonce   string // the client's part and ours
	binding string // the "c=" that must come back: base64 of the GS2 header and what it binds to
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
	if e.endPoint != nil {
		dst = wire.AppendString(dst, mechanismPlus)
	}
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
	plus := e.endPoint != nil && string(name) == mechanismPlus
	if string(name) != mechanism && !plus {
		return dst, e.reject(reasonMechanism)
	}
	if len(body) < 4 || uint64(binary.BigEndian.Uint32(body)) != uint64(len(body)-4) {
		return dst, e.reject(reasonSASL)
	}
	message := string(body[4:])
	header, clientNonce, bare, ok := readClientFirst(message)
	switch {
	case !ok, plus != (header == gs2Bound), e.endPoint != nil && header == gs2Unoffered:
		// The last: the client has channel binding and believes that we have
		// not. Somebody has taken it out of what we offered.
		ok = false
	case plus:
		e.binding = base64.StdEncoding.EncodeToString(append([]byte(header), e.endPoint...))
	default:
		e.binding = base64.StdEncoding.EncodeToString([]byte(header))
	}
	if !ok {
		return dst, e.reject(reasonSASL)
	}
	e.nonce = clientNonce + newNonce(e.random)
	e.random = nil
	reply := serverFirst(e.nonce, e.verifier)
	e.signed = bare + "," + reply + ","

	dst, at := beginAuth(dst, authSASLContinue)
	return wire.End(append(dst, reply...), at), More
}

// readClientFirst reads a client-first-message: a GS2 header without authzid,
// then "n=", whose value is ignored, then the nonce.
// What follows the nonce are optional extensions; a mandatory one ("m=") would
// come first and is refused, as RFC 5802 section 5.1 wants.
func readClientFirst(message string) (header, nonce, bare string, ok bool) {
	for _, header = range []string{gs2None, gs2Unoffered, gs2Bound} {
		if bare, ok = strings.CutPrefix(message, header); ok {
			break
		}
	}
	if !ok {
		return "", "", "", false
	}
	a := attributes{bare}
	if _, ok = a.next('n'); !ok {
		return "", "", "", false
	}
	if nonce, ok = a.next('r'); !ok || !printable(nonce) {
		return "", "", "", false
	}
	return header, nonce, bare, true
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
