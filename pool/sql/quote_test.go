package sql

import "testing"

func TestAppendLiteral(t *testing.T) {
	for _, test := range []struct{ s, want string }{
		{"", "''"},
		{"UTC", "'UTC'"},
		{"it's", "'it''s'"},
		{`a\b`, `E'a\\b'`},
		{`\'; drop table t; --`, `E'\\''; drop table t; --'`},
		{"é\xff", "'é\xff'"},
	} {
		if got := string(AppendLiteral(nil, test.s)); got != test.want {
			t.Errorf("%q is %s, want %s", test.s, got, test.want)
		}
	}
}

func TestAppendNames(t *testing.T) {
	for _, test := range []struct{ list, want string }{
		{`"$user", public`, "'$user', 'public'"},
		{"\tApp ,É,a$b\v", "'app', 'É', 'a$b'"},
		{"order,default", "'order', 'default'"},
		{`"a;b", "Say ""a""", ""`, `'a;b', 'Say "a"', ''`},
		{`""`, "''"},
		{"", "''"},
		{"public;--", "'public;--'"},
		{"a'b", "'a''b'"},
		{`a\b`, `E'a\\b'`},
		{`a,$$"$$`, `'a', '$$"$$'`},
		// What is no list of names:
		{"public; drop table t", "'public; drop table t'"},
		{`"a" b`, `'"a" b'`},
		{`"a`, `'"a'`},
		{"a b", "'a b'"},
		{"a,", "'a,'"},
		{"a,,b", "'a,,b'"},
	} {
		if got := string(AppendNames(nil, test.list)); got != test.want {
			t.Errorf("%q is %s, want %s", test.list, got, test.want)
		}
	}
}

func TestQuoteName(t *testing.T) {
	for name, want := range map[string]string{"a": `"a"`, `say "A"`: `"say ""A"""`, "": `""`} {
		if got := QuoteName(name); got != want {
			t.Errorf("%q is %s, want %s", name, got, want)
		}
	}
}
