package sql

import "strings"

// AppendLiteral appends s as an SQL literal that reads the same whatever
// standard_conforming_strings says.
func AppendLiteral(dst []byte, s string) []byte {
	if strings.IndexByte(s, '\\') >= 0 {
		dst = append(dst, 'E')
	}
	dst = append(dst, '\'')
	for i := range len(s) {
		if s[i] == '\'' || s[i] == '\\' {
			dst = append(dst, s[i])
		}
		dst = append(dst, s[i])
	}
	return append(dst, '\'')
}

// AppendNames appends s, a list of names as a search_path is reported and asked
// for, in the form that SET takes: each name is a literal. So it means the same,
// whatever names there are, and can't be read as anything else. What is no list
// is one literal.
func AppendNames(dst []byte, s string) []byte {
	names, ok := splitNames(s)
	if !ok || len(names) == 0 {
		return AppendLiteral(dst, s)
	}
	for i, name := range names {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = AppendLiteral(dst, name)
	}
	return dst
}

// splitNames takes a list of names apart as Postgres does
// (SplitIdentifierString): commas between them, with white space around; a name
// in double quotes stands for itself, another one for its lower case.
func splitNames(s string) (names []string, ok bool) {
	const space = " \t\n\r\f\v"
	for s = strings.Trim(s, space); s != ""; {
		var name string
		if quoted, isQuoted := strings.CutPrefix(s, `"`); isQuoted {
			var b strings.Builder
			for {
				part, rest, closed := strings.Cut(quoted, `"`)
				if !closed {
					return nil, false
				}
				b.WriteString(part)
				if quoted, isQuoted = strings.CutPrefix(rest, `"`); !isQuoted {
					s = rest
					break
				}
				b.WriteByte('"')
			}
			name = b.String()
		} else {
			end := strings.IndexAny(s, ","+space)
			if end < 0 {
				end = len(s)
			}
			if end == 0 {
				return nil, false
			}
			name, s = lowerASCII(s[:end]), s[end:]
		}
		names = append(names, name)
		s = strings.TrimLeft(s, space)
		if s == "" {
			break
		}
		rest, more := strings.CutPrefix(s, ",")
		if s = strings.TrimLeft(rest, space); !more || s == "" {
			return nil, false
		}
	}
	return names, true
}

// lowerASCII is s with the letters from A to Z in lower case, and all others as
// they are.
func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c | 0x20
		}
	}
	return string(b)
}

// QuoteName is name as a quoted identifier.
func QuoteName(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
