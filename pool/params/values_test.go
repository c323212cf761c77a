package params

import (
	"slices"
	"strings"
	"testing"

	"github.com/pgweir/pgweir/configs"
)

// someTracked is the default list.
func someTracked() *Tracked {
	var m configs.Main
	return NewTracked(m.TrackedParameters())
}

// someValues makes Values of pairs of names and values.
func someValues(t *Tracked, pairs ...string) Values {
	values := make([]Value, len(t.Names))
	for pair := range slices.Chunk(pairs, 2) {
		i, ok := t.Lookup(pair[0])
		if !ok {
			panic("not tracked: " + pair[0])
		}
		values[i] = Value{pair[1], true}
	}
	return MakeValues(values)
}

func TestValuesRoundTrip(t *testing.T) {
	tr := someTracked()
	for _, text := range []string{"", "-", "=", "ISO, MDY", "it's", "\x01", strings.Repeat("x", 1000)} {
		v := someValues(tr, "TimeZone", text, "application_name", text+text)
		for i, got := range v.List(tr) {
			want := Value{}
			switch tr.Names[i] {
			case "TimeZone":
				want = Value{text, true}
			case "application_name":
				want = Value{text + text, true}
			}
			if got != want {
				t.Errorf("%s of %q is %v, want %v", tr.Names[i], text, got, want)
			}
			if one := v.Get(tr, i); one != want {
				t.Errorf("get of %s is %v, want %v", tr.Names[i], one, want)
			}
		}
	}
	if slices.ContainsFunc((Values{}).List(tr), func(v Value) bool { return v.Known }) {
		t.Error("the zero Values knows something")
	}
}

func TestValuesEqual(t *testing.T) {
	tr := someTracked()
	i, _ := tr.Lookup("timezone")
	a := someValues(tr, "TimeZone", "UTC")
	if b := someValues(tr, "timezone", "Asia/Tokyo").With(tr, i, "UTC"); a != b {
		t.Error("equal Values differ")
	}
	if a == a.With(tr, i, "utc") {
		t.Error("different Values are equal")
	}
	if a == someValues(tr, "TimeZone", "UTC", "application_name", "") {
		t.Error("an empty value is an unknown one")
	}
}

func TestAdopt(t *testing.T) {
	tr := someTracked()
	had := someValues(tr, "TimeZone", "UTC", "DateStyle", "ISO, MDY", "client_encoding", "UTF8")
	client := someValues(tr, "TimeZone", "UTC", "DateStyle", "german", "client_encoding", "utf8", "application_name", "me")
	// The server was told the DateStyle; its TimeZone changed by itself.
	now := someValues(tr, "TimeZone", "Asia/Tokyo", "DateStyle", "German, DMY", "client_encoding", "UTF8")
	want := someValues(tr, "TimeZone", "UTC", "DateStyle", "German, DMY", "client_encoding", "UTF8", "application_name", "me")
	if got := client.Adopt(tr, had, now); got != want {
		t.Errorf("%v, want %v", got.List(tr), want.List(tr))
	}
}

func TestAppendSets(t *testing.T) {
	tr := someTracked()
	have := someValues(
		tr, "TimeZone", "UTC", "DateStyle", "ISO, MDY", "client_encoding", "UTF8", "search_path", `"$user", public`,
		"application_name", "",
	)
	for _, c := range []struct {
		want []string
		sql  string
	}{
		{nil, ""},
		{[]string{"TimeZone", "UTC"}, ""},
		{[]string{"client_encoding", "utf8"}, ""}, // the same in another case
		{[]string{"TimeZone", "Asia/Tokyo"}, "SET TimeZone='Asia/Tokyo';"},
		{[]string{"TimeZone", "Asia/Tokyo", "DateStyle", "German"}, "SET DateStyle='German';SET TimeZone='Asia/Tokyo';"},
		{[]string{"IntervalStyle", "iso_8601"}, ""}, // never reported by the server
		{[]string{"application_name", "it's"}, "SET application_name='it''s';"},
		{[]string{"search_path", `"$USER", public`}, "SET search_path='$USER', 'public';"}, // another name
		{[]string{"application_name", `a\b`}, `SET application_name=E'a\\b';`},
		{[]string{"application_name", `\'; drop table t; --`}, `SET application_name=E'\\''; drop table t; --';`},
		{[]string{"search_path", "app, public"}, "SET search_path='app', 'public';"},
	} {
		if got := string(AppendSets(nil, tr, have, someValues(tr, c.want...))); got != c.sql {
			t.Errorf("%q: %s, want %s", c.want, got, c.sql)
		}
	}
}

// FuzzAppendSets gives a client any value for two parameters. What the server
// is told must be two statements that set them, whatever its
// standard_conforming_strings is.
func FuzzAppendSets(f *testing.F) {
	for _, seed := range [][2]string{
		{"me", "public"},
		{"it's", `"$user", public`},
		{`\`, `\`},
		{`\'`, `"`},
		{"';", "a;b"},
		{"", `"";`},
		{"E'", "a,,b"},
		{"$$", "$$a$$"},
		{"é", "é, \xff"},
		{"--", "a--b"},
		{"/*", "/*"},
		{`''`, `'`},
	} {
		f.Add(seed[0], seed[1])
	}
	tr := someTracked()
	have := someValues(tr, "application_name", "before", "search_path", "before")
	f.Fuzz(func(t *testing.T, app, path string) {
		app, path = strings.ReplaceAll(app, "\x00", ""), strings.ReplaceAll(path, "\x00", "")
		if strings.EqualFold(app, "before") || strings.EqualFold(path, "before") {
			return
		}
		sql := string(AppendSets(nil, tr, have, someValues(tr, "application_name", app, "search_path", path)))
		for _, conforming := range []bool{true, false} {
			rest, ok := strings.CutPrefix(sql, "SET application_name=")
			if !ok {
				t.Fatalf("%s", sql)
			}
			got, rest, ok := readLiteral(rest, conforming)
			if !ok || got != app {
				t.Fatalf("application_name %q is %q in %s (conforming %t)", app, got, sql, conforming)
			}
			if broken, ok := strings.CutPrefix(rest, ";SELECT pg_catalog.set_config('search_path',"); ok {
				if got, rest, ok := readLiteral(broken, conforming); !ok || got != path || rest != ",false);" {
					t.Fatalf("%q is %q in %s (conforming %t)", path, got, sql, conforming)
				}
				continue
			}
			rest, ok = strings.CutPrefix(rest, ";SET search_path=")
			if !ok {
				t.Fatalf("something comes between: %s", sql)
			}
			for more := ok; ok && more; {
				if _, rest, ok = readLiteral(rest, conforming); ok {
					rest, more = strings.CutPrefix(rest, ", ")
				}
			}
			if !ok || rest != ";" {
				t.Fatalf("something comes behind: %q in %s (conforming %t)", rest, sql, conforming)
			}
		}
	})
}

// readLiteral reads a string constant as Postgres does.
func readLiteral(s string, conforming bool) (value, rest string, ok bool) {
	escapes := !conforming
	if strings.HasPrefix(s, "E'") {
		escapes, s = true, s[1:]
	}
	if !strings.HasPrefix(s, "'") {
		return "", s, false
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\' && escapes:
			if i++; i == len(s) {
				return "", s, false
			}
			b.WriteByte(s[i])
		case s[i] != '\'':
			b.WriteByte(s[i])
		case i+1 < len(s) && s[i+1] == '\'':
			i++
			b.WriteByte('\'')
		default:
			return b.String(), s[i+1:], true
		}
	}
	return "", s, false
}
