package secure

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// TestFeedTooMuch has a peer send and send before the handshake reads.
func TestFeedTooMuch(t *testing.T) {
	h := NewHandshake(serverConfig(tls.VersionTLS13), func() {})
	if !h.Feed(make([]byte, MaxFed)) {
		t.Error("MaxFed is too much")
	}
	if h.Feed(make([]byte, 1)) {
		t.Error("more than MaxFed is taken")
	}
}

// TestAbort ends handshakes whose peers say nothing. While they wait others
// have the slot.
func TestAbort(t *testing.T) {
	slots := NewSlots(1)
	var silent []*Handshake
	ended := make(chan struct{})
	for range 3 {
		h := NewHandshake(serverConfig(tls.VersionTLS13), func() { t.Error("woken after Abort") })
		silent = append(silent, h)
		go func() { h.Run(slots); ended <- struct{}{} }()
	}
	slots.take() // as one that computes
	slots.give()
	for _, h := range silent {
		h.Abort()
	}
	for range silent {
		select {
		case <-ended:
		case <-time.After(patience):
			t.Fatal("Run goes on after Abort")
		}
	}
}

// TestNonsense feeds what is no handshake: the reason comes with the alert.
func TestNonsense(t *testing.T) {
	woken := make(chan struct{}, 1)
	h := NewHandshake(serverConfig(tls.VersionTLS13), func() { woken <- struct{}{} })
	h.Feed([]byte("\x16\x03\x01\x00\x05nonsense"))
	h.Run(NewSlots(1))
	<-woken
	out, s, err := h.Take()
	if s != nil || err == nil || len(out) == 0 || out[0] != 21 {
		t.Errorf("%x, %v, %v", out, s, err)
	}
}

// TestConnect does a handshake with a server, and goes on as a Stream.
func TestConnect(t *testing.T) {
	both(t, func(t *testing.T, version uint16) {
		near, peer := net.Pipe()
		defer near.Close()
		defer peer.Close()
		server := tls.Server(peer, serverConfig(version))
		told := make(chan error, 1)
		go func() {
			_, err := server.Write([]byte("hello"))
			told <- err
		}()
		c, err := Connect(near, clientConfig())
		if err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 4)
		if _, err := c.Read(p); err != nil || string(p) != "hell" {
			t.Fatalf("%q, %v", p, err)
		}
		if c.Peer().Subject.CommonName != "pooler" {
			t.Errorf("peer %v", c.Peer().Subject)
		}
		if err := errors.Join(<-told); err != nil {
			t.Fatal(err)
		}
		s := c.Release()
		if rest, _, err := s.Open(nil, nil, nil); err != nil || string(rest) != "o" {
			t.Errorf("%q was left, %v", rest, err)
		}
	})
}

// TestEnd has a peer stop in the middle: unlike after Abort, who waits is told.
func TestEnd(t *testing.T) {
	woken := make(chan struct{}, 1)
	h := NewHandshake(serverConfig(tls.VersionTLS13), func() { woken <- struct{}{} })
	go h.Run(NewSlots(1))
	h.Feed([]byte("\x16\x03\x01\x00\x05"))
	h.End()
	select {
	case <-woken:
	case <-time.After(patience):
		t.Fatal("Run goes on after End")
	}
	if _, s, err := h.Take(); s != nil || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v, %v", s, err)
	}
}
