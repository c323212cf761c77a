package admin

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/jackc/pgproto3/v2"

	"github.com/pgweir/pgweir/wire"
)

// decode reads a session's answer with another implementation of the protocol,
// and returns a line for each message.
func decode(t *testing.T, reply []byte) []string {
	t.Helper()
	lines := []string{}
	for rest := reply; len(rest) > 0; {
		_, size, ok, err := wire.Peek(rest, 1<<30)
		if err != nil || !ok || size > len(rest) {
			t.Fatalf("the answer breaks off: %q", rest)
		}
		front := pgproto3.NewFrontend(pgproto3.NewChunkReader(bytes.NewReader(rest[:size])), io.Discard)
		m, err := front.Receive()
		if err != nil {
			t.Fatalf("%v in %q", err, rest[:size])
		}
		lines = append(lines, describeMessage(t, m))
		rest = rest[size:]
	}
	return lines
}

func describeMessage(t *testing.T, m pgproto3.BackendMessage) string {
	t.Helper()
	switch m := m.(type) {
	case *pgproto3.RowDescription:
		var b strings.Builder
		b.WriteString("RowDescription")
		for _, f := range m.Fields {
			fmt.Fprintf(&b, " %s:%d/%d", f.Name, f.DataTypeOID, f.Format)
			if f.TableOID != 0 || f.TableAttributeNumber != 0 || f.TypeModifier != -1 {
				t.Errorf("column %s claims a table or a modifier: %+v", f.Name, f)
			}
		}
		return b.String()
	case *pgproto3.DataRow:
		var b strings.Builder
		b.WriteString("DataRow")
		for _, v := range m.Values {
			if v == nil {
				b.WriteString(" NULL")
			} else {
				fmt.Fprintf(&b, " %q", v)
			}
		}
		return b.String()
	case *pgproto3.CommandComplete:
		return "CommandComplete " + string(m.CommandTag)
	case *pgproto3.ReadyForQuery:
		return "ReadyForQuery " + string(m.TxStatus)
	case *pgproto3.ErrorResponse:
		return fields(m)
	case *pgproto3.NoticeResponse:
		return fields((*pgproto3.ErrorResponse)(m))
	case *pgproto3.ParameterDescription:
		return fmt.Sprintf("ParameterDescription %v", m.ParameterOIDs)
	default:
		return strings.TrimPrefix(fmt.Sprintf("%T", m), "*pgproto3.")
	}
}

func fields(e *pgproto3.ErrorResponse) string {
	s := e.Severity + " " + e.Code + " " + e.Message
	if e.Detail != "" {
		s += " | " + e.Detail
	}
	if e.Hint != "" {
		s += " | " + e.Hint
	}
	return s
}

// expect compares the lines of an answer.
func expect(t *testing.T, what string, reply []byte, want ...string) {
	t.Helper()
	got := decode(t, reply)
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s\n got  %s\n want %s", what, strings.Join(got, "\n      "), strings.Join(want, "\n      "))
	}
}
