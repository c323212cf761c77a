package secure

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"
)

// clientKeys seals records as the client of a session does whose secrets are
// known: crypto/tls never asks for new keys by itself.
type clientKeys struct {
	secret []byte
	seq    uint64
}

// expand is HKDF-Expand-Label of RFC 8446 section 7.1.
func expand(tb testing.TB, secret []byte, label string, n int) []byte {
	tb.Helper()
	info := binary.BigEndian.AppendUint16(nil, uint16(n))
	info = append(info, byte(len("tls13 "+label)))
	info = append(append(info, "tls13 "+label...), 0)
	out, err := hkdf.Expand(sha256.New, secret, string(info), n)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// seal makes one record of a content type.
func (k *clientKeys) seal(tb testing.TB, typ byte, p []byte) []byte {
	tb.Helper()
	block, err := aes.NewCipher(expand(tb, k.secret, "key", 16))
	if err != nil {
		tb.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		tb.Fatal(err)
	}
	nonce := expand(tb, k.secret, "iv", 12)
	for i := range 8 {
		nonce[11-i] ^= byte(k.seq >> (8 * i))
	}
	k.seq++
	inner := append(bytes.Clone(p), typ)
	header := binary.BigEndian.AppendUint16([]byte{23, 3, 3}, uint16(len(inner)+aead.Overhead()))
	return aead.Seal(header, nonce, inner, header)
}

// next begins to use new keys.
func (k *clientKeys) next(tb testing.TB) {
	k.secret, k.seq = expand(tb, k.secret, "traffic upd", sha256.Size), 0
}

// TestKeyUpdate has the peer ask for new keys, in a record that comes in two
// parts: reading answers by itself, and both directions go on under new keys.
func TestKeyUpdate(t *testing.T) {
	var log bytes.Buffer
	keyLog = &log
	defer func() { keyLog = nil }()
	s, f := pair(t, tls.VersionTLS13)
	if !strings.HasPrefix(s.String(), "TLSv1.3/TLS_AES_128_GCM_SHA256/") {
		t.Skip("on this processor another suite is preferred")
	}
	var k clientKeys
	for line := range strings.Lines(log.String()) {
		if fields := strings.Fields(line); fields[0] == "CLIENT_TRAFFIC_SECRET_0" {
			k.secret, _ = hex.DecodeString(fields[2])
		}
	}
	const handshake, data = 22, 23
	for round := range 3 {
		records := k.seal(t, data, []byte("before, "))
		records = append(records, k.seal(t, handshake, []byte{24, 0, 0, 1, 1})...)
		k.next(t)
		records = append(records, k.seal(t, data, []byte("after"))...)
		cut := 20 + round*15
		got, reply, err := s.Open(nil, records[:cut], nil)
		if err == nil {
			got, reply, err = s.Open(got, records[cut:], reply)
		}
		if err != nil || string(got) != "before, after" || len(reply) == 0 {
			t.Fatalf("round %d: %q, %d bytes of reply, %v", round, got, len(reply), err)
		}
		out, err := s.Seal(reply, []byte("answer"))
		if err != nil {
			t.Fatal(err)
		}
		if heard := f.hear(t, out); string(heard) != "answer" {
			t.Fatalf("round %d: the peer hears %q", round, heard)
		}
	}
}
