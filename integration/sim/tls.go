package sim

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"sync"
	"testing/synctest"
	"time"

	"github.com/pgweir/pgweir/wire"
	"github.com/pgweir/pgweir/wire/secure"
)

// What TLS says is drawn from no seed, but how much it says, and when, must be.
// So nothing that is exchanged may be longer at one time than at another: the
// certificate is always the same, and its key one whose signatures all have one
// length.

// serverTLS is the configuration of who is connected to.
var serverTLS = sync.OnceValue(func() *tls.Config {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sim"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<32, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return &tls.Config{
		Certificates:     []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}},
		CurvePreferences: []tls.CurveID{tls.X25519}, SessionTicketsDisabled: true, DynamicRecordSizingDisabled: true,
		NextProtos: protocols,
	}
})

// protocols are what a client who begins with TLS must offer.
var protocols = []string{"postgresql"}

// clientTLS draws the configuration of who connects.
func (w *World) clientTLS() *tls.Config {
	return &tls.Config{
		InsecureSkipVerify: true, CurvePreferences: []tls.CurveID{tls.X25519}, DynamicRecordSizingDisabled: w.chance(2),
		MaxVersion: pick(w, uint16(tls.VersionTLS12), tls.VersionTLS13, tls.VersionTLS13),
		NextProtos: protocols,
	}
}

// shake is a handshake on the side of who connects, in a goroutine of its own.
// It is the connection that the handshake reads and writes.
type shake struct {
	net.Conn // nil: nothing else is asked of it
	send     func([]byte)

	mu    sync.Mutex
	come  sync.Cond // in or ended has changed
	in    []byte
	ended bool
}

func newShake(send func([]byte)) *shake {
	s := &shake{send: send}
	s.come.L = &s.mu
	return s
}

// Read implements io.Reader.
func (s *shake) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.in) == 0 && !s.ended {
		s.come.Wait()
	}
	if len(s.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.in)
	s.in = s.in[n:]
	return n, nil
}

// Write implements io.Writer.
func (s *shake) Write(p []byte) (int, error) {
	s.send(p)
	return len(p), nil
}

// feed brings bytes that arrived, or says that none come any more.
func (s *shake) feed(p []byte, ended bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.in = append(s.in, p...)
	s.ended = s.ended || ended
	s.come.Signal()
}

// inClear reports whether a handshake has failed because of an error that was
// told in clear: who speaks first may hear it before it has said a word.
func inClear(err error) bool {
	r, ok := errors.AsType[tls.RecordHeaderError](err)
	return ok && r.RecordHeader[0] == wire.ErrorResponse
}

// encrypt lets the peer do a handshake. In the step after its end, unless the
// connection has ended, done is called.
func (k *socket) encrypt(done func()) {
	w := k.w
	if k.eof || k.reset {
		return
	}
	s := newShake(k.send)
	k.shake, k.secret = s, true
	config := w.clientTLS()
	w.spawn(func() {
		session, err := secure.Connect(s, config)
		w.after(0, func() {
			switch {
			case k.shake != s:
				return
			case err != nil && (k.shut || inClear(err)): // a reason in clear; closed tells
				k.shake, k.deaf = nil, true
				return
			case err != nil:
				w.failf("%v: handshake: %v", k, err)
			}
			k.shake, k.far = nil, session.Release()
			w.tracef("%v: speaks TLS", k)
			done()
			k.hear(nil)
		})
	})
}

// breakShake ends the handshake of a connection that has ended.
func (k *socket) breakShake() {
	if s := k.shake; s != nil {
		k.shake = nil
		s.feed(nil, true)
		k.w.settle()
	}
}

// hear hands bytes that arrived to the peer.
func (k *socket) hear(p []byte) {
	switch {
	case k.deaf:
		return
	case k.shake != nil:
		k.shake.feed(p, false)
		k.w.settle()
		return
	case k.far != nil:
		plain, reply, err := k.far.Open(nil, p, nil)
		if err != nil && err != io.EOF {
			k.w.failf("%v: the peer hears %v", k, err)
		}
		k.in = append(k.in, reply...)
		p = plain
	}
	if len(p) > 0 {
		k.peer.read(p)
	}
}

// seal appends to dst what the peer sends for p: one record, or two.
func (k *socket) seal(dst, p []byte) []byte {
	for len(p) > 0 {
		n := len(p)
		if k.w.chance(4) {
			n = 1 + k.w.rng.IntN(n)
		}
		var err error
		if dst, err = k.far.Seal(dst, p[:n]); err != nil {
			k.w.failf("%v: the peer seals: %v", k, err)
		}
		p = p[n:]
	}
	return dst
}

// session is one whose handshake is done: near is the end of who has connected.
func (w *World) session() (near, far *secure.Stream) {
	h := secure.NewHandshake(serverTLS(), func() {})
	s := newShake(func(p []byte) { h.Feed(p) })
	config := w.clientTLS()
	var client *secure.Client
	var failed error
	go h.Run(secure.NewSlots(1))
	go func() { client, failed = secure.Connect(s, config) }()
	for far == nil {
		synctest.Wait()
		out, stream, err := h.Take()
		if err != nil {
			w.failf("BUG in sim: handshake: %v", err)
		}
		s.feed(out, false)
		far = stream
	}
	synctest.Wait()
	if failed != nil {
		w.failf("BUG in sim: handshake: %v", failed)
	}
	return client.Release(), far
}
