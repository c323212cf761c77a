package admin

import (
	"strings"

	"github.com/pgweir/pgweir/configs"
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
		if best, ok := configs.Closest(strings.ToUpper(tokens[1].text), names); ok {
			return "Perhaps you meant SHOW " + best + "."
		}
		return ""
	}
	names := []string{"SHOW", "SET"}
	for i := range commands {
		names = append(names, commands[i].name)
	}
	best, ok := configs.Closest(word, names)
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
