package wire_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/jackc/pgproto3/v2"

	"github.com/pgweir/pgweir/wire"
)

func TestParseFields(t *testing.T) {
	whole := wire.Fields{Severity: "ERROR", Code: "42601", Message: "m", Detail: "d", Hint: "h"}
	routine := whole
	routine.Routine = "f"
	for _, tt := range []struct {
		name, body string
		want       wire.Fields
	}{
		{"nothing", "", wire.Fields{}},
		{"terminator", "\x00", wire.Fields{}},
		{"all of them", "SERROR\x00C42601\x00Mm\x00Dd\x00Hh\x00\x00", whole},
		{"in any order", "Hh\x00Dd\x00Mm\x00C42601\x00SERROR\x00\x00", whole},
		{"others between", "SERROR\x00VERROR\x00C42601\x00Mm\x00Dd\x00Hh\x00P1\x00Ffile.c\x00L7\x00Rf\x00\x00", routine},
		{"behind the terminator", "SERROR\x00\x00C42601\x00\x00", wire.Fields{Severity: "ERROR"}},
		{"no terminator", "SERROR\x00C42601\x00", wire.Fields{Severity: "ERROR", Code: "42601"}},
		{"broken off in a value", "SERROR\x00C426", wire.Fields{Severity: "ERROR"}},
		{"broken off behind a code", "SERROR\x00C", wire.Fields{Severity: "ERROR"}},
		{"empty value", "S\x00Mm\x00\x00", wire.Fields{Message: "m"}},
		{"twice", "Ma\x00Mb\x00\x00", wire.Fields{Message: "b"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := wire.ParseFields([]byte(tt.body)); got != tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestCutString(t *testing.T) {
	for _, tt := range []struct {
		in, s, rest string
		ok          bool
	}{
		{"", "", "", false},
		{"abc", "", "abc", false},
		{"\x00", "", "", true},
		{"abc\x00", "abc", "", true},
		{"abc\x00de\x00", "abc", "de\x00", true},
	} {
		s, rest, ok := wire.CutString([]byte(tt.in))
		if string(s) != tt.s || string(rest) != tt.rest || ok != tt.ok {
			t.Errorf("CutString(%q) = %q, %q, %v", tt.in, s, rest, ok)
		}
	}
}

// FuzzFields holds ParseFields against pgproto3, and the writers against
// ParseFields.
func FuzzFields(f *testing.F) {
	f.Add([]byte("SFATAL\x00VFATAL\x00C28P01\x00Mpassword authentication failed\x00Fauth.c\x00L321\x00\x00"))
	f.Add([]byte("SERROR\x00C426"))
	f.Fuzz(func(t *testing.T, body []byte) {
		got := wire.ParseFields(body)
		for _, s := range []string{got.Severity, got.Code, got.Message, got.Detail, got.Hint, got.Routine} {
			if strings.IndexByte(s, 0) >= 0 {
				t.Fatalf("a NUL in %q", s)
			}
		}
		out, written := wire.AppendError(nil, got), got
		written.Routine = "" // which is only read
		if again := wire.ParseFields(out[wire.HeaderLen:]); again != written {
			t.Fatalf("%+v written and read again is %+v", got, again)
		}
		if notice := wire.AppendNotice(nil, got); !bytes.Equal(notice[1:], out[1:]) || notice[0] != wire.NoticeResponse {
			t.Fatalf("notice %q, error %q", notice, out)
		}
		var oracle pgproto3.ErrorResponse
		if oracle.Decode(body) != nil {
			return // only whole bodies can be compared
		}
		if theirs := (wire.Fields{
			Severity: oracle.Severity, Code: oracle.Code, Message: oracle.Message, Detail: oracle.Detail, Hint: oracle.Hint, Routine: oracle.Routine,
		}); theirs != got {
			t.Fatalf("%+v, pgproto3 reads %+v", got, theirs)
		}
	})
}
