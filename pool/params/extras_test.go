package params

import "testing"

func someExtras(pairs ...string) Extras {
	var list []Extra
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, Extra{pairs[i], pairs[i+1]})
	}
	return MakeExtras(list)
}

func TestExtras(t *testing.T) {
	if someExtras() != (Extras{}) || someExtras("a", "1", "B", "2") != someExtras("b", "x", "A", "1", "b", "2") || someExtras("a", "1") == someExtras("a", "") {
		t.Error("extras are not equal where they should be, or equal where not")
	}
	for _, tt := range []struct {
		have, want Extras
		anew       bool
		sql        string
	}{
		{Extras{}, Extras{}, false, ""},
		{Extras{}, Extras{}, true, ""},
		{someExtras("geqo", "off"), someExtras("geqo", "off"), false, ""},
		{someExtras("geqo", "off"), someExtras("geqo", "off"), true, "SET geqo='off';"},
		{someExtras("geqo", "off"), Extras{}, false, "RESET geqo;"},
		{Extras{}, someExtras("statement_timeout", "5s"), false, "SET statement_timeout='5s';"},
		{someExtras("a", "1", "b", "2"), someExtras("b", "3", "c", "4"), false, "RESET a;SET b='3';SET c='4';"},
		{Extras{}, someExtras("my.own", `it's \`), false, `SET my.own=E'it''s \\';`},
		{Extras{}, someExtras("Search_Path", "a, b"), false, "SET search_path='a', 'b';"},
		{Extras{}, someExtras("search_path", "a; drop table t"), false, "SELECT pg_catalog.set_config('search_path','a; drop table t',false);"},
		{Extras{}, someExtras("role", ""), false, "SET role='';"},
	} {
		if got := string(AppendExtras(nil, tt.have, tt.want, tt.anew)); got != tt.sql {
			t.Errorf("%q, want %q", got, tt.sql)
		}
	}
}

func TestIsName(t *testing.T) {
	for name, want := range map[string]bool{
		"geqo": true, "_x9": true, "a.b": true, "Extra_float_digits": true,
		"": false, ".": false, "a.": false, "9a": false, "a;b": false, "a b": false, "a=b": false, "a'": false, "a-b": false, "é": false, "a\x00": false, "@a": false, "[a": false, "`a": false, "\x7fa": false,
	} {
		if got := IsName(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}
