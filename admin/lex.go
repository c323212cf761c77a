package admin

import "strings"

// token is a word, a string or a sign of a statement.
type token struct {
	kind tokenKind
	text string // without its quotes
}

// tokenKind says how a token was written.
type tokenKind uint8

const (
	// bareWord is a run of bytes other than blanks, quotes and signs. It is
	// wider than PgBouncer's [0-9a-z_]+, so that scram-sha-256, 127.0.0.1 and
	// -1 need no quotes.
	bareWord   tokenKind = iota
	quotedWord           // "…", "" stands for one quote
	stringWord           // '…', '' stands for one quote
	sign                 // one of = , ( )
)

// statement is the part of a query between two semicolons.
type statement struct {
	text   string // as typed, trimmed
	tokens []token
	broken bool // a quote or a comment was not closed
}

// split takes a query apart at its semicolons. Statements of nothing but
// blanks and comments are left out. A quote or comment that is not closed
// makes the rest of the query one broken statement.
func split(query string) []statement {
	var list []statement
	var tokens []token
	start, broken := 0, false
	finish := func(end int) {
		if len(tokens) > 0 || broken {
			list = append(list, statement{strings.TrimSpace(query[start:end]), tokens, broken})
		}
		tokens = nil
	}
	for i := 0; i < len(query); {
		c := query[i]
		switch {
		case isBlank(c):
			i++
		case c == ';':
			finish(i)
			i++
			start = i
		case strings.HasPrefix(query[i:], "--"):
			i = skipLine(query, i)
		case strings.HasPrefix(query[i:], "/*"):
			i, broken = skipComment(query, i)
		case c == '"' || c == '\'':
			var text string
			text, i, broken = unquote(query, i)
			kind := quotedWord
			if c == '\'' {
				kind = stringWord
			}
			tokens = append(tokens, token{kind, text})
		case isSign(c):
			tokens = append(tokens, token{sign, query[i : i+1]})
			i++
		default:
			end := skipWord(query, i)
			tokens = append(tokens, token{bareWord, query[i:end]})
			i = end
		}
	}
	finish(len(query))
	return list
}

func isBlank(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }

func isSign(c byte) bool { return c == '=' || c == ',' || c == '(' || c == ')' }

// skipLine returns the end of the line that i is on.
func skipLine(s string, i int) int {
	if n := strings.IndexByte(s[i:], '\n'); n >= 0 {
		return i + n
	}
	return len(s)
}

// skipComment returns the end of the comment that opens at i. Comments nest,
// as in Postgres.
func skipComment(s string, i int) (end int, broken bool) {
	for depth := 0; i+1 < len(s); i++ {
		switch s[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			depth--
			i++
		}
		if depth == 0 {
			return i + 1, false
		}
	}
	return len(s), true
}

// unquote reads the quoted text that opens at i.
func unquote(s string, i int) (text string, end int, broken bool) {
	quote := s[i]
	var b strings.Builder
	for i++; i < len(s); i++ {
		if s[i] != quote {
			b.WriteByte(s[i])
			continue
		}
		if i+1 == len(s) || s[i+1] != quote {
			return b.String(), i + 1, false
		}
		b.WriteByte(quote)
		i++
	}
	return b.String(), len(s), true
}

// skipWord returns the end of the bare word that starts at i.
func skipWord(s string, i int) int {
	start := i
	for ; i < len(s); i++ {
		c := s[i]
		if isBlank(c) || isSign(c) || c == ';' || c == '"' || c == '\'' {
			break
		}
		if i > start && (strings.HasPrefix(s[i:], "--") || strings.HasPrefix(s[i:], "/*")) {
			break
		}
	}
	return i
}
