package sim

import (
	"strings"
)

// guc is one parameter of a session.
type guc struct {
	name     string // as Postgres spells it
	value    string
	explicit bool // by SET or at login: a changed default does not show
}

// reported are the parameters that Postgres reports and sessions may set, with
// their defaults.
var reported = []guc{
	{name: "application_name"},
	{name: "client_encoding", value: "UTF8"},
	{name: "DateStyle", value: "ISO, MDY"},
	{name: "default_transaction_read_only", value: "off"},
	{name: "IntervalStyle", value: "postgres"},
	{name: "search_path", value: `"$user", public`}, // since Postgres 18
	{name: "standard_conforming_strings", value: "on"},
	{name: "TimeZone", value: "UTC"},
}

// plain are parameters that nobody reports.
var plain = []guc{{name: "work_mem", value: "4MB"}}

// gucs are all parameters of a session: reported, then plain ones.
type gucs []guc

// find returns the place of name, in any case.
func (g gucs) find(name string) int {
	for i := range g {
		if strings.EqualFold(g[i].name, name) {
			return i
		}
	}
	return -1
}

// canonical is what Postgres makes of a value; ok is false if it can't be one.
func canonical(name, value string) (v string, ok bool) {
	lower := strings.ToLower(value)
	switch name {
	case "client_encoding":
		switch lower {
		case "utf8", "latin1", "sql_ascii":
			return strings.ToUpper(value), true
		}
		return "", false
	case "DateStyle":
		switch lower {
		case "iso", "iso, mdy":
			return "ISO, MDY", true
		case "german", "german, dmy":
			return "German, DMY", true
		case "iso, dmy":
			return "ISO, DMY", true
		}
		return "", false
	case "default_transaction_read_only", "standard_conforming_strings":
		switch lower {
		case "on", "true", "1":
			return "on", true
		case "off", "false", "0":
			return "off", true
		}
		return "", false
	case "IntervalStyle":
		return lower, lower == "postgres" || lower == "iso_8601"
	case "search_path":
		for name := range strings.SplitSeq(value, ",") {
			if len(strings.Fields(name)) > 1 {
				return "", false
			}
		}
	case "TimeZone":
		return value, value != "" && lower != "nowhere"
	}
	return value, true
}

// same reports whether two values of a parameter mean the same.
func same(name, a, b string) bool {
	if name == "search_path" {
		a, b = strings.ReplaceAll(a, `"`, ""), strings.ReplaceAll(b, `"`, "")
	}
	if strings.EqualFold(a, b) {
		return true
	}
	x, ok := canonical(name, a)
	y, ok2 := canonical(name, b)
	return ok && ok2 && strings.EqualFold(x, y)
}

// reload takes over what has changed in the server's configuration.
func (b *backend) reload() {
	for i, g := range b.pg.defaults {
		for _, own := range []gucs{b.gucs, b.start} {
			if !own[i].explicit {
				own[i].value = g.value
			}
		}
	}
}

// setParam sets a parameter, or sets it back.
func (b *backend) setParam(s *stmt) *pgError {
	i := b.gucs.find(s.name)
	if i < 0 {
		return &pgError{"42704", "unrecognized configuration parameter " + s.name}
	}
	if s.verb == "reset" {
		b.gucs[i] = b.start[i]
	} else {
		v, ok := canonical(b.gucs[i].name, s.value)
		if !ok {
			return &pgError{"22023", "invalid value for parameter " + s.name}
		}
		b.gucs[i].value, b.gucs[i].explicit = v, true
	}
	if b.pg.atOnce {
		b.report()
	}
	return nil
}
