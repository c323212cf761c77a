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

// readsNow notes that v is told st by its client now. How v reads that may hang on
// what it has not answered yet, a SET perhaps: see settleReading.
func (v *Server) readsNow(st *statement) {
	if !st.private && st.readsLiterals() {
		v.parsing = append(v.parsing, st)
	}
}

// readsLiterals reports whether st may have literals whose meaning hangs on
// parameters.
func (st *statement) readsLiterals() bool {
	return !isASCII(st.rest()) || sql.MayHaveLiterals(st.rest())
}

// settleReading looks, with each ReadyForQuery, whether the client's parameters are
// still those under which v was told its statements. If not v may have read them
// otherwise than those who share them mean, and nobody else is given it.
func (v *Server) settleReading() {
	for _, st := range v.parsing {
		if v.client.meaning(st.rest()) != st.meaning() {
			v.log(Debug, "has read a prepared statement while its parameters changed, and is closed when it is free")
			v.retired = true
			break
		}
	}
	if v.ledger.n == 0 || v.retired {
		v.parsing = v.parsing[:0]
	}
}

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
