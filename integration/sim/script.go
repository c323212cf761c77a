package sim

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgweir/pgweir/wire"
)

// The functions of this file make what clients send. A batch is begun when
// everything before it was answered.

// wait adds a part that waits until everything was answered.
func (c *client) wait(run func()) { c.parts = append(c.parts, part{true, run}) }

// query sends a Query.
func (c *client) query(texts ...string) {
	text := strings.Join(texts, "; ")
	list, ok := parse(text)
	e := &expect{kind: wire.Query, list: list}
	if !ok {
		e.code = "42601"
	}
	c.noteSets(list)
	c.send(wire.AppendQuery(nil, text), e)
}

// noteSets remembers that parameters are about to change.
func (c *client) noteSets(list []stmt) {
	for i := range list {
		if list[i].verb == "set" || list[i].verb == "reset" {
			c.sure = false
		}
	}
}

// message builds a message of strings and bytes.
func message(typ byte, fields ...any) []byte {
	out, at := wire.Begin(nil, typ)
	for _, f := range fields {
		switch f := f.(type) {
		case string:
			out = wire.AppendString(out, f)
		case byte:
			out = append(out, f)
		case uint16:
			out = binary.BigEndian.AppendUint16(out, f)
		case uint32:
			out = binary.BigEndian.AppendUint32(out, f)
		case []byte:
			out = append(out, f...)
		}
	}
	return wire.End(out, at)
}

func one(text string) *stmt {
	list, ok := parse(text)
	if !ok || len(list) == 0 {
		return nil
	}
	return &list[0]
}

func (c *client) parse(name, text string) *stmt {
	s := one(text)
	e := &expect{kind: wire.Parse, about: s, name: name}
	if slices.ContainsFunc(c.named, func(n namedStmt) bool { return n.name == name }) {
		e.code = "42P05"
	}
	if s == nil && text != "" {
		e.code = "42601"
	}
	if s != nil {
		c.noteSets([]stmt{*s})
	}
	c.send(message(wire.Parse, name, text, uint16(0)), e)
	return s
}

func (c *client) bind(portal, name string, s *stmt, code string) {
	c.bound = name
	c.send(message(wire.Bind, portal, name, uint16(0), uint16(0), uint16(0)), &expect{kind: wire.Bind, about: s, code: code})
}

func (c *client) describe(what byte, name string, s *stmt) {
	e := &expect{kind: wire.Describe, about: s, whole: what == 'S', name: name}
	if !e.whole {
		e.name = c.bound
	}
	c.send(message(wire.Describe, what, name), e)
}

func (c *client) execute(portal string, s *stmt, limit, from int) {
	e := &expect{kind: wire.Execute, about: s, limit: limit, from: from, name: c.bound}
	c.send(message(wire.Execute, portal, uint32(limit)), e)
}

func (c *client) closeNamed(what byte, name string) {
	e := &expect{kind: wire.Close}
	if what == 'S' {
		e.name = name
	}
	c.send(message(wire.Close, what, name), e)
}

func (c *client) sync()  { c.send([]byte{wire.Sync, 0, 0, 0, 4}, &expect{kind: wire.Sync}) }
func (c *client) flush() { c.send([]byte{wire.Flush, 0, 0, 0, 4}, nil) }

// unit is Parse, Bind, perhaps Describe, and Execute of one statement.
func (c *client) unit(text string) {
	s := c.parse("", text)
	what := c.w.rng.IntN(3)
	if what == 0 && s != nil {
		c.describe('S', "", s)
	}
	c.bind("", "", s, "")
	if what == 1 {
		c.describe('P', "", s)
	}
	c.execute("", s, 0, 0)
}

// longestText bounds the text of a query.
const longestText = 90_000

// sel makes a query that returns rows: a few, now and then many, seldom big.
func (c *client) sel() string {
	w := c.w
	t := c.tag()
	switch w.rng.IntN(16) {
	case 0:
		return fmt.Sprintf("select %v %d %d", t, w.rng.IntN(30), w.rng.IntN(300))
	case 1:
		return fmt.Sprintf("select %v 3 %d", t, w.rng.IntN(40_000))
	case 2:
		return fmt.Sprintf("select %v -- %s", t, strings.Repeat("y", w.rng.IntN(longestText)))
	case 3, 4, 5:
		long := 1 + w.rng.IntN(50)
		if c.perhapsCancel(100 * time.Millisecond) {
			long *= 3 // a request for a young query is held back
		}
		return fmt.Sprintf("slow %v %d", t, long)
	case 6:
		return fmt.Sprintf("notice %v", t)
	case 7:
		return fmt.Sprintf("fail %v", t)
	case 8:
		if !w.calm && w.chance(3) {
			c.perhapsCancel(0)
			return fmt.Sprintf("hang %v", t)
		}
	case 9:
		if w.set.faults > 0 && w.chance(5) {
			return fmt.Sprintf("%s %v", pick(w, "die", "crash"), t)
		}
	}
	return fmt.Sprintf("select %v", t)
}

// perhapsCancel lets a cancel request for the client be sent within d, or some
// time if d is 0. It reports whether it does.
func (c *client) perhapsCancel(d time.Duration) bool {
	w := c.w
	if w.calm || c.key == nil || d > 0 && !w.chance(4) {
		return false
	}
	if d == 0 {
		d = 500 * time.Millisecond
	}
	w.after(w.between(0, d), func() {
		if c.stage != stageReady {
			return
		}
		for range pick(w, 1, 1, 1, 2, 7) { // more than are sent at once
			c.cancels++
			w.requestCancel(c.key, c.k.name, func() {
				w.pg.mustStop(c)
				w.pg.mustDequeue(c)
			})
		}
	})
	return true
}

// setting makes a statement that changes a tracked parameter.
func (c *client) setting() string {
	w := c.w
	return pick(w,
		"set DateStyle='ISO'", "set datestyle='German'", "set TimeZone='Europe/Paris'", "set TimeZone='it''s here'",
		"set application_name='me "+strconv.Itoa(c.id)+"'", "reset TimeZone", "set standard_conforming_strings=off",
		"set TimeZone='nowhere'", "set client_encoding='LATIN1'",
	)
}

// script begins the next batch.
func (c *client) script() {
	w := c.w
	if c.batches--; c.batches < 0 {
		c.leave()
		return
	}
	if c.status != wire.TxIdle { // an error within a transaction, or a long one
		end := "rollback"
		if c.status == wire.TxOpen {
			end = pick(w, "commit", "rollback", "select")
		}
		c.query(end + " " + c.tag().String())
		return
	}
	if w.chance(60) && !w.set.mixed {
		c.abuse()
		return
	}
	blocks := !w.set.statement() || w.chance(20)
	switch {
	case c.slow && w.chance(2):
		c.hasty(3 + w.rng.IntN(5))
		return
	case w.set.session() && w.chance(4):
		c.session()
		return
	case w.set.named() && w.chance(4):
		switch {
		case w.mayLeak():
			c.prepare()
		default:
			pick(w, c.prepare, c.sqlPrepared, c.sqlPrepared, c.stale, c.apart)()
		}
		return
	}
	switch w.rng.IntN(15) {
	case 0, 1:
		c.query(c.sel())
	case 2:
		c.query(c.sel(), c.sel(), c.sel())
	case 3:
		c.query(pick(w, "", ";", c.setting(), "nonsense", "alter "+c.tag().String()))
	case 4:
		c.unit(c.sel())
		c.sync()
	case 5:
		c.pipeline()
	case 6:
		c.flushing()
	case 7:
		c.copyIn()
	case 8:
		c.copyOut()
	case 9:
		c.function()
	case 10:
		c.suspended()
	case 12:
		c.hasty(2 + w.rng.IntN(5))
	case 11:
		c.query(c.setting())
	default:
		if blocks {
			c.transaction()
		} else {
			c.query(c.sel())
		}
	}
}

// leave ends the session.
func (c *client) leave() {
	c.goodbye = true
	c.k.send([]byte{wire.Terminate, 0, 0, 0, 4})
	if c.w.chance(2) {
		c.stage = stageOver
		c.k.hangUp()
	}
}

// pipeline sends several units at once, with Syncs here and there.
func (c *client) pipeline() {
	w := c.w
	for range 2 + w.rng.IntN(5) {
		switch w.rng.IntN(8) {
		case 0:
			c.query(c.sel())
			continue
		case 1:
			c.flush()
		case 2:
			c.parse("", "nonsense")
		case 3:
			c.bind("", "nobody", nil, "26000")
		case 4:
			c.closeNamed('S', "nobody")
		default:
			c.unit(c.sel())
		}
		if w.chance(2) {
			c.sync()
		}
	}
	c.sync()
	if w.chance(4) {
		c.sync()
	}
}

// hasty sends n queries, one after the other, and waits for nothing.
func (c *client) hasty(n int) {
	c.think = true
	var next func()
	next = func() {
		if c.stage != stageReady {
			return
		}
		if n--; n == 0 {
			c.think = false
			c.pump()
			return
		}
		c.query(c.sel())
		c.w.after(c.w.between(0, 10*time.Millisecond), next)
	}
	next()
}

// flushing waits for replies within a batch, by Flush.
func (c *client) flushing() {
	c.unit(c.sel())
	c.flush()
	c.wait(func() {
		if c.skip {
			c.sync()
			return
		}
		c.unit(c.sel())
		c.flush()
		c.wait(c.sync)
	})
}

// suspended fetches a portal in pieces.
func (c *client) suspended() {
	w := c.w
	rows, limit := w.rng.IntN(8), 1+w.rng.IntN(4)
	portal := pick(w, "", "p"+strconv.Itoa(c.n))
	s := c.parse("", fmt.Sprintf("select %v %d", c.tag(), rows))
	c.bind(portal, "", s, "")
	from := 0
	for from+limit <= rows {
		c.execute(portal, s, limit, from)
		from += limit
	}
	c.execute(portal, s, limit, from)
	if w.chance(2) {
		c.closeNamed('P', portal)
	}
	c.sync()
}

func (c *client) function() {
	t := c.tag().String()
	c.send(message(wire.FunctionCall, uint32(1), t), &expect{kind: wire.FunctionCall, arg: t})
}

// transaction opens a block, works in it for a while, and ends it.
func (c *client) transaction() {
	w := c.w
	first := "begin " + c.tag().String()
	switch w.rng.IntN(4) {
	case 0: // all in one
		c.query(first, c.sel(), "commit "+c.tag().String())
		return
	case 1: // in the extended protocol, all at once
		c.unit(first)
		for range w.rng.IntN(3) {
			c.unit(c.sel())
			if w.chance(2) {
				c.sync()
			}
		}
		c.unit("commit " + c.tag().String())
		c.sync()
		return
	case 2:
		c.unit(first)
		c.sync()
	default:
		c.query(first)
	}
	for range w.rng.IntN(4) {
		c.wait(func() {
			if c.status != wire.TxOpen {
				return
			}
			switch w.rng.IntN(8) {
			case 0:
				c.query("temp " + c.tag().String())
			case 1:
				c.query(c.setting())
			case 2:
				c.pipeline()
			case 3:
				c.query("notify " + c.tag().String() + " " + strconv.Itoa(1+w.rng.IntN(len(w.clients))))
			case 4:
				c.copyIn()
			case 5:
				switch {
				case !w.set.named():
				case w.chance(2) && !w.mayLeak():
					c.sqlPrepared()
				default:
					c.prepare()
				}
			default:
				c.query(c.sel())
			}
		})
	}
}

// apart parses the unnamed statement in one batch, once or twice, and binds it in
// the next, as lib/pq does. An error between them leaves it alone.
func (c *client) apart() {
	var s *stmt
	for range 1 + c.w.rng.IntN(2) {
		c.wait(func() {
			if s = c.parse("", fmt.Sprintf("select %v", c.tag())); c.w.chance(2) {
				c.describe('S', "", s)
			}
			c.sync()
		})
	}
	if c.w.chance(3) {
		c.wait(func() {
			c.bind("", "nobody", nil, "26000")
			c.sync()
		})
	}
	c.wait(func() {
		code := ""
		if c.w.chance(6) { // in this batch or in one of its own
			code = "26000"
			if c.closeNamed('S', ""); c.w.chance(2) {
				c.sync()
			}
		}
		c.bind("", "", s, code)
		c.execute("", s, 0, 0)
		c.sync()
	})
}

// session leaves something behind in the session.
func (c *client) session() {
	w := c.w
	t := c.tag().String()
	switch w.rng.IntN(6) {
	case 0:
		c.query("temp " + t)
	case 1:
		c.query("listen " + t)
	case 2:
		c.query("set work_mem=" + strconv.Itoa(1000+c.id))
	case 3:
		c.query("discard all")
		c.sure = false
	default:
		c.query("notify " + t)
	}
}

// prepare works with named statements: the client's own, and some that all
// clients prepare.
func (c *client) prepare() {
	w := c.w
	switch w.rng.IntN(8) {
	case 0, 1:
		text := c.sel()
		switch w.rng.IntN(4) {
		case 0, 1:
			text = fmt.Sprintf("select 0/%d", 1+w.rng.IntN(6))
		case 2:
			text = "shaped 0/7"
		}
		name := "s" + strconv.Itoa(c.n)
		if w.mayLeak() {
			name = "s" + c.tag().String() // others leave theirs
		}
		s := c.parse(name, text)
		if w.chance(2) {
			c.describe('S', name, s)
		}
		if w.chance(2) {
			c.bind("", name, s, "26000")
			c.execute("", s, 0, 0)
		}
	case 2:
		c.bind("", "nobody", nil, "26000")
	default:
		for range 1 + w.rng.IntN(3) {
			kept := c.kept()
			if len(kept) == 0 {
				break
			}
			p := pick(w, kept...)
			switch w.rng.IntN(8) {
			case 0:
				c.parse(p.name, c.sel())
			case 1:
				c.closeNamed('S', p.name)
			case 2:
				c.describe('S', p.name, p.s)
			default:
				c.bind("", p.name, p.s, "26000")
				if w.chance(2) {
					c.describe('P', "", p.s)
				}
				c.execute("", p.s, 0, 0)
			}
		}
	}
	if w.chance(4) {
		c.unit(c.sel())
	}
	c.sync()
}

func (c *client) copyOut() {
	text := fmt.Sprintf("copyout %v %d", c.tag(), c.w.rng.IntN(20))
	if c.w.chance(2) {
		c.query(text)
	} else {
		c.unit(text)
		c.sync()
	}
}

// copyIn takes in a COPY, in one of the ways that drivers do it: the data sent
// when the server asks for it, or blindly; with the simple protocol or the
// extended one, with a Sync before the data or without.
func (c *client) copyIn() {
	w := c.w
	rows := w.rng.IntN(5)
	fails := 0
	if w.chance(3) {
		fails = pick(w, -1, 1, 2, 3)
	}
	t := c.tag()
	text := fmt.Sprintf("copyin %v %d", t, fails)
	extended, early := w.chance(2), w.chance(2)
	if extended {
		c.unit(text)
		if early {
			c.sync()
		} else {
			c.flush()
		}
	} else {
		c.query(text)
	}
	data := func() {
		for i := range rows {
			c.send(message(wire.CopyData, []byte(fmt.Sprintf("%v row %d %s\n", t, i, strings.Repeat("z", w.rng.IntN(200))))), nil)
			if w.chance(12) {
				c.flush()
			}
		}
		end := message(wire.CopyDone)
		if w.chance(4) {
			end = message(wire.CopyFail, "changed my mind")
		}
		for _, e := range c.queue {
			if s := e.statement(); s != nil && s.tag == t {
				e.ended = true
			}
		}
		c.send(end, nil)
		if extended {
			c.sync()
		}
	}
	if w.chance(3) && c.status == wire.TxIdle {
		data() // without waiting for the server to ask for it
		return
	}
	c.wait(func() {
		switch {
		case c.copyingIn():
			data()
		case extended && !early:
			c.sync()
		}
	})
}

// abuse breaks the protocol.
func (c *client) abuse() {
	w := c.w
	c.abused = true
	c.tag()
	switch w.rng.IntN(7) {
	case 0:
		c.k.send([]byte{'z', 0, 0, 0, 4})
	case 1:
		c.k.send([]byte{wire.Query, 0, 0, 0, 3})
	case 2:
		c.k.send(message(wire.Password, "hello"))
	case 3:
		c.k.send(wire.AppendQuery(nil, "copyin "+c.tag().String()))
		c.k.send(wire.AppendQuery(nil, "select "+c.tag().String()))
		w.after(w.between(0, 50*time.Millisecond), c.vanish)
	case 4:
		c.k.send([]byte{wire.Query, 0xff, 0xff, 0xff, 0xff})
	case 5:
		c.k.send(message(wire.CopyDone))
		c.k.send(message(wire.CopyFail, "what?"))
		c.k.send(wire.AppendQuery(nil, "select "+c.tag().String()))
		c.k.send(message(wire.CopyDone))
		w.after(w.between(0, 50*time.Millisecond), c.vanish)
	case 6:
		c.k.send(wire.AppendQuery(nil, "select "+c.tag().String()))
		c.k.send([]byte{0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f})
	}
}
