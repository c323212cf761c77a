package pool_test

import (
	"strings"
	"testing"

	"github.com/pgweir/pgweir/pool/dial"
	"github.com/pgweir/pgweir/wire"
)

// TestMeaning has two clients with different parameters prepare one text: it is
// one statement for both where they can't mean different things by it.
func TestMeaning(t *testing.T) {
	const old, young = "one server", "one that reports search_path"
	for _, test := range []struct {
		server, name, value, text string
		same                      bool
	}{
		{old, "application_name", "other", `select '\ä'`, true},
		{old, "DateStyle", "German", "select 1", true},
		{old, "DateStyle", "German", "select date '01/02/2003'", false},
		{old, "DateStyle", "German", "select date $$01/02/2003$$", false},
		{old, "DateStyle", "German", "select $1::date", true},
		{old, "TimeZone", "CET", "select '1'::timestamptz", false},
		{old, "standard_conforming_strings", "off", "select 'a'", true},
		{old, "standard_conforming_strings", "off", `select 'a\n'`, false},
		{old, "client_encoding", "LATIN1", "select 'a'", true},
		{old, "client_encoding", "LATIN1", "select 'ä'", false},
		{old, "search_path", "app", "select 1", false},
		{young, "search_path", "app", "select 1", false},
		{old, "role", "app", "select 1", false},
		{old, "work_mem", "1", "select '1'", true},
	} {
		t.Run(test.name+"/"+test.text, func(t *testing.T) {
			w := newWorld(t, "auth_type = trust\npool_mode = transaction\ndefault_pool_size = 1", "")
			a := w.connect().startup("user", "alice", "database", "app")
			params := reported
			if test.server == young {
				params = append(params[:len(params):len(params)], dial.Param{Name: "search_path", Value: "public"})
			}
			n := len(w.loop.conns)
			w.dialer.next(t)(&dial.Session{Params: params, Key: make([]byte, 8)}, nil)
			w.settle()
			a.wantWelcome()
			s := &stage{w, w.loop.conns[n]}
			a.send(join(parse("mine", test.text), sync))
			s.answers(reply('1'), idle)
			s.server.out = nil

			b := w.connect().startup("user", "alice", "database", "app", test.name, test.value)
			b.wantWelcome()
			b.send(join(parse("mine", test.text), sync))
			if set := s.server.out; len(set) == 0 || set[0] != wire.Query {
				t.Fatalf("the server was sent %q, and not told the parameter", set)
			}
			s.server.out = nil
			var tells []byte
			for _, p := range params {
				if p.Name == test.name {
					tells = wire.AppendParameterStatus(nil, test.name, test.value)
				}
			}
			s.answers(tag("SET"), tells, idle)
			if other := strings.Contains(string(s.server.out), two); other == test.same {
				t.Errorf("another statement: %t; the server was sent %q", other, s.server.out)
			}
		})
	}
}

// TestMeaningThatIsUnsettled has a client prepare a text behind what may change a
// parameter, and does: the server may have read the text under the new value, and
// nobody else is given it.
func TestMeaningThatIsUnsettled(t *testing.T) {
	const set = "set datestyle to german"
	german := wire.AppendParameterStatus(nil, "DateStyle", "German, DMY")
	parsed := func(text string) []byte { return join(parse("mine", text), sync) }
	prepared := func(text string) []byte { return ask("prepare mine as " + text) }
	for _, test := range []struct {
		name      string
		before    []byte // what the client sends before
		prepares  func(text string) []byte
		answers   []byte
		unsettled bool
	}{
		{"Parse", nil, parsed, join(reply('1'), idle), false},
		{"Parse behind a Query", ask(set), parsed, join(tag("SET"), german, idle, reply('1'), idle), true},
		{"Parse behind a Query that changes nothing", ask(set), parsed, join(tag("SET"), idle, reply('1'), idle), false},
		{
			"Parse behind an Execute", join(parse("", set), bind(""), execute), parsed,
			join(reply('1', '2'), tag("SET"), reply('1'), german, idle), true,
		},
		{"PREPARE", nil, prepared, join(tag("PREPARE"), idle), false},
		{"PREPARE behind a Query", ask(set), prepared, join(tag("SET"), german, idle, tag("PREPARE"), idle), true},
		{
			"PREPARE in one text", nil, func(text string) []byte { return ask(set + "; prepare mine as " + text) },
			join(tag("SET"), tag("PREPARE"), german, idle), true,
		},
		{
			"Execute of PREPARE", join(parse("", set), bind(""), execute), func(text string) []byte {
				return join(parse("", "prepare mine as "+text), bind(""), execute, sync)
			},
			join(reply('1', '2'), tag("SET"), reply('1', '2'), tag("PREPARE"), german, idle), true,
		},
	} {
		for _, text := range []string{"select date '01/02/2003'", "select date($1)"} {
			t.Run(test.name+"/"+text, func(t *testing.T) {
				s, a := newStage(t, "")
				for _, m := range [][]byte{test.before, test.prepares(text)} {
					a.send(m)
				}
				s.answers(test.answers)
				if want := test.unsettled && !strings.Contains(text, "$"); s.server.closed != want {
					t.Errorf("the server is closed: %t, want %t", s.server.closed, want)
				}
			})
		}
	}
}
