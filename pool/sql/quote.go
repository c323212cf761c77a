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

// AppendSet appends the statement that sets the parameter called name, which
// must be a parameter's, to value, in the form in which Postgres reports it and
// takes it from a StartupMessage. What Postgres does not take there it does not
// take from the statement either.
//
// SET would read a list of names, such as a search_path, as one name. So each
// name is a literal of its own: it means the same, whatever it is, and can't be
// read as anything else. For what is no list of names SET has no form at all.
func AppendSet(dst []byte, name, value string) []byte {
	set := func() { dst = append(append(append(dst, "SET "...), name...), '=') }
	switch name {
	case "search_path", "temp_tablespaces", "local_preload_libraries", "session_preload_libraries":
	default:
		set()
		return append(AppendLiteral(dst, value), ';')
	}
	names, ok := splitNames(value)
	if !ok || len(names) == 0 {
		dst = append(append(append(dst, "SELECT pg_catalog.set_config('"...), name...), "',"...)
		return append(AppendLiteral(dst, value), ",false);"...)
	}
	set()
	for i, name := range names {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = AppendLiteral(dst, name)
	}
	return append(dst, ';')
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
