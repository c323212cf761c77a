package sim

import (
	"strconv"
	"strings"
)

// stmt is one statement of a query. Most begin with a verb and the tag of the
// client's that sent it:
//
//	select TAG [rows [size]]   rows of the tag and the state of the session
//	slow TAG ms                as select, but it takes its time
//	hang TAG                   for ever, or until it is cancelled
//	fail TAG                   an error
//	notice TAG                 a notice
//	begin, commit, rollback TAG
//	set NAME=VALUE, reset NAME without a tag, as the pooler sends it too
//	temp TAG                   leaves a table behind, in a transaction until its end
//	listen TAG, notify TAG
//	copyin TAG rows            fails at that row, -1: before it reads any, 0: never
//	copyout TAG rows
//	stream TAG rows            both ways, until the client ends it; replication only
//	die TAG, crash TAG         the end of the session, with and without a word
//	limits                     the pooler's question how many connections there may be
//	lookup                     auth_query: the account that the parameter names
//	shaped TAG                 a row as of select, of the shape that the table has
//	alter TAG                  gives the table another shape
//	discard all
//	prepare NAME as ..., execute NAME, deallocate NAME or all
type stmt struct {
	verb string
	tag  tag
	args []int
	text string

	asRow       bool   // set: by set_config
	name, value string // set; prepare, execute and deallocate have a name
	inner       *stmt  // prepare: of what; nil: of a row of nothing
	all         bool   // deallocate all
}

// tag names a client's statement. The zero tag is nobody's.
type tag struct{ client, n int }

func (t tag) String() string { return strconv.Itoa(t.client) + "/" + strconv.Itoa(t.n) }

// oid is the type of a parameter that s has nothing else for than to say whose
// it is.
func (s *stmt) oid() uint32 {
	if s == nil {
		return 0
	}
	return uint32(s.tag.client)<<16 | uint32(s.tag.n)
}

func parseTag(s string) (t tag, ok bool) {
	c, n, ok := strings.Cut(s, "/")
	if !ok {
		return t, false
	}
	var err, err2 error
	t.client, err = strconv.Atoi(c)
	t.n, err2 = strconv.Atoi(n)
	return t, err == nil && err2 == nil
}

// arg is the i-th argument, or def.
func (s *stmt) arg(i, def int) int {
	if i < len(s.args) {
		return s.args[i]
	}
	return def
}

// rows reports whether s returns rows.
func (s *stmt) rows() bool {
	return s.verb == "select" || s.verb == "slow" || s.verb == "hang" || s.verb == "shaped"
}

// parse reads a query. ok is false for a syntax error.
func parse(query string) (list []stmt, ok bool) {
	for _, text := range split(query) {
		s, ok := parseOne(text)
		if !ok {
			return nil, false
		}
		list = append(list, s)
	}
	return list, true
}

// split cuts a query at its semicolons, those in quotes left alone.
func split(query string) (parts []string) {
	start := 0
	add := func(end int) {
		if p := strings.TrimSpace(query[start:end]); p != "" {
			parts = append(parts, p)
		}
	}
	var quote byte
	escapes := false
	for i := 0; i < len(query); i++ {
		c := query[i]
		switch {
		case quote != 0 && c == '\\' && escapes:
			i++
		case quote != 0:
			if c == quote { // a doubled one opens again at once
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
			escapes = c == '\'' && i > 0 && query[i-1] == 'E'
		case c == ';':
			add(i)
			start = i + 1
		}
	}
	add(len(query))
	return parts
}

func parseOne(text string) (s stmt, ok bool) {
	s.text = text
	words := strings.Fields(text)
	s.verb = strings.ToLower(words[0])
	if strings.HasPrefix(text, "SELECT pg_catalog.concat_ws(") {
		s.verb = "limits"
		return s, true
	}
	if rest, ok := strings.CutPrefix(text, "SELECT pg_catalog.set_config('"); ok {
		name, value, ok := strings.Cut(strings.TrimSuffix(rest, ",false)"), "',")
		if !ok {
			return s, false
		}
		s.verb, s.name, s.asRow = "set", name, true
		s.value, ok = literal(value)
		return s, ok
	}
	switch s.verb {
	case "set":
		name, value, ok := strings.Cut(strings.TrimSpace(text[len("set"):]), "=")
		if !ok {
			return s, false
		}
		s.name = strings.TrimSpace(name)
		s.value, ok = literal(strings.TrimSpace(value))
		return s, ok
	case "reset":
		if len(words) != 2 {
			return s, false
		}
		s.name = words[1]
		return s, true
	case "lookup":
		return s, len(words) == 1
	case "prepare", "execute", "deallocate":
		return s, parsePrepare(&s, text)
	case "discard":
		return s, strings.EqualFold(text, "discard all")
	case "select", "slow", "hang", "fail", "notice", "begin", "commit", "rollback", "temp", "listen", "notify",
		"copyin", "copyout", "stream", "die", "crash", "shaped", "alter":
	default:
		return s, false
	}
	if len(words) < 2 {
		return s, false
	}
	if s.tag, ok = parseTag(words[1]); !ok {
		return s, false
	}
	for _, word := range words[2:] {
		if strings.HasPrefix(word, "--") {
			break
		}
		n, err := strconv.Atoi(word)
		if err != nil {
			return s, false
		}
		s.args = append(s.args, n)
	}
	return s, true
}

// literal reads a value: a literal, a list of them, or words taken as they
// stand.
func literal(s string) (value string, ok bool) {
	escapes := false
	if strings.HasPrefix(s, "E'") {
		escapes, s = true, s[1:]
	}
	if !strings.HasPrefix(s, "'") {
		return s, s != "" && !strings.Contains(s, "'")
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case escapes && c == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case c == '\'' && i+1 < len(s) && s[i+1] == '\'':
			i++
			b.WriteByte(c)
		case c == '\'':
			rest, more := strings.CutPrefix(s[i+1:], ", ")
			if !more {
				return b.String(), rest == ""
			}
			next, ok := literal(rest)
			return b.String() + ", " + next, ok
		default:
			b.WriteByte(c)
		}
	}
	return "", false
}
