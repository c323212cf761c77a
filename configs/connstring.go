package configs

import (
	"fmt"
	"strings"
)

// pair is one key=value of a connect string.
type pair struct{ key, value string }

// parseConnString splits a connect string: pairs of key=value between spaces,
// with spaces allowed around the equals sign. Tabs are ordinary characters. A
// value is either everything up to the next space, or '…' with ” inside for a
// quote. An empty value is an error, quoted or not. notes name what PgBouncer
// takes without a word and no one would mean. Neither they nor the error hold
// any value.
func parseConnString(s string) (pairs []pair, notes []string, err error) {
	where := "at the beginning"
	for s = strings.TrimLeft(s, " "); s != ""; s = strings.TrimLeft(s, " ") {
		end := strings.IndexAny(s, " =")
		if end < 0 {
			end = len(s)
		}
		p := pair{key: s[:end]}
		s = strings.TrimLeft(s[end:], " ")
		if p.key == "" || s == "" || s[0] != '=' {
			return nil, nil, fmt.Errorf("syntax error in connect string %s: not a key=value; a value with spaces must stand in single quotes", where)
		}
		s = strings.TrimLeft(s[1:], " ")
		if strings.HasPrefix(s, "'") {
			var ok bool
			if p.value, s, ok = cutQuoted(s[1:], '\''); !ok {
				return nil, nil, fmt.Errorf("syntax error in connect string: the value of %s has no closing quote", shownKey(p.key))
			}
			if s != "" {
				if s[0] != ' ' {
					notes = append(notes, fmt.Sprintf("the character right behind the quoted value of %s is dropped", shownKey(p.key)))
				}
				s = s[1:]
			}
		} else {
			p.value, s, _ = strings.Cut(s, " ")
			if strings.IndexByte(p.value, '\t') >= 0 {
				notes = append(notes, fmt.Sprintf("the value of %s has a tab in it; only spaces separate parameters", shownKey(p.key)))
			}
		}
		if p.value == "" {
			return nil, nil, fmt.Errorf("syntax error in connect string: %s has an empty value; leave the parameter out instead", shownKey(p.key))
		}
		pairs = append(pairs, p)
		where = "behind the value of " + shownKey(p.key)
	}
	return pairs, notes, nil
}

// cutQuoted reads s up to the closing quote, where two quotes in a row stand
// for one. It reports false when there is no closing quote.
func cutQuoted(s string, quote byte) (text, rest string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == quote {
			if i+1 == len(s) || s[i+1] != quote {
				return b.String(), s[i+1:], true
			}
			i++
		}
		b.WriteByte(s[i])
	}
	return "", "", false
}

// shownKey is a parameter's name for an error text. What was mistaken for a name
// may be part of a password, so only what looks like a name is shown.
func shownKey(name string) string {
	for i := range len(name) {
		if c := name[i]; c != '_' && (c < 'a' || c > 'z') {
			return "a parameter"
		}
	}
	return name
}

// atoi reads a number as C's atoi does, which is what PgBouncer reads numbers
// in connect strings with: what follows the digits is dropped, no digits are 0.
// It reports whether s was a plain number. Values are held to 32 bits.
func atoi(s string) (n int, plain bool) {
	digits := strings.TrimLeft(s, isspace)
	negative := strings.HasPrefix(digits, "-")
	if negative || strings.HasPrefix(digits, "+") {
		digits = digits[1:]
	}
	i := 0
	for ; i < len(digits) && '0' <= digits[i] && digits[i] <= '9'; i++ {
		n = min(n*10+int(digits[i]-'0'), 1<<31-1)
	}
	if negative {
		n = -n
	}
	return n, i > 0 && i == len(digits)
}
