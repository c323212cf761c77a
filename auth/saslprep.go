package auth

import (
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// saslPrep prepares a password for PBKDF2 as Postgres does (pg_saslprep and
// its callers): by SASLprep, RFC 4013, but for these choices, without which
// the keys would not be Postgres' keys:
//   - ASCII is left alone, control characters included.
//   - A password that is not UTF-8, or that SASLprep refuses, is used raw.
//   - What is refused is looked for before normalization, not after.
func saslPrep(password string) string {
	if isASCII(password) || !utf8.ValidString(password) {
		return password
	}
	mapped := strings.Map(func(r rune) rune {
		switch {
		case inTable(preparedSpaces, r):
			return ' '
		case inTable(preparedNothing, r):
			return -1
		}
		return r
	}, password)
	if mapped == "" || strings.ContainsFunc(mapped, refused) || !directed(mapped) {
		return password
	}
	return norm.NFKC.String(mapped)
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func refused(r rune) bool {
	return inTable(preparedProhibited, r) || inTable(preparedUnassigned, r)
}

// directed reports whether s keeps the rules for bidirectional strings (RFC
// 3454 section 6): with a right-to-left character in it, it begins and ends
// with one, and has none that is left-to-right.
func directed(s string) bool {
	rightToLeft := func(r rune) bool { return inTable(preparedRightToLeft, r) }
	if !strings.ContainsFunc(s, rightToLeft) {
		return true
	}
	first, _ := utf8.DecodeRuneInString(s)
	last, _ := utf8.DecodeLastRuneInString(s)
	return rightToLeft(first) && rightToLeft(last) &&
		!strings.ContainsFunc(s, func(r rune) bool { return inTable(preparedLeftToRight, r) })
}

// inTable reports whether r is in one of the ranges of table.
func inTable(table []rune, r rune) bool {
	i, ok := slices.BinarySearch(table, r)
	return ok || i%2 == 1
}
