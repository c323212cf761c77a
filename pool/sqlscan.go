package pool

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// sqlVerb is what a statement of SQL does with a prepared statement.
type sqlVerb uint8

const (
	sqlPrepare       sqlVerb = iota + 1 // PREPARE name ...
	sqlExecute                          // EXECUTE name ..., also within EXPLAIN and CREATE TABLE AS
	sqlDeallocate                       // DEALLOCATE name
	sqlDeallocateAll                    // DEALLOCATE ALL, DISCARD ALL
)

// sqlStatement is a statement within a text that names a prepared statement.
type sqlStatement struct {
	verb          sqlVerb
	at, end       int    // the statement, without what separates it from the next
	nameAt, after int    // its name
	name          string // as Postgres reads it
}

// onlyExecutes reports whether s, which was found in text, is an EXECUTE that
// stands within no other statement: its rows are those of what it executes.
func (s sqlStatement) onlyExecutes(text []byte) bool {
	const word = "execute"
	return s.verb == sqlExecute && strings.EqualFold(string(text[s.at:min(s.at+len(word), len(text))]), word)
}

// sqlWords are the words that such a statement may begin with.
var sqlWords = [...]string{"prepare", "execute", "explain", "deallocate", "discard", "create"}

// mayNameStatements reports whether a text may hold a statement of SQL that
// names a prepared one. It is asked of every query, and errs on one side only.
func mayNameStatements(text []byte) bool {
	for first := true; ; first = false {
		for len(text) > 0 && isSpace(text[0]) {
			text = text[1:]
		}
		if len(text) == 0 {
			return false
		}
		switch text[0] {
		case 'p', 'P', 'e', 'E', 'd', 'D', 'c', 'C':
			for _, word := range sqlWords {
				if len(text) > len(word) && strings.EqualFold(string(text[:len(word)]), word) {
					return true
				}
			}
		case '-', '/':
			if !first { // it may stand within a string
				return true
			}
			if s := (sqlScanner{text: text}); s.skipComment() {
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

// sqlStatements finds the statements of a text that name prepared statements,
// in their order. conforming is the session's standard_conforming_strings. What
// Postgres would refuse to parse is left out, as are names in the form U&"...".
// all counts the statements of whatever kind.
func sqlStatements(text []byte, conforming bool) (found []sqlStatement, all int) {
	s := &sqlScanner{text: text, conforming: conforming}
	for s.next(); s.kind != tokenEnd; s.next() {
		if !s.over() {
			all++
		}
		st := sqlStatement{at: s.start}
		known := s.statement(&st)
		depth := 0
		last := st.after
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
			st.end = last
			found = append(found, st)
		}
	}
	if s.broken {
		return nil, all // Postgres reads all of a text before it executes any of it
	}
	return found, all
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

// sqlScanner takes a text apart by the rules of Postgres' scan.l.
type sqlScanner struct {
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
func (s *sqlScanner) peek(n int) byte {
	if s.at+n < len(s.text) {
		return s.text[s.at+n]
	}
	return 0
}

// next moves on to the next token.
func (s *sqlScanner) next() {
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
func (s *sqlScanner) skipComment() bool {
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
func (s *sqlScanner) quoted(quote byte, escapes bool) {
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
func (s *sqlScanner) continued() (at int, ok bool) {
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
func (s *sqlScanner) dollars() bool {
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
func (s *sqlScanner) is(word string) bool {
	return s.kind == tokenWord && strings.EqualFold(string(s.text[s.start:s.at]), word)
}

// char reports whether the token is the character c.
func (s *sqlScanner) char(c byte) bool { return s.kind == tokenOther && s.text[s.start] == c }

// over reports whether the statement ends before the token.
func (s *sqlScanner) over() bool { return s.kind == tokenEnd || s.char(';') }

// statement looks at the statement that begins with the token. It reports
// whether it names a prepared one, and which. It stops within the statement.
func (s *sqlScanner) statement(st *sqlStatement) bool {
	switch {
	case s.is("prepare"):
		s.next()
		transaction := s.is("transaction")
		if !s.name(st) || transaction && s.kind == tokenString {
			return false
		}
		st.verb = sqlPrepare
		return s.char('(') || s.is("as")
	case s.is("execute"):
		s.next()
		st.verb = sqlExecute
		return s.name(st) && (s.over() || s.char('('))
	case s.is("deallocate"):
		st.verb = sqlDeallocate
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
func (s *sqlScanner) all(st *sqlStatement) bool {
	if !s.is("all") {
		return false
	}
	st.verb, st.nameAt, st.after = sqlDeallocateAll, s.start, s.at
	s.next()
	return s.over()
}

// createAs looks for CREATE TABLE ... AS EXECUTE.
func (s *sqlScanner) createAs(st *sqlStatement) bool {
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
	st.verb = sqlExecute
	return s.name(st) && (s.over() || s.char('(') || s.is("with"))
}

// brackets moves behind what stands in the brackets that the token opens.
func (s *sqlScanner) brackets() {
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

// maxIdentifier is the length of the longest identifier in bytes.
const maxIdentifier = 63

// name takes the token for a name, and moves on. It reports false for what can
// be none.
func (s *sqlScanner) name(st *sqlStatement) bool {
	text := s.text[s.start:s.at]
	switch s.kind {
	case tokenWord:
		st.name = asciiLower(text)
		if reservedWords[st.name] {
			return false
		}
	case tokenQuoted:
		if len(text) < 3 {
			return false // "" is no name, and the other has no end
		}
		st.name = strings.ReplaceAll(string(text[1:len(text)-1]), `""`, `"`)
	default:
		return false
	}
	if n := maxIdentifier; len(st.name) > n {
		for n > 0 && !utf8.RuneStart(st.name[n]) {
			n--
		}
		st.name = st.name[:n]
	}
	st.nameAt, st.after = s.start, s.at
	s.next()
	return true
}

// asciiLower is text with the letters A to Z in lower case.
func asciiLower(text []byte) string {
	lower := bytes.Clone(text)
	for i, c := range lower {
		if 'A' <= c && c <= 'Z' {
			lower[i] = c | 0x20
		}
	}
	return string(lower)
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

// quoteName is name as a quoted identifier.
func quoteName(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
