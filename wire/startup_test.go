package wire_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/jackc/pgproto3/v2"

	"github.com/pgweir/pgweir/wire"
)

// first makes a first packet: its length, code and body.
func first(code uint32, body string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(8+len(body)))
	b = binary.BigEndian.AppendUint32(b, code)
	return append(b, body...)
}

func TestPeekFirst(t *testing.T) {
	startup := "user\x00u\x00\x00"
	for _, tt := range []struct {
		name string
		in   string
		want wire.First
		size int
		ok   bool
		err  error
	}{
		{"3.0", string(first(3<<16, startup)), wire.First{Kind: wire.FirstStartup, Body: []byte(startup)}, 16, true, nil},
		{"3.2", string(first(3<<16|2, startup)), wire.First{Kind: wire.FirstStartup, Minor: 2, Body: []byte(startup)}, 16, true, nil},
		{"3.65535", string(first(3<<16|65535, startup)), wire.First{Kind: wire.FirstStartup, Minor: 65535, Body: []byte(startup)}, 16, true, nil},
		{"more behind", string(first(3<<16, startup)) + "p", wire.First{Kind: wire.FirstStartup, Body: []byte(startup)}, 16, true, nil},
		{"2.0", string(first(2<<16, "x")), wire.First{Kind: wire.FirstOld, Body: []byte("x")}, 9, true, nil},
		{"ssl", string(first(wire.CodeSSL, "")), wire.First{Kind: wire.FirstSSL, Body: []byte{}}, 8, true, nil},
		{"gssenc", string(first(wire.CodeGSSENC, "")), wire.First{Kind: wire.FirstGSSENC, Body: []byte{}}, 8, true, nil},
		{
			"cancel", string(first(wire.CodeCancel, "12345678")),
			wire.First{Kind: wire.FirstCancel, Body: []byte("12345678"), Key: wire.CancelKey([]byte("12345678"))},
			16, true, nil,
		},
		{"ssl with a body", string(first(wire.CodeSSL, "x")), wire.First{}, 0, false, wire.ErrMalformed},
		{"gssenc with a body", string(first(wire.CodeGSSENC, "x")), wire.First{}, 0, false, wire.ErrMalformed},
		{"cancel, short key", string(first(wire.CodeCancel, "1234567")), wire.First{}, 0, false, wire.ErrMalformed},
		{"cancel, long key", string(first(wire.CodeCancel, "123456789")), wire.First{}, 0, false, wire.ErrMalformed},
		{"1.0", string(first(1<<16, startup)), wire.First{}, 0, false, wire.ErrMalformed},
		{"4.0", string(first(4<<16, startup)), wire.First{}, 0, false, wire.ErrMalformed},
		{"code zero", string(first(0, startup)), wire.First{}, 0, false, wire.ErrMalformed},
		{"typed", "Q\x00\x00\x00\x05\x00", wire.First{}, 0, false, wire.ErrMalformed},
		{"a TLS handshake", "\x16\x03\x01", wire.First{}, 0, false, wire.ErrMalformed},
		{"HTTP", "GET / HTTP/1.1", wire.First{}, 0, false, wire.ErrMalformed},
		{"length seven", "\x00\x00\x00\x07", wire.First{}, 0, false, wire.ErrMalformed},
		{"length zero", "\x00\x00\x00\x00", wire.First{}, 0, false, wire.ErrMalformed},
		{"length 65536", "\x00\x01", wire.First{}, 0, false, wire.ErrMalformed},
		{"length 2^31", "\x80", wire.First{}, 0, false, wire.ErrMalformed},
		{"length minus one", "\xff\xff\xff\xff", wire.First{}, 0, false, wire.ErrMalformed},
		{"length 65535, begun", "\x00\x00\xff\xff\x00\x03\x00\x00", wire.First{Kind: wire.FirstStartup}, 65535, false, nil},
		{"nothing", "", wire.First{}, 0, false, nil},
		{"three bytes", "\x00\x00\x00", wire.First{}, 0, false, nil},
		{"length alone", "\x00\x00\x00\x10", wire.First{}, 16, false, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, size, ok, err := wire.PeekFirst([]byte(tt.in))
			if size != tt.size || ok != tt.ok || !errors.Is(err, tt.err) {
				t.Errorf("size, ok, err = %d, %v, %v; want %d, %v, %v", size, ok, err, tt.size, tt.ok, tt.err)
			}
			if f.Kind != tt.want.Kind || f.Minor != tt.want.Minor || f.Key != tt.want.Key || !bytes.Equal(f.Body, tt.want.Body) {
				t.Errorf("%+v, want %+v", f, tt.want)
			}
		})
	}
}

// TestPeekFirstByteByByte gives the beginnings of packets, ever longer.
func TestPeekFirstByteByByte(t *testing.T) {
	for _, packet := range [][]byte{
		first(3<<16, "user\x00u\x00database\x00d\x00\x00"),
		first(wire.CodeSSL, ""),
		first(wire.CodeGSSENC, ""),
		first(wire.CodeCancel, "12345678"),
		first(2<<16, strings.Repeat("\x00", 288)),
		first(3<<16, strings.Repeat("x", wire.MaxStartup-8)),
	} {
		for n := range len(packet) + 1 {
			_, size, ok, err := wire.PeekFirst(packet[:n])
			want := 0
			if n >= 4 {
				want = len(packet)
			}
			if size != want || ok != (n == len(packet)) || err != nil {
				t.Fatalf("%d of %d bytes: %d, %v, %v", n, len(packet), size, ok, err)
			}
		}
	}
}

func params(f wire.First) (got [][2]string, err error) {
	err = f.Params(func(name, value []byte) bool {
		got = append(got, [2]string{string(name), string(value)})
		return true
	})
	return got, err
}

func TestParams(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		want       [][2]string
		err        error
	}{
		{"none", "\x00", nil, nil},
		{"one", "user\x00u\x00\x00", [][2]string{{"user", "u"}}, nil},
		{"order and repeats stay", "b\x001\x00a\x002\x00b\x003\x00\x00", [][2]string{{"b", "1"}, {"a", "2"}, {"b", "3"}}, nil},
		{"empty value", "a\x00\x00b\x00c\x00\x00", [][2]string{{"a", ""}, {"b", "c"}}, nil},
		{"empty body", "", nil, wire.ErrStartupLayout},
		{"no terminator", "a\x00b\x00", [][2]string{{"a", "b"}}, wire.ErrStartupLayout},
		{"no value", "a\x00", nil, wire.ErrStartupLayout},
		{"name without its end", "a", nil, wire.ErrStartupLayout},
		{"value without its end", "a\x00b", nil, wire.ErrStartupLayout},
		{"behind the terminator", "a\x00b\x00\x00c", [][2]string{{"a", "b"}}, wire.ErrStartupLayout},
		{"terminator twice", "a\x00b\x00\x00\x00", [][2]string{{"a", "b"}}, wire.ErrStartupLayout},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := params(wire.First{Body: []byte(tt.body)})
			if !errors.Is(err, tt.err) {
				t.Errorf("error %v, want %v", err, tt.err)
			}
			if len(got) != len(tt.want) {
				t.Fatalf("%q, want %q", got, tt.want)
			}
			for i := range got {
				if got[i] != tt.want[i] {
					t.Errorf("%q, want %q", got, tt.want)
				}
			}
		})
	}
}

func TestParamsStops(t *testing.T) {
	n := 0
	f := wire.First{Body: []byte("a\x001\x00b\x002\x00 never reached")}
	if err := f.Params(func(name, _ []byte) bool { n++; return string(name) != "b" }); err != nil || n != 2 {
		t.Errorf("%d calls, %v", n, err)
	}
}

// FuzzPeekFirst holds PeekFirst and Params against pgproto3.
func FuzzPeekFirst(f *testing.F) {
	f.Add(first(3<<16, "user\x00u\x00options\x00-c a=b\x00\x00"))
	f.Add(first(3<<16|2, "user\x00u\x00_pq_.x\x001\x00\x00"))
	f.Add(first(wire.CodeCancel, "12345678"))
	f.Add(first(wire.CodeSSL, ""))
	f.Add([]byte("\x80\x00\x00\x08\x00\x03\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, size, ok, err := wire.PeekFirst(b)
		if err != nil && (ok || size != 0) {
			t.Fatalf("error with ok = %v, size = %d", ok, size)
		}
		if size > wire.MaxStartup || ok && (size < 8 || size > len(b)) || !ok && err == nil && size != 0 && size <= len(b) {
			t.Fatalf("size %d of %d bytes, ok = %v", size, len(b), ok)
		}
		if !ok {
			return
		}
		if _, _, ok, err := wire.PeekFirst(b[:size]); !ok || err != nil {
			t.Fatal("the packet alone is something else")
		}
		if _, _, ok, err := wire.PeekFirst(b[:size-1]); ok || err != nil {
			t.Fatalf("one byte less: %v, %v", ok, err)
		}
		ours, err := params(got)
		theirs, oracle := pgproto3.NewBackend(pgproto3.NewChunkReader(bytes.NewReader(b[:size])), nil).ReceiveStartupMessage()
		switch m := theirs.(type) {
		case *pgproto3.CancelRequest:
			if got.Kind != wire.FirstCancel || got.Key != wire.CancelKey(encode(t, m)[8:]) {
				t.Fatalf("%+v, not a cancel request", got)
			}
		case *pgproto3.SSLRequest:
			if got.Kind != wire.FirstSSL {
				t.Fatalf("%+v, not an SSLRequest", got)
			}
		case *pgproto3.GSSEncRequest:
			if got.Kind != wire.FirstGSSENC {
				t.Fatalf("%+v, not a GSSENCRequest", got)
			}
		case *pgproto3.StartupMessage:
			if got.Kind != wire.FirstStartup || got.Minor != 0 {
				t.Fatalf("%+v, not a StartupMessage", got)
			}
			last := map[string]string{}
			for _, p := range ours {
				last[p[0]] = p[1]
			}
			if err == nil && !maps.Equal(last, m.Parameters) { // pgproto3 lets empty names pass
				t.Fatalf("%q, pgproto3 reads %q", last, m.Parameters)
			}
		case nil:
			if got.Kind == wire.FirstStartup && got.Minor == 0 && err == nil && len(ours) > 0 {
				t.Fatalf("%q, pgproto3 refuses it: %v", ours, oracle)
			}
		}
		if got.Kind == wire.FirstStartup && err == nil {
			again := wire.AppendStartup(nil, ours)
			if !bytes.Equal(again[8:], got.Body) {
				t.Fatalf("%q written again is %q", got.Body, again[8:])
			}
		}
	})
}
