package admin

import (
	"strings"
)

// catalogHint is for psql's backslash commands, and for drivers that look for
// types before anything else.
const catalogHint = "The console has no tables, pg_catalog included; SHOW HELP lists what there is. " +
	"A driver that looks up types can be told not to: Server Compatibility Mode=NoTypeLoading (Npgsql), " +
	"fetch_types: false (postgres.js), use_native_hstore=False (SQLAlchemy)."

// nearest returns a hint that names the command most like the one typed, or ""
// if none is near.
func nearest(tokens []token) string {
	for _, t := range tokens {
		name := strings.ToLower(t.text)
		if t.kind == bareWord && (name == "pg_type" || strings.HasPrefix(name, "pg_catalog.")) {
			return catalogHint
		}
	}
	word := strings.ToUpper(tokens[0].text)
	if (word == "SHOW" || word == "SELECT") && len(tokens) > 1 {
		var names []string
		for i := range shows {
			names = append(names, shows[i].name)
		}
		if best, ok := closest(strings.ToUpper(tokens[1].text), names); ok {
			return "Perhaps you meant SHOW " + best + "."
		}
		return ""
	}
	names := []string{"SHOW", "SET"}
	for i := range commands {
		names = append(names, commands[i].name)
	}
	best, ok := closest(word, names)
	switch {
	case !ok:
		return ""
	case best == word && len(tokens) > 1:
		return "The form is " + form(best) + "."
	}
	return "Perhaps you meant " + form(best) + "."
}

// form returns how a command is written.
func form(name string) string {
	for i := range commands {
		if commands[i].name == name {
			return strings.TrimSpace(name + " " + commands[i].argument)
		}
	}
	if name == "SET" {
		return "SET key = value"
	}
	return "SHOW HELP"
}

// closest returns the name that takes the fewest edits to reach from word, if
// they are at most a third of its length.
func closest(word string, names []string) (best string, ok bool) {
	if len(word) > maxName {
		return "", false
	}
	limit := 1 + len(word)/3
	for _, name := range names {
		if d := edits(word, name); d < limit {
			best, limit, ok = name, d, true
		}
	}
	return best, ok
}

// edits counts the bytes to insert, delete, replace or swap with their
// neighbour to turn a into b.
func edits(a, b string) int {
	var before []int // the row for i-2
	last := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			replace := last[j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			row[j] = min(row[j-1]+1, last[j]+1, replace)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
