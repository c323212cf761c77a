package wire_test

import (
	"encoding/binary"
	"errors"
	"math"
	"testing"

	"github.com/jackc/pgproto3/v2"

	"github.com/pgweir/pgweir/wire"
)

func TestPeek(t *testing.T) {
	for _, tt := range []struct {
		name  string
		in    string
		limit int
		typ   byte
		size  int
		ok    bool
		err   error
	}{
		{"nothing", "", 100, 0, 0, false, nil},
		{"type alone", "Q", 100, 0, 0, false, nil},
		{"four of five", "Q\x00\x00\x00", 100, 0, 0, false, nil},
		{"no body", "S\x00\x00\x00\x04", 100, 'S', 5, true, nil},
		{"body missing", "Q\x00\x00\x00\x09", 100, 'Q', 10, true, nil},
		{"body and more", "Q\x00\x00\x00\x05\x00S\x00", 100, 'Q', 6, true, nil},
		{"type zero", "\x00\x00\x00\x00\x04", 100, 0, 5, true, nil},
		{"length three", "Q\x00\x00\x00\x03", 100, 'Q', 0, true, wire.ErrMalformed},
		{"length zero", "Q\x00\x00\x00\x00", 100, 'Q', 0, true, wire.ErrMalformed},
		{"at the limit", "Q\x00\x00\x00\x63", 100, 'Q', 100, true, nil},
		{"above the limit", "Q\x00\x00\x00\x64", 100, 'Q', 0, true, wire.ErrMalformed},
		{"largest int32", "d\x7f\xff\xff\xfe", math.MaxInt32, 'd', math.MaxInt32, true, nil},
		{"2^31", "d\x80\x00\x00\x00", math.MaxInt32, 'd', 0, true, wire.ErrMalformed},
		{"minus one", "d\xff\xff\xff\xff", math.MaxInt32, 'd', 0, true, wire.ErrMalformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			typ, size, ok, err := wire.Peek([]byte(tt.in), tt.limit)
			if typ != tt.typ || size != tt.size || ok != tt.ok || !errors.Is(err, tt.err) {
				t.Errorf("Peek(%q, %d) = %q, %d, %v, %v; want %q, %d, %v, %v",
					tt.in, tt.limit, typ, size, ok, err, tt.typ, tt.size, tt.ok, tt.err)
			}
		})
	}
}

func encode(t testing.TB, m pgproto3.Message) []byte {
	t.Helper()
	b, err := m.Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// split cuts a stream of whole messages at every message's end, as a reader
// does that gets it one byte at a time.
func split(t *testing.T, stream []byte) (messages [][]byte) {
	t.Helper()
	var part []byte
	for _, b := range stream {
		part = append(part, b)
		typ, size, ok, err := wire.Peek(part, math.MaxInt32)
		switch {
		case err != nil:
			t.Fatalf("after %x: %v", part, err)
		case ok != (len(part) >= wire.HeaderLen):
			t.Fatalf("ok = %v with %d bytes", ok, len(part))
		case ok && typ != part[0]:
			t.Fatalf("type %q of %x", typ, part)
		case ok && size < len(part):
			t.Fatalf("size %d of %x", size, part)
		case ok && size == len(part):
			messages = append(messages, part)
			part = nil
		}
	}
	if len(part) > 0 {
		t.Fatalf("left over: %x", part)
	}
	return messages
}

// TestPeekEveryMessage reads one of each message that pgproto3 knows, byte by
// byte.
func TestPeekEveryMessage(t *testing.T) {
	row := &pgproto3.DataRow{Values: [][]byte{[]byte("a"), nil, {}, make([]byte, 300)}}
	all := []struct {
		typ byte
		msg pgproto3.Message
	}{
		{wire.Bind, &pgproto3.Bind{PreparedStatement: "s", Parameters: [][]byte{[]byte("1"), nil}}},
		{wire.Close, &pgproto3.Close{ObjectType: 'S', Name: "s"}},
		{wire.CopyData, &pgproto3.CopyData{Data: make([]byte, 70_000)}},
		{wire.CopyDone, &pgproto3.CopyDone{}},
		{wire.CopyFail, &pgproto3.CopyFail{Message: "no"}},
		{wire.Describe, &pgproto3.Describe{ObjectType: 'P'}},
		{wire.Execute, &pgproto3.Execute{MaxRows: 3}},
		{wire.Flush, &pgproto3.Flush{}},
		{wire.FunctionCall, &pgproto3.FunctionCall{Function: 7, Arguments: [][]byte{{1}}}},
		{wire.Parse, &pgproto3.Parse{Query: "select $1", ParameterOIDs: []uint32{23}}},
		{wire.Password, &pgproto3.PasswordMessage{Password: "p"}},
		{wire.Query, &pgproto3.Query{String: "select 1"}},
		{wire.Sync, &pgproto3.Sync{}},
		{wire.Terminate, &pgproto3.Terminate{}},
		{wire.Authentication, &pgproto3.AuthenticationOk{}},
		{wire.BackendKeyData, &pgproto3.BackendKeyData{ProcessID: 1, SecretKey: 2}},
		{wire.BindComplete, &pgproto3.BindComplete{}},
		{wire.CloseComplete, &pgproto3.CloseComplete{}},
		{wire.CommandComplete, &pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}},
		{wire.CopyBothResponse, &pgproto3.CopyBothResponse{ColumnFormatCodes: []uint16{1}}},
		{wire.CopyInResponse, &pgproto3.CopyInResponse{ColumnFormatCodes: []uint16{0}}},
		{wire.CopyOutResponse, &pgproto3.CopyOutResponse{}},
		{wire.DataRow, row},
		{wire.EmptyQueryResponse, &pgproto3.EmptyQueryResponse{}},
		{wire.ErrorResponse, &pgproto3.ErrorResponse{Severity: "ERROR", Code: "42601", Message: "m"}},
		{wire.FunctionCallResponse, &pgproto3.FunctionCallResponse{Result: []byte{1}}},
		{wire.NoData, &pgproto3.NoData{}},
		{wire.NoticeResponse, &pgproto3.NoticeResponse{Severity: "NOTICE", Message: "m"}},
		{wire.NotificationResponse, &pgproto3.NotificationResponse{PID: 1, Channel: "c", Payload: "p"}},
		{wire.ParameterDescription, &pgproto3.ParameterDescription{ParameterOIDs: []uint32{23}}},
		{wire.ParameterStatus, &pgproto3.ParameterStatus{Name: "n", Value: "v"}},
		{wire.ParseComplete, &pgproto3.ParseComplete{}},
		{wire.PortalSuspended, &pgproto3.PortalSuspended{}},
		{wire.ReadyForQuery, &pgproto3.ReadyForQuery{TxStatus: 'T'}},
		{wire.RowDescription, &pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("c")}}}},
	}
	var stream []byte
	for _, m := range all {
		stream = append(stream, encode(t, m.msg)...)
	}
	messages := split(t, stream)
	if len(messages) != len(all) {
		t.Fatalf("%d messages, want %d", len(messages), len(all))
	}
	for i, m := range all {
		if messages[i][0] != m.typ {
			t.Errorf("%T: type %q, want %q", m.msg, messages[i][0], m.typ)
		}
		if want := encode(t, m.msg); string(messages[i]) != string(want) {
			t.Errorf("%T: %x, want %x", m.msg, messages[i], want)
		}
	}
}

func TestTxStatusValid(t *testing.T) {
	for s := range 256 {
		want := s == 'I' || s == 'T' || s == 'E'
		if got := wire.TxStatus(s).Valid(); got != want {
			t.Errorf("TxStatus(%q).Valid() = %v", rune(s), got)
		}
	}
}

// FuzzPeek holds Peek against its contract, read literally.
func FuzzPeek(f *testing.F) {
	f.Add([]byte("Q\x00\x00\x00\x05\x00"), 100)
	f.Add([]byte("d\x80\x00\x00\x00"), math.MaxInt32)
	f.Add([]byte("Z\x00\x00\x00\x05I"), 5)
	f.Fuzz(func(t *testing.T, b []byte, limit int) {
		if limit < 0 {
			return // no size
		}
		typ, size, ok, err := wire.Peek(b, limit)
		if ok != (len(b) >= wire.HeaderLen) {
			t.Fatalf("ok = %v with %d bytes", ok, len(b))
		}
		if !ok {
			if typ != 0 || size != 0 || err != nil {
				t.Fatalf("%q, %d, %v of a part of a header", typ, size, err)
			}
			return
		}
		n := uint64(binary.BigEndian.Uint32(b[1:5]))
		good := n >= 4 && n+1 <= uint64(limit)
		if typ != b[0] || good != (err == nil) || good && uint64(size) != n+1 || !good && size != 0 {
			t.Fatalf("Peek(%x, %d) = %q, %d, %v", b[:5], limit, typ, size, err)
		}
		typ2, size2, ok2, err2 := wire.Peek(b[:wire.HeaderLen:wire.HeaderLen], limit)
		if typ2 != typ || size2 != size || ok2 != ok || err2 != err {
			t.Fatal("what follows the header changes the answer")
		}
	})
}

func TestPeekAllocatesNothing(t *testing.T) {
	message := encode(t, &pgproto3.Query{String: "select 1"})
	startup := wire.AppendStartup(nil, [][2]string{{"user", "u"}, {"database", "d"}})
	bad := []byte("Q\x00\x00\x00\x00")
	n := testing.AllocsPerRun(100, func() {
		if _, size, ok, err := wire.Peek(message, 1000); size != len(message) || !ok || err != nil {
			t.Fatal(size, ok, err)
		}
		if _, _, _, err := wire.Peek(bad, 1000); err == nil {
			t.Fatal("no error")
		}
		f, _, ok, err := wire.PeekFirst(startup)
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		if err := f.Params(func(name, value []byte) bool { return len(name) > 0 }); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkPeek(b *testing.B) {
	message := encode(b, &pgproto3.Query{String: "select 1"})
	b.ReportAllocs()
	for b.Loop() {
		if _, _, ok, err := wire.Peek(message, math.MaxInt32); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}
