package admin

import (
	"strings"
	"testing"

	"github.com/jackc/pgproto3/v2"

	"github.com/pgweir/pgweir/wire"
)

// FuzzSession sends a session any messages in any order. Whatever comes, it
// answers in whole messages, with one ReadyForQuery for each Sync and for each
// Query that is not skipped after an error.
func FuzzSession(f *testing.F) {
	seed := func(messages ...pgproto3.FrontendMessage) {
		var stream []byte
		for _, m := range messages {
			b, err := m.Encode(nil)
			if err != nil {
				f.Fatal(err)
			}
			stream = append(stream, b...)
		}
		f.Add(stream)
	}
	seed(parseOf("s", "SHOW STATE"), &pgproto3.Bind{PreparedStatement: "s", DestinationPortal: "p", ResultFormatCodes: []int16{1}},
		&pgproto3.Describe{ObjectType: 'P', Name: "p"}, &pgproto3.Execute{Portal: "p", MaxRows: 1}, &pgproto3.Execute{Portal: "p"}, syncNow)
	seed(parseOf("", "BEGIN"), bindUnname, execAll, flushNow, syncNow, &pgproto3.Query{String: "COMMIT"})
	seed(parseOf("", "SET verbose = 1"), &pgproto3.Describe{ObjectType: 'S'}, &pgproto3.Close{ObjectType: 'S'}, syncNow)
	seed(parseOf("", "nonsense"), &pgproto3.Query{String: ";"}, syncNow, &pgproto3.Query{String: "SHOW LISTS; SHOW MEM"})
	seed(&pgproto3.Parse{Query: "RELOAD", ParameterOIDs: []uint32{25}}, &pgproto3.Bind{Parameters: [][]byte{nil}}, syncNow)
	seed(&pgproto3.Terminate{})
	seed(&pgproto3.CopyDone{})

	f.Fuzz(func(t *testing.T, stream []byte) {
		s := open(t, &fakePools{Pooler: emptyPools{}}, true)
		skipping := false
		for len(stream) >= wire.HeaderLen {
			typ, size, _, err := wire.Peek(stream, 1<<16)
			if err != nil || size > len(stream) {
				return
			}
			reply, end := s.Handle(nil, typ, stream[wire.HeaderLen:size], nil)
			stream = stream[size:]
			got := decode(t, reply)
			last := ""
			if len(got) > 0 {
				last = got[len(got)-1]
			}
			switch {
			case end:
				return
			case typ == wire.Sync:
				skipping = false
				if len(got) != 1 || !strings.HasPrefix(last, "ReadyForQuery") {
					t.Fatalf("a Sync was answered %q", got)
				}
			case skipping:
				if len(got) > 0 {
					t.Fatalf("%c was answered %q, after an error and before a Sync", typ, got)
				}
			case typ == wire.Query:
				if !strings.HasPrefix(last, "ReadyForQuery") {
					t.Fatalf("a Query was answered %q", got)
				}
			default:
				skipping = strings.HasPrefix(last, "ERROR")
			}
		}
	})
}
