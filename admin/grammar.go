package admin

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// plan is a statement that was understood: what it will return, and how to run
// it. A plan holds no state and may be run any number of times.
type plan struct {
	columns []column // nil if it returns no rows
	run     func(s *session, done <-chan struct{}) (result, error)
}

// result is what a plan answers with.
type result struct {
	tag    string
	rows   []row
	notice string // text of a NOTICE sent first, if not empty
	detail string // its DETAIL
	silent bool   // no answer at all: the process is about to end
}

// The sizes of PgBouncer's buffers. What is longer is no name of anything.
const (
	maxCommand = 15
	maxName    = 63
	maxValue   = 255
)

// parse understands one statement. The grammar is PgBouncer's, one of
//
//	WORD [WORD]
//	SET WORD {= | TO} {WORD | 'string'}
//
// where a WORD is bare or in double quotes, plus the few forms that drivers
// send unasked (chatter.go).
func parse(st statement) (plan, error) {
	if st.broken {
		return plan{}, invalid(st.text, "A quote or a comment is not closed.")
	}
	for _, t := range st.tokens {
		if t.kind == bareWord && isParameter(t.text) {
			return plan{}, &failure{
				code:    codeProtocol,
				message: "the console takes no parameters: write the value in place of " + t.text,
			}
		}
	}
	first := st.tokens[0]
	if first.kind == bareWord && strings.EqualFold(first.text, "set") {
		if p, ok, err := parseSet(st); ok || err != nil {
			return p, err
		}
	} else if isWord(first) && (len(st.tokens) == 1 || len(st.tokens) == 2 && isWord(st.tokens[1])) {
		name, arg := first.text, ""
		if len(st.tokens) == 2 {
			// Left out means all databases. Empty is a slip, of a script say,
			// and PgBouncer takes it to mean all, too.
			if arg = st.tokens[1].text; arg == "" {
				return plan{}, badArguments("An argument is not empty. Leave it out to mean all.")
			}
		}
		if p, ok, err := lookUp(name, arg); ok || err != nil {
			return p, err
		}
	}
	if p, ok := parseChatter(st.tokens); ok {
		return p, nil
	}
	return plan{}, invalid(st.text, nearest(st.tokens))
}

// lookUp finds a command or a SHOW by name. ok is false if there is none that
// goes by that name and takes that argument.
func lookUp(name, arg string) (p plan, ok bool, err error) {
	if len(name) > maxCommand || len(arg) > maxName {
		return plan{}, false, badArguments(
			"A command has at most %d bytes, its argument at most %d.", maxCommand, maxName)
	}
	name = strings.ToLower(name)
	if name == "show" || name == "select" {
		p, ok = planShow(strings.ToLower(arg))
		return p, ok, nil
	}
	p, ok = planCommand(name, arg)
	return p, ok, nil
}

// parseSet understands SET. ok is false if the statement has another form than
// the grammar's.
func parseSet(st statement) (p plan, ok bool, err error) {
	t := st.tokens[1:]
	if len(t) > 3 && isScope(t[0]) {
		t = t[1:] // SET SESSION key = value, as drivers write it
	}
	if len(t) < 3 || !isWord(t[0]) || !isEquals(t[1]) {
		return plan{}, false, nil
	}
	key := t[0].text
	value, ok := setValue(t[2:])
	if !ok {
		return plan{}, false, nil
	}
	if len(key) > maxName || len(value) > maxValue {
		return plan{}, false, badArguments(
			"A key has at most %d bytes, a value at most %d.", maxName, maxValue)
	}
	return planSet(key, value), true, nil
}

// setValue joins a value or a list of them (SET search_path TO a, b).
func setValue(tokens []token) (value string, ok bool) {
	var items []string
	for i, t := range tokens {
		if i%2 == 0 {
			if t.kind == sign {
				return "", false
			}
			items = append(items, t.text)
		} else if t.kind != sign || t.text != "," {
			return "", false
		}
	}
	return strings.Join(items, ", "), len(tokens)%2 == 1
}

func isWord(t token) bool { return t.kind == bareWord || t.kind == quotedWord }

func isEquals(t token) bool {
	return t.kind == sign && t.text == "=" || t.kind == bareWord && strings.EqualFold(t.text, "to")
}

func isScope(t token) bool {
	return t.kind == bareWord && (strings.EqualFold(t.text, "session") || strings.EqualFold(t.text, "local"))
}

// isParameter reports whether s is $1, $2, ...
func isParameter(s string) bool { return len(s) > 1 && s[0] == '$' && '0' <= s[1] && s[1] <= '9' }

// The SQLSTATEs that the console uses. PgBouncer has one for nearly all.
const (
	codeProtocol    = "08P01" // protocol_violation
	codeConfig      = "F0000" // config_file_error
	codeLimit       = "53400" // configuration_limit_exceeded
	codeNoStatement = "26000" // invalid_sql_statement_name
	codeDupStmt     = "42P05" // duplicate_prepared_statement
	codeNoCursor    = "34000" // invalid_cursor_name
	codeDupCursor   = "42P03" // duplicate_cursor
	codeTooBig      = "54000" // program_limit_exceeded
	codeState       = "55000" // object_not_in_prerequisite_state
)

// failure is an ERROR as the client sees it.
type failure struct {
	code, message, detail, hint string
}

func (f *failure) Error() string { return f.message }

// maxErrorText bounds the text of an error, which may quote a whole query.
const maxErrorText = 1023

func invalid(text, hint string) error {
	const form = "invalid command '%s', use SHOW HELP;"
	return &failure{
		code:    codeProtocol,
		message: fmt.Sprintf(form, cut(text, maxErrorText-len(form)+len("%s"))),
		hint:    hint,
	}
}

func badArguments(hint string, args ...any) error {
	return &failure{code: codeProtocol, message: "bad arguments", hint: fmt.Sprintf(hint, args...)}
}

// cut returns s, or as many whole characters of it as fit into n bytes.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
