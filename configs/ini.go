package configs

import (
	"fmt"
	"slices"
	"strings"
)

const (
	// maxIncludeDepth is how deep %include may nest, as in PgBouncer.
	maxIncludeDepth = 10

	isspace = " \t\n\v\f\r" // C's isspace
	isblank = " \t"
)

// iniReader splits ini text into sections and keys, in PgBouncer's dialect:
//
//   - a line whose first character after white space is # or ; is a comment,
//     and there are no comments behind a value;
//   - [name] begins a section, and the rest of its line counts as a further line;
//   - %include PATH reads another file, relative to the working directory;
//     sections carry over into it and out of it;
//   - key = value, the key either a run of [A-Za-z0-9_.*-] or in single quotes,
//     the value the rest of the line as it stands, without white space around.
//
// After a line it can't read it goes on with the next one.
type iniReader struct {
	section func(at pos, name string)
	key     func(at pos, key, value string)
	fail    func(at pos, text string)
	read    func(path string) ([]byte, error)
	open    []string // the files being read, the outermost first
}

// file reads the file at path. at is where it was asked for.
func (r *iniReader) file(at pos, path string) {
	switch {
	case slices.Contains(r.open, path):
		r.fail(at, "%include "+path+": the file includes itself")
		return
	case len(r.open) == maxIncludeDepth:
		r.fail(at, fmt.Sprintf("%%include %s: more than %d files deep", path, maxIncludeDepth))
		return
	}
	src, err := r.read(path)
	if err != nil {
		r.fail(at, reason(err))
		return
	}
	r.open = append(r.open, path)
	r.text(path, string(src))
	r.open = r.open[:len(r.open)-1]
}

// text reads src as the content of the file of that name.
func (r *iniReader) text(file, src string) {
	at := pos{file: file}
	for line := range strings.SplitSeq(src, "\n") {
		at.line++
		if strings.IndexByte(line, 0) >= 0 {
			r.fail(at, "syntax error: a zero byte; the file must be plain text")
			continue
		}
		r.line(at, line)
	}
}

func (r *iniReader) line(at pos, s string) {
	for {
		s = strings.TrimLeft(s, isspace)
		switch {
		case s == "" || s[0] == '#' || s[0] == ';':
			return
		case s[0] == '%':
			r.directive(at, s)
			return
		case s[0] != '[':
			r.assignment(at, s)
			return
		}
		name, rest, ok := strings.Cut(s[1:], "]")
		if !ok {
			r.fail(at, "syntax error: the section name has no closing ]")
			return
		}
		r.section(at, name)
		s = rest
	}
}

func (r *iniReader) directive(at pos, s string) {
	path, ok := strings.CutPrefix(s, "%include")
	if !ok || path == "" || !strings.ContainsRune(isblank, rune(path[0])) {
		r.fail(at, "syntax error: a line that begins with % must be %include FILE")
		return
	}
	if path = strings.Trim(path, isspace); path == "" {
		r.fail(at, "syntax error: %include names no file")
		return
	}
	r.file(at, path)
}

func (r *iniReader) assignment(at pos, s string) {
	var key, rest string
	if s[0] == '\'' {
		var ok bool
		if key, rest, ok = strings.Cut(s[1:], "'"); !ok || key == "" {
			r.fail(at, "syntax error: a quoted name must be '…', not empty, on one line")
			return
		}
	} else {
		n := 0
		for n < len(s) && isKeyByte(s[n]) {
			n++
		}
		if key, rest = s[:n], s[n:]; n == 0 {
			text := fmt.Sprintf("syntax error: a name can't begin with %q", s[:1])
			switch {
			case s[0] == '"':
				text += "; names are quoted with single quotes"
			case strings.HasPrefix(s, "\ufeff"):
				text += "; it is a byte order mark, save the file without one"
			}
			r.fail(at, text)
			return
		}
	}
	value, ok := strings.CutPrefix(strings.TrimLeft(rest, isblank), "=")
	if !ok {
		r.fail(at, fmt.Sprintf("syntax error: %s is not followed by =", key))
		return
	}
	r.key(at, key, strings.TrimRight(strings.TrimLeft(value, isblank), isspace))
}

func isKeyByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '_' || c == '.' || c == '*' || c == '-'
}

// splitList splits a comma list as PgBouncer does for its lists of names:
// at commas and blanks, dropping empty items.
func splitList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || strings.ContainsRune(isspace, r) })
}
