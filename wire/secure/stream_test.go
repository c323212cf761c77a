package secure

import (
	"bytes"
	"crypto/tls"
	"io"
	"strings"
	"testing"
)

// TestSplit opens records that come in two parts, cut at every byte, and byte
// by byte.
func TestSplit(t *testing.T) {
	both(t, func(t *testing.T, version uint16) {
		s, f := pair(t, version)
		if p, _, err := s.Open(nil, nil, nil); len(p) > 0 || err != nil {
			t.Fatalf("%q, %v of nothing", p, err)
		}
		want := []byte("select 1")
		for at, n := 0, 1; at < n; at++ {
			record := f.say(t, want)
			n = len(record)
			first, _, err := s.Open(nil, record[:at], nil)
			if err != nil {
				t.Fatalf("cut at %d: %v", at, err)
			}
			got, _, err := s.Open(first, record[at:], nil)
			if err != nil || string(got) != string(want) {
				t.Fatalf("cut at %d: %q, %v", at, got, err)
			}
		}
		var got []byte
		for _, b := range f.say(t, want) {
			var err error
			if got, _, err = s.Open(got, []byte{b}, nil); err != nil {
				t.Fatal(err)
			}
		}
		if string(got) != string(want) {
			t.Fatalf("%q byte by byte", got)
		}
	})
}

// TestWhole opens many records at once, with the begin of another: nothing that
// came whole stays.
func TestWhole(t *testing.T) {
	both(t, func(t *testing.T, version uint16) {
		s, f := pair(t, version)
		want := pattern(100 << 10)
		records := append(f.say(t, want[:1]), f.say(t, want[1:])...)
		last := f.say(t, []byte("last"))
		got, _, err := s.Open(nil, append(records, last[:7]...), nil)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes of %d, %v", len(got), len(want), err)
		}
		if got, _, err = s.Open(nil, last[7:], nil); err != nil || string(got) != "last" {
			t.Fatalf("%q, %v", got, err)
		}
	})
}

// TestSeal has the other end read what was sealed, however it was cut up.
func TestSeal(t *testing.T) {
	both(t, func(t *testing.T, version uint16) {
		s, f := pair(t, version)
		want := pattern(70 << 10)
		var records []byte
		for _, part := range [][]byte{want[:1], want[1 : 16<<10], want[16<<10:]} {
			var err error
			if records, err = s.Seal(records, part); err != nil {
				t.Fatal(err)
			}
		}
		if got := f.hear(t, records); !bytes.Equal(got, want) {
			t.Fatalf("%d bytes arrive", len(got))
		}
	})
}

// TestFinish ends a session on either side.
func TestFinish(t *testing.T) {
	both(t, func(t *testing.T, version uint16) {
		s, f := pair(t, version)
		if err := f.conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		bye := f.sent()
		got, reply, err := s.Open(nil, append(f.t.in, bye...), nil)
		if err != io.EOF || len(got) > 0 || len(reply) > 0 {
			t.Fatalf("%q, %d bytes of reply, %v", got, len(reply), err)
		}
		if _, _, err := s.Open(nil, nil, nil); err != io.EOF {
			t.Fatalf("%v at the second look", err)
		}
		f.t.in = s.Finish(nil)
		if len(f.t.in) == 0 {
			t.Fatal("Finish says nothing")
		}
		if _, err := f.conn.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("the other end reads %v", err)
		}
	})
}

// TestTampered changes a bit: the session ends, and says so to the peer.
func TestTampered(t *testing.T) {
	both(t, func(t *testing.T, version uint16) {
		s, f := pair(t, version)
		record := f.say(t, []byte("select 1"))
		record[len(record)-1] ^= 1
		got, reply, err := s.Open(nil, record, nil)
		if err == nil || len(got) > 0 || len(reply) == 0 {
			t.Fatalf("%q, %d bytes of reply, %v", got, len(reply), err)
		}
	})
}

// TestLeftOver has bytes come before the Stream was taken.
func TestLeftOver(t *testing.T) {
	both(t, func(t *testing.T, version uint16) {
		s, f := pair(t, version)
		s.Received(f.say(t, []byte("early ")))
		got, _, err := s.Open(nil, f.say(t, []byte("late")), nil)
		if err != nil || string(got) != "early late" {
			t.Fatalf("%q, %v", got, err)
		}
	})
}

func TestString(t *testing.T) {
	for version, want := range map[uint16]string{
		tls.VersionTLS12: "TLSv1.2/ECDHE-ECDSA-AES", tls.VersionTLS13: "TLSv1.3/TLS_",
	} {
		s, _ := pair(t, version)
		if got := s.String(); !strings.HasPrefix(got, want) || !strings.Contains(got, "/ECDH=") {
			t.Errorf("%q, want %q...", got, want)
		}
		if s.Peer() != nil || s.Own().Subject.CommonName != "pooler" {
			t.Errorf("peer %v, own %v", s.Peer(), s.Own().Subject)
		}
	}
}

// FuzzOpen cuts what a peer sends at will, and may change it: what comes out is
// what was sent, or a begin of it and an error.
func FuzzOpen(f *testing.F) {
	f.Add([]byte{1, 2, 3}, uint16(0), byte(0), true)
	f.Add([]byte{5, 0, 250}, uint16(40), byte(1), false)
	f.Fuzz(func(t *testing.T, cuts []byte, at uint16, flip byte, new bool) {
		version := uint16(tls.VersionTLS12)
		if new {
			version = tls.VersionTLS13
		}
		s, far := pair(t, version)
		want := pattern(500)
		records := append(far.say(t, want[:123]), far.say(t, want[123:])...)
		records[int(at)%len(records)] ^= flip
		var got []byte
		var err error
		for _, cut := range append(cuts, 255, 255, 255, 255) {
			n := min(int(cut), len(records))
			if got, _, err = s.Open(got, records[:n], nil); err != nil {
				break
			}
			records = records[n:]
		}
		if !bytes.HasPrefix(want, got) || err == nil && flip == 0 && len(got) != len(want) {
			t.Fatalf("%q, %v", got, err)
		}
	})
}
