package admin

import (
	"fmt"
	"strings"
	"testing"
)

func TestSplit(t *testing.T) {
	for _, test := range []struct{ query, want string }{
		{"", ""},
		{" \t\n;; ;", ""},
		{"-- all comment", ""},
		{"/* all */ /**/", ""},
		{"SHOW  pools", "[b:SHOW b:pools]"},
		{"a;b ;c", "[b:a][b:b][b:c]"},
		{`"a""b" 'c''d;e'`, `[q:a"b s:c'd;e]`},
		{`""''`, "[q: s:]"},
		{"x=1,2", "[b:x =:= b:1 =:, b:2]"},
		{"a--b\nc", "[b:a b:c]"},
		{"a/*b*/c", "[b:a b:c]"},
		{"a/*b/*c*/d*/e", "[b:a b:e]"},
		{"-1 scram-sha-256 1.5 /tmp", "[b:-1 b:scram-sha-256 b:1.5 b:/tmp]"},
		{"f(x)", "[b:f =:( b:x =:)]"},
		{"ä\"ö\"", "[b:ä q:ö]"},
		{"a; 'b", "[b:a][s:b broken]"},
		{"/* a */ /* b", "[ broken]"},
		{"/*/", "[ broken]"},
		{"a;\x00", "[b:a][b:\x00]"},
	} {
		var b strings.Builder
		for _, st := range split(test.query) {
			var words []string
			for _, tok := range st.tokens {
				words = append(words, fmt.Sprintf("%c:%s", "bqs="[tok.kind], tok.text))
			}
			b.WriteString("[" + strings.Join(words, " "))
			if st.broken {
				b.WriteString(" broken")
			}
			b.WriteByte(']')
		}
		if got := b.String(); got != test.want {
			t.Errorf("%q: got %s, want %s", test.query, got, test.want)
		}
	}
}

// FuzzGrammar looks for queries that break the parser or the answer's framing,
// and for names that don't survive being quoted.
func FuzzGrammar(f *testing.F) {
	for _, query := range []string{
		"SHOW POOLS;", "select version()", "SET x = 'it''s'", "SET a TO b, c", `PAUSE "my ""db"""`,
		"KILL_CLIENT $1", "/* a /* b */ */ RELOAD -- c", "a;b;;", "BEGIN", "SHOW 'x", "SET SESSION a=b", "\xff\x00",
	} {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		query, _, _ = strings.Cut(query, "\x00") // as the message ends there
		for _, st := range split(query) {
			if st.text == "" || !strings.Contains(query, st.text) {
				t.Errorf("statement %q is not part of %q", st.text, query)
			}
			p, err := parse(st)
			if (err == nil) != (p.run != nil) {
				t.Errorf("parse(%q): plan %v, error %v", st.text, p.run != nil, err)
			}
		}
		// BEGIN and the like aside, an answer ends in one ReadyForQuery.
		s := open(t, &fakePools{Pooler: emptyPools{}}, true)
		reply, end := s.Handle(nil, 'Q', append([]byte(query), 0), nil)
		got := decode(t, reply)
		ready := 0
		for _, line := range got {
			if strings.HasPrefix(line, "ReadyForQuery") {
				ready++
			}
		}
		if !end && (ready != 1 || !strings.HasPrefix(got[len(got)-1], "ReadyForQuery")) {
			t.Errorf("%q was answered %q", query, got)
		}

		if len(query) == 0 || len(query) > maxName {
			return
		}
		pools := &fakePools{}
		quoted := `PAUSE "` + strings.ReplaceAll(query, `"`, `""`) + `"`
		ask(t, open(t, pools, true), quoted)
		if len(pools.calls) != 1 || pools.calls[0] != strings.TrimSpace("pause "+query) {
			t.Errorf("%s: the pools were told %q", quoted, pools.calls)
		}
	})
}
