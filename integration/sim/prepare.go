package sim

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pgweir/pgweir/wire"
)

// parsePrepare reads PREPARE, EXECUTE and DEALLOCATE.
func parsePrepare(s *stmt, text string) (ok bool) {
	name, rest := identifier(strings.TrimSpace(text[len(s.verb):]))
	s.name = name
	switch s.verb {
	case "execute":
		return name != "" && rest == ""
	case "deallocate":
		s.all = strings.EqualFold(strings.TrimSpace(text[len(s.verb):]), "all")
		return name != "" && rest == ""
	}
	as, rest, _ := strings.Cut(rest, " ")
	if name == "" || !strings.EqualFold(as, "as") {
		return false
	}
	if rest == "SELECT" {
		return true // a row of nothing
	}
	inner, ok := parseOne(rest)
	s.inner = &inner
	return ok
}

// identifier cuts a name off the begin of s, "" if there is none.
func identifier(s string) (name, rest string) {
	if quoted, ok := strings.CutPrefix(s, `"`); ok {
		name, rest, _ = strings.Cut(quoted, `"`)
	} else {
		name, rest, _ = strings.Cut(s, " ")
	}
	return name, strings.TrimSpace(rest)
}

// target is what s comes to: for an EXECUTE what was prepared, if it was.
func (b *backend) target(s *stmt) *stmt {
	if s != nil && s.verb == "execute" {
		if p := b.prepared[s.name]; p != nil && p.s != nil {
			return p.s
		}
	}
	return s
}

// prepare executes PREPARE, EXECUTE of what there is not, and DEALLOCATE.
func (b *backend) prepare(s *stmt) *pgError {
	p := b.prepared[s.name]
	switch {
	case s.all:
		clear(b.prepared)
		b.complete("DEALLOCATE ALL")
	case s.verb == "prepare" && p != nil:
		return &pgError{"42P05", `prepared statement "` + s.name + `" already exists`}
	case s.verb == "prepare":
		b.prepared[s.name] = b.prepares(s.inner)
		b.complete("PREPARE")
	case p == nil:
		return &pgError{"26000", `prepared statement "` + s.name + `" does not exist`}
	default:
		delete(b.prepared, s.name)
		b.complete("DEALLOCATE")
	}
	return nil
}

// names are a client's prepared statements as a batch goes on.
type names map[string]*stmt

// kept are the statements that c has, and has not asked to close. It has them
// until the Close is answered: behind an error it is ignored.
func (c *client) kept() []namedStmt {
	return slices.DeleteFunc(slices.Clone(c.named), func(n namedStmt) bool {
		return slices.ContainsFunc(c.queue, func(e *expect) bool { return e.kind == wire.Close && e.name == n.name })
	})
}

func (c *client) names() names {
	n := names{}
	for _, own := range c.kept() {
		n[own.name] = own.s
	}
	return n
}

// sqlStatement makes a PREPARE, EXECUTE or DEALLOCATE, tells what its reply will
// be about, and the error that it must get.
func (c *client) sqlStatement(has names) (text string, about *stmt, code string) {
	w := c.w
	known := slices.Sorted(maps.Keys(has))
	name := "q" + strconv.Itoa(1+w.rng.IntN(3)) // every client has names like these
	if len(known) > 0 && w.chance(2) {
		name = pick(w, known...)
	}
	s, there := has[name]
	switch w.rng.IntN(8) {
	case 0, 1:
		inner := fmt.Sprintf("select %v %d", c.tag(), w.rng.IntN(5))
		switch w.rng.IntN(6) {
		case 0:
			inner = fmt.Sprintf("select 0/%d", 1+w.rng.IntN(6)) // what others have, too
		case 1:
			inner = fmt.Sprintf("slow %v %d", c.tag(), 1+w.rng.IntN(20))
		case 2:
			inner = fmt.Sprintf("fail %v", c.tag())
		case 3:
			inner = fmt.Sprintf("shaped %v", c.tag())
		}
		text = "prepare " + name + " as " + inner
		if there {
			return text, one(text), "42P05"
		}
		has[name] = one(inner)
		return text, one(text), ""
	case 2:
		text = "deallocate " + name
		if !there {
			return text, one(text), "26000"
		}
		delete(has, name)
		return text, one(text), ""
	case 3:
		if w.chance(4) {
			clear(has)
			return "deallocate all", one("deallocate all"), ""
		}
	}
	text = "execute " + name
	switch {
	case !there:
		return text, one(text), "26000"
	case s == nil:
		return "select " + c.tag().String(), nil, "" // the empty query is nothing to EXECUTE
	}
	return text, s, ""
}

// sqlPrepared works with statements of SQL, and by SQL with those of the
// protocol.
func (c *client) sqlPrepared() {
	w := c.w
	has := c.names()
	switch w.rng.IntN(5) {
	case 0: // a name comes, goes, and comes back as another
		name := "q" + strconv.Itoa(1+w.rng.IntN(3))
		for range 1 + w.rng.IntN(2) {
			c.wait(func() { c.sqlStep("deallocate", name) })
			c.wait(func() { c.sqlStep("execute", name) })
			c.wait(func() { c.sqlStep("prepare", name) })
			c.wait(func() { c.sqlStep("execute", name) })
		}
		return
	case 4: // in the extended protocol
		for range 1 + w.rng.IntN(3) {
			text, about, code := c.sqlStatement(has)
			if about == nil {
				about = one(text)
			}
			c.sqlUnit(text, about, code)
			if code != "" || about.verb == "fail" { // the rest of the batch is ignored
				for rest := maps.Clone(has); w.chance(2); {
					text, about, code := c.sqlStatement(rest)
					if about == nil {
						about = one(text)
					}
					c.sqlUnit(text, about, code)
				}
				break
			}
		}
		c.sync()
		return
	case 1: // one after the other, and nothing is waited for
		for range 1 + w.rng.IntN(3) {
			text, about, code := c.sqlStatement(has)
			if code == "" && about != nil && about.verb == "fail" && c.status != wire.TxIdle {
				break
			}
			c.sqlQuery([]string{text}, []*stmt{about}, code)
			if code != "" && c.status != wire.TxIdle {
				break // the transaction has failed
			}
		}
		return
	}
	var texts []string
	var about []*stmt
	code := ""
	for range 1 + w.rng.IntN(4) {
		var text string
		var s *stmt
		if w.chance(4) {
			text = fmt.Sprintf("select %v", c.tag())
		} else {
			text, s, code = c.sqlStatement(has)
		}
		texts, about = append(texts, text), append(about, s)
		if code != "" || s != nil && s.verb == "fail" {
			break
		}
	}
	c.sqlQuery(texts, about, code)
}

// sqlStep sends one PREPARE, EXECUTE or DEALLOCATE of name, as a Query or in the
// extended protocol.
func (c *client) sqlStep(verb, name string) {
	if c.status == wire.TxFailed {
		return
	}
	text := verb + " " + name
	if verb == "prepare" {
		text += " as select " + c.tag().String()
	}
	about, code := one(text), ""
	s, there := c.names()[name]
	switch {
	case there == (verb == "prepare"):
		code = "26000"
		if there {
			code = "42P05"
		}
	case verb == "execute" && s == nil:
		return // the empty query is nothing to EXECUTE
	case verb == "execute":
		about = s
	}
	if c.w.chance(2) {
		c.sqlQuery([]string{text}, []*stmt{about}, code)
		return
	}
	c.sqlUnit(text, about, code)
	c.sync()
}

// executing begins the names of the statements that execute the one called by the
// rest of the name.
const executing = "executes "

// stale uses a statement whose table was altered since it was prepared, or
// another that executes it, in several batches at once.
func (c *client) stale() {
	w := c.w
	c.tag()
	name := "s" + strconv.Itoa(c.n)
	s := c.parse(name, "shaped 0/7")
	use := func() string { return name }
	if w.chance(2) {
		c.send(message(wire.Parse, executing+name, "execute "+name, uint16(0)), &expect{kind: wire.Parse, about: s, name: executing + name})
		use = func() string { return pick(w, name, executing+name) }
	}
	if w.chance(2) {
		c.describe('S', use(), s)
	}
	c.sync()
	c.wait(func() {
		if c.status == wire.TxIdle {
			c.query("alter " + c.tag().String())
		}
	})
	c.wait(func() {
		for range 1 + w.rng.IntN(3) {
			name := use()
			if w.chance(3) {
				c.describe('S', name, s)
			}
			c.bind("", name, s, "26000")
			if !w.chance(3) {
				c.describe('P', "", s)
			}
			c.execute("", s, 0, 0)
			c.sync()
		}
	})
}

// sqlQuery sends a Query whose statements are answered as about says, where
// that is not nil.
func (c *client) sqlQuery(texts []string, about []*stmt, code string) {
	text := strings.Join(texts, "; ")
	list, ok := parse(text)
	if !ok {
		c.wrong("BUG in sim: %s", text)
	}
	for i, s := range about {
		if s != nil {
			list[i] = *s
		}
	}
	c.send(wire.AppendQuery(nil, text), &expect{kind: wire.Query, list: list, code: code})
}

// sqlUnit is Parse, Bind, perhaps Describe, and Execute of a statement that is
// answered as about says.
func (c *client) sqlUnit(text string, about *stmt, code string) {
	c.send(message(wire.Parse, "", text, uint16(0)), &expect{kind: wire.Parse, about: about})
	if c.w.chance(3) {
		c.describe('S', "", about)
	}
	c.bind("", "", about, "")
	c.send(message(wire.Execute, "", uint32(0)), &expect{kind: wire.Execute, about: about, code: code})
}
