package sql

import (
	"fmt"
	"strings"
	"testing"
)

func TestStatements(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"select 1", ""},
		{"", ""},
		{";;  ; ", ""},
		{"prepare a as select 1", `prepare a [prepare a as select 1]`},
		{" PREPARE  A(int , text) as select ';' ; ", `prepare a [PREPARE  A(int , text) as select ';']`},
		{"prepare a /* x */ as select 1 -- end", `prepare a [prepare a /* x */ as select 1]`},
		{`prepare "A ""b" as select 1`, `prepare A "b [prepare "A ""b" as select 1]`},
		{`prepare "" as select 1`, ""},
		{"prepare a", ""},
		{"prepare a select", ""},
		{"prepare select as select 1", ""},
		{`prepare "select" as select 1`, `prepare select [prepare "select" as select 1]`},
		{"prepare transaction 'x'", ""},
		{"prepare transaction as select 1", "prepare transaction [prepare transaction as select 1]"},
		{"prepare u&\"a\" as select 1", ""},
		{"execute a", "execute a [execute a]"},
		{"execute a(1, ')') ;select 2", "execute a [execute a(1, ')')]"},
		{"execute a b", ""},
		{"execute $1", ""},
		{"execute", ""},
		{"executed a", ""},
		{"-- execute b\nexecute a", "execute a [execute a]"},
		{"/* /* */ execute b */ execute a", "execute a [execute a]"},
		{"/* execute b", ""},
		{"deallocate a", "deallocate a [deallocate a]"},
		{"deallocate prepare a", "deallocate a [deallocate prepare a]"},
		{"deallocate prepare", "deallocate prepare [deallocate prepare]"},
		{"deallocate prepare prepare;", "deallocate prepare [deallocate prepare prepare]"},
		{"deallocate prepare all; deallocate all; discard all", "all [deallocate prepare all] all [deallocate all] all [discard all]"},
		{`deallocate "all"`, `deallocate all [deallocate "all"]`},
		{"discard plans; discard temp; discard all x", ""},
		{"explain execute a", "execute a [explain execute a]"},
		{"explain (analyze, costs off) execute a(1)", "execute a [explain (analyze, costs off) execute a(1)]"},
		{"explain analyze verbose create table x as execute a", "execute a [explain analyze verbose create table x as execute a]"},
		{"explain select 1; explain deallocate a; explain prepare a as select 1", ""},
		{"create table x as execute a", "execute a [create table x as execute a]"},
		{"create temp table if not exists x (a, b) with (fillfactor=70) on commit drop as execute a(1) with no data", "execute a [create temp table if not exists x (a, b) with (fillfactor=70) on commit drop as execute a(1) with no data]"},
		{"create table x as select 1 as execute", ""},
		{"create table x (a int generated always as (1) stored)", ""},
		{"create view x as execute a; create function x() returns int as 'execute a'", ""},
		{"select 1; execute a; select 2; execute b", "execute a [execute a] execute b [execute b]"},
		{"create rule r as on insert to x do (select 1; execute a)", ""},
		{"select '; execute a'; execute b", "execute b [execute b]"},
		{"select 'it''s; execute a'; execute b", "execute b [execute b]"},
		{`select '\'; execute a`, "execute a [execute a]"},
		{`select e'\'; execute a'; execute b`, "execute b [execute b]"},
		{"select e'x'\n'\\'; execute a'; execute b", "execute b [execute b]"},
		{"select e'x' -- c\n '\\'; execute a'; execute b", "execute b [execute b]"},
		{"select e'x' '\\'; execute a", "execute a [execute a]"},
		{"select b'1;execute a', x'1;execute a', n'1;execute a', u&'1\\;execute a'; execute b", "execute b [execute b]"},
		{`select "a;execute a""b", u&"c;execute a"; execute b`, "execute b [execute b]"},
		{"select $$; execute a $x$ $$; execute b", "execute b [execute b]"},
		{"select $x$; execute a $$ $x1$ $x$; execute b", "execute b [execute b]"},
		{"select a$$; execute b", "execute b [execute b]"},
		{"select $1$$; execute a $$; execute b", "execute b [execute b]"},
		{"select $1, 5$$; execute a $$; execute b", "execute b [execute b]"},
		{"execute a; select 'open", ""},
		{"execute a; select $$open", ""},
		{"execute a; select \"open", ""},
		{"select 1 -- ; execute a\r; execute b", "execute b [execute b]"},
		{"select 1+--x\n2; execute b", "execute b [execute b]"},
		{"execute " + strings.Repeat("a", 70), "execute " + strings.Repeat("a", 63) + " [execute " + strings.Repeat("a", 70) + "]"},
		{"execute " + strings.Repeat("ä", 40), "execute " + strings.Repeat("ä", 31) + " [execute " + strings.Repeat("ä", 40) + "]"},
	} {
		if got := shown(test.text, true); got != test.want {
			t.Errorf("%q has %q, want %q", test.text, got, test.want)
		}
	}
	// What a backslash is depends on the session.
	const slash = `select '\'; execute a; --'; execute b`
	if got, want := shown(slash, false), "execute b [execute b]"; got != want {
		t.Errorf("%q has %q, want %q", slash, got, want)
	}
}

// shown are the statements of a text in words.
func shown(text string, conforming bool) string {
	verbs := map[Verb]string{Prepare: "prepare ", Execute: "execute ", Deallocate: "deallocate ", DeallocateAll: "all"}
	var all []string
	list, _ := Statements([]byte(text), conforming)
	for _, s := range list {
		all = append(all, fmt.Sprintf("%s%s [%s]", verbs[s.Verb], s.Name, text[s.At:s.End]))
	}
	return strings.Join(all, " ")
}

func TestOnlyExecutes(t *testing.T) {
	for text, want := range map[string]bool{
		"execute a":                     true,
		" /* x */ EXECUTE \"A\" (1, 2)": true,
		"explain execute a":             false,
		"explain (analyze) execute a":   false,
		"create table x as execute a":   false,
		"prepare a as select 1":         false,
		"deallocate a":                  false,
	} {
		list, _ := Statements([]byte(text), true)
		if len(list) != 1 || list[0].OnlyExecutes([]byte(text)) != want {
			t.Errorf("%q: %+v", text, list)
		}
	}
}

// The test that every query passes must let nothing through, and cost nothing.
func TestMayNameStatements(t *testing.T) {
	for text, want := range map[string]bool{
		"select 1":                           false,
		"SELECT 1; select 2; ":               false,
		"/* a; b */ select 1":                false,
		"-- execute a\nselect 1":             false,
		"call execute(1)":                    false,
		"commit":                             false,
		"Execute a":                          true,
		" \n/* x */-- y\n prepare a":         true,
		"select ';'; deallocate a":           true,
		"select '; /*'; execute a":           true,
		"select '; --'; /**/ execute a":      true,
		"create table x as execute a":        true,
		"insert into x values ('; create')":  true,
		"insert into x values ('; nothing')": false,
	} {
		b := []byte(text)
		if got := MayNameStatements(b); got != want {
			t.Errorf("%q: %t", text, got)
		}
		if n := testing.AllocsPerRun(10, func() { MayNameStatements(b) }); n > 0 {
			t.Errorf("%q: %v allocations", text, n)
		}
	}
}

func BenchmarkMayNameStatements(b *testing.B) {
	text := []byte("SELECT abalance FROM pgbench_accounts WHERE aid = 123456;")
	for b.Loop() {
		if MayNameStatements(text) {
			b.Fatal("it names none")
		}
	}
}

// FuzzStatements checks what a rewritten text relies on: that statements lie
// in order and within the text, that names can be read again once quoted, and
// that the first test finds each.
func FuzzStatements(f *testing.F) {
	for _, text := range []string{
		"prepare a (int) as select $1; execute a(1); deallocate a", `select e'\'', $x$ $x$, "a""b" /* ; */; execute "A"`,
		"explain (analyze) execute a; create table x as execute a with no data", "select '\\'; execute a -- x\n'", "discard all",
	} {
		f.Add(text, true)
		f.Add(text, false)
	}
	f.Fuzz(func(t *testing.T, text string, conforming bool) {
		list, all := Statements([]byte(text), conforming)
		if len(list) > all {
			t.Fatalf("%q has %d statements, and of them %d", text, all, len(list))
		}
		if len(list) > 0 && !MayNameStatements([]byte(text)) {
			t.Fatalf("%q is let through, and has %+v", text, list)
		}
		at := 0
		for _, s := range list {
			if s.At < at || s.NameAt < s.At || s.After <= s.NameAt || s.End < s.After || s.End > len(text) {
				t.Fatalf("%q has %+v behind %d", text, s, at)
			}
			at = s.End
			if s.Verb == DeallocateAll {
				continue
			}
			again := text[s.At:s.NameAt] + QuoteName(s.Name) + text[s.After:s.End]
			found, _ := Statements([]byte(again), conforming)
			if len(found) != 1 || found[0].Name != s.Name || found[0].Verb != s.Verb {
				t.Fatalf("%q becomes %q, which has %+v", text[s.At:s.End], again, found)
			}
		}
	})
}
