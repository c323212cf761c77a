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

func TestAppendSet(t *testing.T) {
	for _, test := range []struct{ name, value, want string }{
		{"TimeZone", "UTC", "SET TimeZone='UTC';"},
		{"DateStyle", "ISO, MDY", "SET DateStyle='ISO, MDY';"},
		{"application_name", "a,,b", "SET application_name='a,,b';"},
		{"search_path", `"$user", public`, "SET search_path='$user', 'public';"},
		{"search_path", "\tApp ,É,a$b\v", "SET search_path='app', 'É', 'a$b';"},
		{"search_path", "order,default", "SET search_path='order', 'default';"},
		{"search_path", `"a;b", "Say ""a""", ""`, `SET search_path='a;b', 'Say "a"', '';`},
		{"search_path", `""`, "SET search_path='';"},
		{"search_path", "public;--", "SET search_path='public;--';"},
		{"search_path", "a'b", "SET search_path='a''b';"},
		{"search_path", `a\b`, `SET search_path=E'a\\b';`},
		{"temp_tablespaces", `a,$$"$$`, `SET temp_tablespaces='a', '$$"$$';`},
		// What is no list of names:
		{"search_path", "", "SELECT pg_catalog.set_config('search_path','',false);"},
		{"search_path", "public; drop table t", "SELECT pg_catalog.set_config('search_path','public; drop table t',false);"},
		{"search_path", `"a" b`, `SELECT pg_catalog.set_config('search_path','"a" b',false);`},
		{"search_path", `"it's`, `SELECT pg_catalog.set_config('search_path','"it''s',false);`},
		{"search_path", "a b", "SELECT pg_catalog.set_config('search_path','a b',false);"},
		{"search_path", "a,", "SELECT pg_catalog.set_config('search_path','a,',false);"},
		{"temp_tablespaces", "a,,b", "SELECT pg_catalog.set_config('temp_tablespaces','a,,b',false);"},
	} {
		if got := string(AppendSet(nil, test.name, test.value)); got != test.want {
			t.Errorf("%s = %q: %s, want %s", test.name, test.value, got, test.want)
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
