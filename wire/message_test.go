package wire_test

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"github.com/jackc/pgproto3/v2"

	"github.com/pgweir/pgweir/wire"
)

// TestAppend has pgproto3 read what the Append functions write.
func TestAppend(t *testing.T) {
	long := strings.Repeat("x", 70_000)
	key := wire.CancelKey{0, 0, 1, 2, 0xff, 0xfe, 0xfd, 0xfc}
	for _, tt := range []struct {
		name string
		out  []byte
		want pgproto3.Message
	}{
		{"ParameterStatus", wire.AppendParameterStatus(nil, "TimeZone", "UTC"), &pgproto3.ParameterStatus{Name: "TimeZone", Value: "UTC"}},
		{"ParameterStatus, no value", wire.AppendParameterStatus(nil, "n", ""), &pgproto3.ParameterStatus{Name: "n"}},
		{"ReadyForQuery idle", wire.AppendReadyForQuery(nil, wire.TxIdle), &pgproto3.ReadyForQuery{TxStatus: 'I'}},
		{"ReadyForQuery open", wire.AppendReadyForQuery(nil, wire.TxOpen), &pgproto3.ReadyForQuery{TxStatus: 'T'}},
		{"ReadyForQuery failed", wire.AppendReadyForQuery(nil, wire.TxFailed), &pgproto3.ReadyForQuery{TxStatus: 'E'}},
		{"AuthenticationOk", wire.AppendAuthOk(nil), &pgproto3.AuthenticationOk{}},
		{"BackendKeyData", wire.AppendBackendKeyData(nil, key), &pgproto3.BackendKeyData{ProcessID: 0x102, SecretKey: 0xfffefdfc}},
		{"CommandComplete", wire.AppendCommandComplete(nil, "SHOW"), &pgproto3.CommandComplete{CommandTag: []byte("SHOW")}},
		{
			"ErrorResponse", wire.AppendError(nil, wire.Fields{Severity: "FATAL", Code: "08P01", Message: "m", Detail: "d", Hint: "h"}),
			&pgproto3.ErrorResponse{Severity: "FATAL", Code: "08P01", Message: "m", Detail: "d", Hint: "h"},
		},
		{
			"NoticeResponse", wire.AppendNotice(nil, wire.Fields{Severity: "NOTICE", Code: "00000", Message: long}),
			&pgproto3.NoticeResponse{Severity: "NOTICE", Code: "00000", Message: long},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := pgproto3.NewFrontend(pgproto3.NewChunkReader(bytes.NewReader(tt.out)), nil).Receive()
			if err != nil {
				t.Fatal(err)
			}
			switch m := got.(type) { // pgproto3 keeps these maps for fields it does not know
			case *pgproto3.ErrorResponse:
				m.UnknownFields = nil
			case *pgproto3.NoticeResponse:
				m.UnknownFields = nil
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("read as %+v, want %+v", got, tt.want)
			}
			if n := len(split(t, tt.out)); n != 1 {
				t.Errorf("%d messages", n)
			}
		})
	}
}

func TestAppendQuery(t *testing.T) {
	for _, sql := range []string{"", "select 1", strings.Repeat("é", 5000)} {
		out := wire.AppendQuery([]byte("kept"), sql)
		if want := append([]byte("kept"), encode(t, &pgproto3.Query{String: sql})...); !bytes.Equal(out, want) {
			t.Errorf("%.20q: %.40x, want %.40x", sql, out, want)
		}
	}
}

func TestAppendNegotiateProtocolVersion(t *testing.T) {
	for _, tt := range []struct {
		options []string
		want    string
	}{
		{nil, "v\x00\x00\x00\x0c\x00\x03\x00\x00\x00\x00\x00\x00"},
		{[]string{"_pq_.a", "_pq_.b"}, "v\x00\x00\x00\x1a\x00\x03\x00\x00\x00\x00\x00\x02_pq_.a\x00_pq_.b\x00"},
	} {
		if out := wire.AppendNegotiateProtocolVersion(nil, tt.options); string(out) != tt.want {
			t.Errorf("%q: %q, want %q", tt.options, out, tt.want)
		}
	}
}

func TestAppendStartup(t *testing.T) {
	out := wire.AppendStartup([]byte("kept"), [][2]string{{"user", "u"}, {"application_name", ""}})
	want := &pgproto3.StartupMessage{
		ProtocolVersion: pgproto3.ProtocolVersionNumber,
		Parameters:      map[string]string{"user": "u", "application_name": ""},
	}
	if string(out[:4]) != "kept" {
		t.Fatalf("%q", out)
	}
	got, err := pgproto3.NewBackend(pgproto3.NewChunkReader(bytes.NewReader(out[4:])), nil).ReceiveStartupMessage()
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("read as %+v, want %+v", got, want)
	}
}

func TestAppendCancelRequest(t *testing.T) {
	key := wire.CancelKey{0, 0, 0, 9, 1, 2, 3, 4}
	out := wire.AppendCancelRequest(nil, key[:])
	if want := encode(t, &pgproto3.CancelRequest{ProcessID: 9, SecretKey: 0x01020304}); !bytes.Equal(out, want) {
		t.Errorf("%x, want %x", out, want)
	}
	// A server that speaks 3.2 may have a longer key, up to 256 bytes.
	if out := wire.AppendCancelRequest(nil, make([]byte, 256)); len(out) != 264 || out[2] != 1 || out[3] != 8 {
		t.Errorf("%x", out[:8])
	}
}

// TestBeginEnd nests nothing, but follows other bytes.
func TestBeginEnd(t *testing.T) {
	out, at := wire.Begin([]byte("before"), wire.DataRow)
	out = wire.End(append(out, 1, 2, 3), at)
	if want := "beforeD\x00\x00\x00\x07\x01\x02\x03"; string(out) != want {
		t.Errorf("%q, want %q", out, want)
	}
}
