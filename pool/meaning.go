package pool

import (
	"bytes"
	"slices"
	"unicode/utf8"

	"github.com/pgweir/pgweir/pool/sql"
)

// meaning is all that the meaning of a text hangs on in c's session: where it
// runs, in which schemas its names are looked up, and, as far as it matters to
// the text, how its strings and literals are read. It is a prefix that no other
// meaning has.
func (c *Client) meaning(text []byte) string {
	q, t := c.shard.pool, c.w.p.tracked
	values := c.vars.List(t)
	b := make([]byte, 0, 128)
	add := func(value string) { b = append(append(b, value...), 0) }
	addIf := func(matters bool, name string) {
		if i, ok := t.Lookup(name); ok && matters {
			b = append(b, values[i].Text...)
		}
		b = append(b, 0)
	}
	add(q.db.Name)
	add(q.user.Name)
	addIf(true, "search_path")
	addIf(bytes.IndexByte(text, '\\') >= 0, "standard_conforming_strings")
	addIf(!isASCII(text), "client_encoding")
	literals := sql.MayHaveLiterals(text)
	for _, name := range literalParameters {
		addIf(literals, name)
	}
	for _, e := range c.extras.List() {
		if slices.Contains(extrasOfMeaning[:], e.Name) {
			add(e.Name)
			add(e.Value)
		}
	}
	return string(b)
}

// literalParameters are those by which Postgres reads '01/02/2003'::date when it
// parses a statement, and never again.
var literalParameters = [...]string{"DateStyle", "IntervalStyle", "TimeZone"}

// extrasOfMeaning are the same among those that servers don't report, with what
// else decides how a text is understood.
var extrasOfMeaning = [...]string{
	"array_nulls", "lc_monetary", "role", "search_path", "timezone_abbreviations", "transform_null_equals", "xmloption",
}

// unsettled reports whether it is not known how v will read text, if that is sent
// now: parameters may be changed by what v has not answered yet, or, if behind is
// set, by statements before it in the same Query.
func (v *Server) unsettled(text []byte, behind bool) bool {
	if isASCII(text) && !sql.MayHaveLiterals(text) {
		return false
	}
	l := &v.ledger
	if behind || l.n > maxLook {
		return true
	}
	for i := range l.n {
		switch l.get(i) & (owedKind | owedSwallow) {
		case owedQuery, owedFunction, owedExecute:
			return true
		}
	}
	return false
}

// maxLook bounds the search of a ledger for each Parse: beyond it the worst is
// taken for granted.
const maxLook = 64

func isASCII(text []byte) bool {
	for _, ch := range text {
		if ch >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// parameter is the value of a tracked parameter that c is known to have, empty
// if the server does not report it.
func (c *Client) parameter(name string) string {
	t := c.w.p.tracked
	if i, ok := t.Lookup(name); ok {
		return c.vars.Get(t, i).Text
	}
	return ""
}

// conforming reports whether a backslash in '...' is an ordinary character.
func (c *Client) conforming() bool { return c.parameter("standard_conforming_strings") != "off" }
