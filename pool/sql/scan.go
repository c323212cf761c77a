package sql

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// Verb is what a statement of SQL does with a prepared statement.
type Verb uint8

// The verbs. Zero is none.
const (
	Prepare       Verb = iota + 1 // PREPARE name ...
	Execute                       // EXECUTE name ..., also within EXPLAIN and CREATE TABLE AS
	Deallocate                    // DEALLOCATE name
	DeallocateAll                 // DEALLOCATE ALL, DISCARD ALL
)

// Statement is a statement within a text that names a prepared statement. Its
// places are offsets in bytes.
type Statement struct {
	Verb          Verb
	At, End       int    // the statement is text[At:End], without what separates it from the next
	NameAt, After int    // the name is text[NameAt:After]; of DeallocateAll the word ALL
	Name          string // as Postgres reads it: without quotes, or in lower case, and cut; "" of DeallocateAll
}

// OnlyExecutes reports whether s, which was found in text, is an EXECUTE that
// stands within no other statement: its rows are those of what it executes.
func (s Statement) OnlyExecutes(text []byte) bool {
	const word = "execute"
	return s.Verb == Execute && strings.EqualFold(string(text[s.At:min(s.At+len(word), len(text))]), word)
}

// words are the words that such a statement may begin with.
var words = [...]string{"prepare", "execute", "explain", "deallocate", "discard", "create"}

// MayNameStatements reports whether a text may hold a statement that names a
// prepared one. If it reports false then [Statements] finds none; the reverse
// does not hold. It allocates nothing.
func MayNameStatements(text []byte) bool {
	for first := true; ; first = false {
		for len(text) > 0 && isSpace(text[0]) {
			text = text[1:]
		}
		if len(text) == 0 {
			return false
		}
		switch text[0] {
		case 'p', 'P', 'e', 'E', 'd', 'D', 'c', 'C':
			for _, word := range words {
				if len(text) > len(word) && strings.EqualFold(string(text[:len(word)]), word) {
					return true
				}
			}
		case '-', '/':
			if !first { // it may stand within a string
				return true
			}
			if s := (scanner{text: text}); s.skipComment() {
				text = text[s.at:]
				continue
			}
		}
		i := bytes.IndexByte(text, ';')
		if i < 0 {
			return false
		}
		text = text[i+1:]
	}
}

// Statements finds the statements of a text that name prepared statements,
// in their order. conforming is the session's standard_conforming_strings. What
// Postgres would refuse to parse is left out, as are names in the form U&"...".
// all counts the statements of whatever kind.
func Statements(text []byte, conforming bool) (found []Statement, all int) {
	s := &scanner{text: text, conforming: conforming}
	for s.next(); s.kind != tokenEnd; s.next() {
		if !s.over() {
			all++
		}
		st := Statement{At: s.start}
		known := s.statement(&st)
		depth := 0
		last := st.After
		for s.kind != tokenEnd && (s.kind != tokenOther || text[s.start] != ';' || depth > 0) {
			if s.kind == tokenOther {
				switch text[s.start] {
				case '(':
					depth++
				case ')':
					depth--
				}
			}
			last = s.at
			s.next()
		}
		if known {
			st.End = last
			found = append(found, st)
		}
	}
	if s.broken {
		return nil, all // Postgres reads all of a text before it executes any of it
	}
	return found, all
}

// MayHaveLiterals reports whether a text may have constants in quotes or
// dollars. It errs on one side only: false is certain.
func MayHaveLiterals(text []byte) bool {
	if bytes.IndexByte(text, '\'') >= 0 {
		return true
	}
	for i, ch := range text {
		if ch == '$' && i+1 < len(text) && !isDigit(text[i+1]) {
			return true
		}
	}
	return false
}

// tokenKind is what a token of SQL is, as far as it matters here.
type tokenKind uint8

const (
	tokenEnd    tokenKind = iota // there is no more
	tokenWord                    // a keyword, or a name without quotes
	tokenQuoted                  // a name in quotes
	tokenString                  // a constant in quotes or dollars
	tokenOther                   // any other character
)

// scanner takes a text apart by the rules of Postgres' scan.l.
type scanner struct {
	text       []byte
	at         int // what comes next
	conforming bool
	broken     bool // a comment, a name or a constant does not end

	kind  tokenKind // of the token text[start:at]
	start int
}

func isSpace(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }

func isLetter(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' || c >= 0x80
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// peek is the n-th byte from here, 0 behind the end.
func (s *scanner) peek(n int) byte {
	if s.at+n < len(s.text) {
		return s.text[s.at+n]
	}
	return 0
}

// next moves on to the next token.
func (s *scanner) next() {
	for s.at < len(s.text) && (isSpace(s.text[s.at]) || s.skipComment()) {
		if s.at < len(s.text) && isSpace(s.text[s.at]) {
			s.at++
		}
	}
	s.start = s.at
	if s.at >= len(s.text) {
		s.kind = tokenEnd
		return
	}
	c := s.text[s.at]
	switch {
	case c == '\'':
		s.quoted('\'', !s.conforming)
	case c == '"':
		s.quoted('"', false)
		s.kind = tokenQuoted
	case (c == 'e' || c == 'E') && s.peek(1) == '\'':
		s.at++
		s.quoted('\'', true)
	case (c == 'b' || c == 'B' || c == 'x' || c == 'X') && s.peek(1) == '\'':
		s.at++
		s.quoted('\'', false)
	case (c == 'n' || c == 'N') && s.peek(1) == '\'':
		s.at++
		s.quoted('\'', !s.conforming)
	case (c == 'u' || c == 'U') && s.peek(1) == '&' && (s.peek(2) == '\'' || s.peek(2) == '"'):
		s.at += 2
		s.quoted(s.text[s.at], false)
	case isLetter(c):
		s.kind = tokenWord
		for s.at < len(s.text) && (isLetter(s.text[s.at]) || isDigit(s.text[s.at]) || s.text[s.at] == '$') {
			s.at++
		}
	case c == '$' && s.dollars():
		s.kind = tokenString
	case c == '$' && isDigit(s.peek(1)):
		s.kind = tokenOther
		for s.at++; isDigit(s.peek(0)); {
			s.at++
		}
	default:
		s.kind = tokenOther
		s.at++
	}
}

// skipComment moves behind the comment that begins here. It reports whether
// there is one.
func (s *scanner) skipComment() bool {
	switch {
	case s.peek(0) == '-' && s.peek(1) == '-':
		for s.at < len(s.text) && s.text[s.at] != '\n' && s.text[s.at] != '\r' {
			s.at++
		}
		return true
	case s.peek(0) == '/' && s.peek(1) == '*':
		depth := 0
		for s.at < len(s.text) {
			switch {
			case s.peek(0) == '/' && s.peek(1) == '*':
				depth++
				s.at += 2
			case s.peek(0) == '*' && s.peek(1) == '/':
				depth--
				s.at += 2
				if depth == 0 {
					return true
				}
			default:
				s.at++
			}
		}
		s.broken = true
		return true
	}
	return false
}

// quoted moves behind the quotes that begin here. In them, escapes says whether
// a backslash keeps the next character from having a meaning. A string goes on
// in the next quotes when there is nothing but white space with a newline, and
// comments of one line, between.
func (s *scanner) quoted(quote byte, escapes bool) {
	s.kind = tokenString
	for {
		s.at++
		for s.at < len(s.text) {
			c := s.text[s.at]
			switch {
			case c == '\\' && escapes:
				s.at++
			case c != quote:
			case s.peek(1) == quote:
				s.at++
			default:
				goto closed
			}
			s.at++
		}
		s.at = len(s.text)
		s.broken = true
		return
	closed:
		s.at++
		goesOn, ok := s.continued()
		if quote != '\'' || !ok {
			return
		}
		s.at = goesOn
	}
}

// continued finds the quote by which a string that ends here goes on.
func (s *scanner) continued() (at int, ok bool) {
	newline := false
	for at = s.at; at < len(s.text); at++ {
		switch c := s.text[at]; {
		case c == '\n' || c == '\r':
			newline = true
		case isSpace(c):
		case c == '-' && at+1 < len(s.text) && s.text[at+1] == '-':
			for at+1 < len(s.text) && s.text[at+1] != '\n' && s.text[at+1] != '\r' {
				at++
			}
		default:
			return at, c == '\'' && newline
		}
	}
	return at, false
}

// dollars moves behind the constant in dollars that begins here. It reports
// whether there is one.
func (s *scanner) dollars() bool {
	end := s.at + 1
	for end < len(s.text) && (isLetter(s.text[end]) || end > s.at+1 && isDigit(s.text[end])) {
		end++
	}
	if end == len(s.text) || s.text[end] != '$' {
		return false
	}
	delimiter := s.text[s.at : end+1]
	body := s.text[end+1:]
	i := bytes.Index(body, delimiter)
	if i < 0 {
		s.at, s.broken = len(s.text), true
		return true
	}
	s.at = end + 1 + i + len(delimiter)
	return true
}

// is reports whether the token is a word.
func (s *scanner) is(word string) bool {
	return s.kind == tokenWord && strings.EqualFold(string(s.text[s.start:s.at]), word)
}

// char reports whether the token is the character c.
func (s *scanner) char(c byte) bool { return s.kind == tokenOther && s.text[s.start] == c }

// over reports whether the statement ends before the token.
func (s *scanner) over() bool { return s.kind == tokenEnd || s.char(';') }

// statement looks at the statement that begins with the token. It reports
// whether it names a prepared one, and which. It stops within the statement.
func (s *scanner) statement(st *Statement) bool {
	switch {
	case s.is("prepare"):
		s.next()
		transaction := s.is("transaction")
		if !s.name(st) || transaction && s.kind == tokenString {
			return false
		}
		st.Verb = Prepare
		return s.char('(') || s.is("as")
	case s.is("execute"):
		s.next()
		st.Verb = Execute
		return s.name(st) && (s.over() || s.char('('))
	case s.is("deallocate"):
		st.Verb = Deallocate
		s.next()
		if s.is("prepare") {
			// The word itself may be the name.
			word := *s
			if s.next(); s.over() {
				*s = word
			}
		}
		return s.all(st) || s.name(st) && s.over()
	case s.is("discard"):
		s.next()
		return s.all(st)
	case s.is("explain"):
		s.next()
		if s.char('(') {
			s.brackets()
		}
		for s.is("analyze") || s.is("analyse") || s.is("verbose") {
			s.next()
		}
		return (s.is("execute") || s.is("create")) && s.statement(st) // PREPARE and the like can't be explained
	case s.is("create"):
		return s.createAs(st)
	}
	return false
}

// all reports whether the token is the word ALL, and ends the statement.
func (s *scanner) all(st *Statement) bool {
	if !s.is("all") {
		return false
	}
	st.Verb, st.NameAt, st.After = DeallocateAll, s.start, s.at
	s.next()
	return s.over()
}

// createAs looks for CREATE TABLE ... AS EXECUTE.
func (s *scanner) createAs(st *Statement) bool {
	s.next()
	for s.is("temp") || s.is("temporary") || s.is("local") || s.is("global") || s.is("unlogged") {
		s.next()
	}
	if !s.is("table") {
		return false
	}
	for !s.over() && !s.is("as") {
		if s.char('(') {
			s.brackets()
		} else {
			s.next()
		}
	}
	if s.over() {
		return false
	}
	if s.next(); !s.is("execute") {
		return false
	}
	s.next()
	st.Verb = Execute
	return s.name(st) && (s.over() || s.char('(') || s.is("with"))
}

// brackets moves behind what stands in the brackets that the token opens.
func (s *scanner) brackets() {
	for depth := 0; s.kind != tokenEnd; s.next() {
		switch {
		case s.char('('):
			depth++
		case s.char(')'):
			if depth--; depth == 0 {
				s.next()
				return
			}
		}
	}
}

// MaxIdentifier is the length of the longest identifier in bytes. Postgres cuts
// what is longer.
const MaxIdentifier = 63

// name takes the token for a name, and moves on. It reports false for what can
// be none.
func (s *scanner) name(st *Statement) bool {
	text := s.text[s.start:s.at]
	switch s.kind {
	case tokenWord:
		st.Name = lowerASCII(string(text))
		if reservedWords[st.Name] {
			return false
		}
	case tokenQuoted:
		if len(text) < 3 {
			return false // "" is no name, and the other has no end
		}
		st.Name = strings.ReplaceAll(string(text[1:len(text)-1]), `""`, `"`)
	default:
		return false
	}
	if n := MaxIdentifier; len(st.Name) > n {
		for n > 0 && !utf8.RuneStart(st.Name[n]) {
			n--
		}
		st.Name = st.Name[:n]
	}
	st.NameAt, st.After = s.start, s.at
	s.next()
	return true
}

// reservedWords are the keywords of Postgres that can't be names without quotes.
var reservedWords = func() map[string]bool {
	m := map[string]bool{}
	for word := range strings.FieldsSeq(`
		all analyse analyze and any array as asc asymmetric authorization binary both case cast check collate
		collation column concurrently constraint create cross current_catalog current_date current_role
		current_schema current_time current_timestamp current_user default deferrable desc distinct do else end
		except false fetch for foreign freeze from full grant group having ilike in initially inner intersect into
		is isnull join lateral leading left like limit localtime localtimestamp natural not notnull null offset on
		only or order outer overlaps placing primary references returning right select session_user similar some
		symmetric system_user table tablesample then to trailing true union unique user using variadic verbose
		when where window with`) {
		m[word] = true
	}
	return m
}()
