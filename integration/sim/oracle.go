package sim

import (
	"encoding/binary"
	"slices"
	"strconv"
	"strings"

	"github.com/pgweir/pgweir/wire"
)

// expect is the reply that a message must get.
type expect struct {
	kind  byte   // the message's type; kindConsole for a query to the console
	list  []stmt // Query: its statements; Execute: one
	at    int    // Query: the statement whose reply comes
	phase phase
	rows  int // of the statement, so far
	limit int // Execute: rows wanted at most, 0: all
	from  int // Execute: rows that were there before
	about *stmt
	code  string // of an error that is to be expected
	name  string // of the statement; Query: none
	whole bool   // Describe: of a statement, not of a portal
	arg   string // FunctionCall
	ended bool   // CopyDone or CopyFail was sent
	shape string // what the rows of a shaped statement look like, as far as it is known
}

const kindConsole = 'K'

// phase is how far the reply to a statement has come.
type phase uint8

const (
	phaseBegin phase = iota
	phaseRows
	phaseCopyIn
	phaseCopyOut
	phaseCopied // CopyDone was received
	phaseOver   // only a ReadyForQuery is missing
)

// statement is the one whose reply comes, nil if none is left.
func (e *expect) statement() *stmt {
	if e.about != nil {
		return e.about
	}
	if e.at < len(e.list) {
		return &e.list[e.at]
	}
	return nil
}

// wrong ends the run: the client was told what it must not be told.
func (c *client) wrong(format string, args ...any) {
	var owed strings.Builder
	for _, e := range c.queue {
		owed.WriteString(" " + string(e.kind))
		if s := e.statement(); s != nil {
			owed.WriteString("(" + s.text[:min(len(s.text), 40)] + ")")
		}
	}
	c.w.failf("%v: "+format+"; owed:%s", append(append([]any{c.k}, args...), owed.String())...)
}

// reply deals with a message after the login.
func (c *client) reply(typ byte, body []byte) {
	switch typ {
	case wire.ParameterStatus:
		c.parameter(body)
		return
	case wire.NoticeResponse:
		c.notice(wire.ParseFields(body))
		return
	case wire.NotificationResponse:
		if !c.listen && !c.w.mayLeak() {
			c.wrong("a notification for somebody else")
		}
		return
	case wire.ErrorResponse:
		f := wire.ParseFields(body)
		if f.Severity == "FATAL" {
			c.fatal(f)
		} else {
			c.failed(f)
		}
		return
	}
	if c.abused {
		c.checkTags(typ, body)
		return
	}
	if len(c.queue) == 0 {
		c.wrong("message %q, and nothing was asked", typ)
	}
	e := c.queue[0]
	c.reconsider(e)
	ok := false
	switch e.kind {
	case wire.Query:
		ok = c.queryReply(e, typ, body)
	case wire.Execute:
		done := false
		if ok, done = c.statementReply(e, typ, body); done {
			c.pop()
		}
	case wire.Parse:
		ok = typ == wire.ParseComplete
		if e.name != "" && !strings.HasPrefix(e.name, executing) {
			c.named = append(c.named, namedStmt{name: e.name, s: e.about})
		}
		c.pop()
	case wire.Bind:
		ok = typ == wire.BindComplete
		c.pop()
	case wire.Close:
		ok = typ == wire.CloseComplete
		c.named = slices.DeleteFunc(c.named, func(n namedStmt) bool { return n.name == e.name })
		c.pop()
	case wire.Describe:
		switch {
		case e.whole && e.phase == phaseBegin:
			ok = typ == wire.ParameterDescription && len(body) == 6
			if want := e.about.oid(); want != 0 && binary.BigEndian.Uint32(body[2:]) != want { // an EXECUTE is nobody's
				ok = false
			}
			e.phase = phaseRows
		case e.about != nil && e.about.rows():
			ok = typ == wire.RowDescription && describes(body, e.about)
			c.describedAs(e, body)
			c.pop()
		default:
			ok = typ == wire.NoData
			c.pop()
		}
	case wire.FunctionCall:
		if typ == wire.FunctionCallResponse {
			ok = e.phase == phaseBegin && strings.Contains(string(body), e.arg)
			e.phase = phaseOver
		} else {
			ok = e.phase == phaseOver && c.readyReply(typ, body)
		}
	case wire.Sync:
		ok = c.readyReply(typ, body)
	case kindConsole:
		ok = typ == wire.CommandComplete && e.phase == phaseBegin
		if ok {
			e.phase = phaseOver
		} else {
			ok = e.phase == phaseOver && c.readyReply(typ, body)
		}
	}
	if !ok {
		c.queue = slices.Insert(c.queue, 0, e)
		c.wrong("message %q %s does not answer %q", typ, show(body), e.kind)
	}
}

// reconsider corrects what e expects of an EXECUTE that was to fail, but for a
// DEALLOCATE before it that was cancelled, and has changed nothing.
func (c *client) reconsider(e *expect) {
	s := e.statement()
	if c.cancels == 0 || s == nil || s.verb != "execute" {
		return
	}
	for _, n := range c.named {
		if n.name == s.name && n.s != nil {
			*s = *n.s
		}
	}
}

// describes reports whether a RowDescription is that of s: the first column has
// its tag as name.
func describes(body []byte, s *stmt) bool {
	return len(body) > 2 && strings.HasPrefix(string(body[2:]), s.tag.String()+"\x00")
}

// pop takes the oldest expectation off.
func (c *client) pop() { c.queue = c.queue[1:] }

// queryReply deals with a part of the answer to a Query.
func (c *client) queryReply(e *expect, typ byte, body []byte) bool {
	s := e.statement()
	switch {
	case e.phase == phaseOver || s == nil && len(e.list) > 0:
		return c.readyReply(typ, body)
	case s == nil:
		e.phase = phaseOver
		return typ == wire.EmptyQueryResponse
	case s.rows() && e.phase == phaseBegin:
		e.phase = phaseRows
		c.describedAs(e, body)
		return typ == wire.RowDescription && describes(body, s)
	}
	ok, done := c.statementReply(e, typ, body)
	if done {
		e.at++
		e.phase, e.rows = phaseBegin, 0
	}
	return ok
}

// readyReply deals with what must be a ReadyForQuery.
func (c *client) readyReply(typ byte, body []byte) bool {
	if typ != wire.ReadyForQuery || len(body) != 1 {
		return false
	}
	if wire.TxStatus(body[0]) != c.status {
		c.wrong("the transaction status is %q and should be %q", body, byte(c.status))
	}
	c.pop()
	c.sure = c.sure || len(c.queue) == 0
	if c.status == wire.TxIdle && !c.w.set.session() && c.walks == "" && len(c.queue) == 0 {
		c.pid = 0
	}
	return true
}

// statementReply deals with a message of the reply to a statement. done means
// that it was the last.
func (c *client) statementReply(e *expect, typ byte, body []byte) (ok, done bool) {
	s := e.statement()
	if s == nil {
		return typ == wire.EmptyQueryResponse, true
	}
	text := ""
	if typ == wire.CommandComplete {
		text = strings.TrimSuffix(string(body), "\x00")
	}
	tag := " " + s.tag.String()
	switch s.verb {
	case "select", "slow", "hang", "shaped":
		want := 1
		if s.verb == "select" {
			want = s.arg(0, 1)
		}
		switch typ {
		case wire.DataRow:
			e.rows++
			c.row(e, s, body)
			return e.from+e.rows <= want && (e.limit == 0 || e.rows <= e.limit), false
		case wire.PortalSuspended:
			return e.limit > 0 && e.rows == e.limit, true
		}
		return text == "SELECT"+tag && e.from+e.rows == want, true
	case "begin":
		c.status = wire.TxOpen
		return text == "BEGIN"+tag, true
	case "commit", "rollback":
		verb := strings.ToUpper(s.verb)
		if c.status == wire.TxFailed {
			verb = "ROLLBACK"
		}
		if c.status != wire.TxIdle && verb == "ROLLBACK" {
			c.own = nil
		}
		c.status = wire.TxIdle
		return text == verb+tag, true
	case "set", "reset":
		return text == strings.ToUpper(s.verb), true
	case "discard":
		c.named, c.listen = nil, false
		return text == "DISCARD ALL", true
	case "prepare":
		c.named = append(c.named, namedStmt{name: s.name, s: s.inner})
		return text == "PREPARE", true
	case "deallocate":
		if s.all {
			c.named = nil
			return text == "DEALLOCATE ALL", true
		}
		c.named = slices.DeleteFunc(c.named, func(n namedStmt) bool { return n.name == s.name })
		return text == "DEALLOCATE", true
	case "notice":
		return text == "DO"+tag, true
	case "temp":
		return text == "CREATE TABLE"+tag, true
	case "listen":
		c.listen = true
		return text == "LISTEN"+tag, true
	case "notify":
		return text == "NOTIFY"+tag, true
	case "alter":
		return text == "ALTER"+tag, true
	case "copyout":
		switch typ {
		case wire.CopyOutResponse:
			ok = e.phase == phaseBegin
			e.phase = phaseCopyOut
			return ok, false
		case wire.CopyData:
			ok = e.phase == phaseCopyOut && string(body) == s.tag.String()+" row "+strconv.Itoa(e.rows)+"\n"
			e.rows++
			return ok, false
		case wire.CopyDone:
			ok = e.phase == phaseCopyOut && e.rows == s.arg(0, 1)
			e.phase = phaseCopied
			return ok, false
		}
		return text == "COPY"+tag && e.phase == phaseCopied, true
	case "stream":
		switch typ {
		case wire.CopyBothResponse:
			ok = e.phase == phaseBegin
			e.phase = phaseCopyIn
			return ok, false
		case wire.CopyData:
			return e.phase == phaseCopyIn && string(body) == s.tag.String()+" from the log\n", false
		case wire.CopyDone:
			ok = e.phase == phaseCopyIn && e.ended
			e.phase = phaseCopied
			return ok, false
		}
		return text == "COPY"+tag && e.phase == phaseCopied, true
	case "copyin":
		if typ == wire.CopyInResponse {
			ok = e.phase == phaseBegin
			e.phase = phaseCopyIn
			return ok, false
		}
		c.swallowed(s)
		return text == "COPY"+tag && e.phase == phaseCopyIn && e.ended, true
	}
	return false, true
}

// describedAs notes what the rows of e, or of the Execute behind a Describe of
// its portal, are said to look like.
func (c *client) describedAs(e *expect, description []byte) {
	at := strings.Index(string(description), "shape")
	if at < 0 {
		return
	}
	shape, _, _ := wire.CutString(description[at:])
	if n := c.namedAs(e); n != nil {
		n.shape = string(shape)
	}
	if e.kind == wire.Describe && !e.whole && len(c.queue) > 1 && c.queue[1].kind == wire.Execute {
		e = c.queue[1]
	}
	e.shape = string(shape)
}

// namedAs is the statement with a name that e is about, or executes, nil if that
// is gone.
func (c *client) namedAs(e *expect) *namedStmt {
	name := strings.TrimPrefix(e.name, executing)
	for i, n := range c.named {
		if n.name == name && n.s == e.about {
			return &c.named[i]
		}
	}
	return nil
}

// swallowed drops the Syncs that a COPY has ignored from what is owed.
func (c *client) swallowed(s *stmt) {
	n := c.w.books.swallowed[s.tag]
	for i := 1; n > 0; {
		if i >= len(c.queue) {
			c.wrong("BUG in sim: %d Syncs swallowed that nobody sent", n)
		}
		if c.queue[i].kind == wire.Sync {
			c.queue = slices.Delete(c.queue, i, i+1)
			n--
			continue
		}
		i++
	}
}

// row checks a row: whose it is, and the state of the session it tells of.
func (c *client) row(e *expect, s *stmt, body []byte) {
	w := c.w
	cols := columns(body)
	if s.verb == "shaped" && len(cols) > len(rowColumns) {
		last := len(cols) - 1
		told := e.shape
		if n := c.namedAs(e); told == "" && n != nil {
			told = n.shape
		}
		if told != "" && told != cols[last] {
			c.wrong("a row of %s, which it was told would be of %s", cols[last], told)
		}
		cols = cols[:last]
	}
	if len(cols) != len(rowColumns) {
		c.wrong("a row of %d columns: %s", len(cols), show(body))
	}
	if cols[0] != s.tag.String() {
		c.wrong("a row of %s for %v", cols[0], s.tag)
	}
	if len(cols[4]) != s.arg(1, 0) || strings.Trim(cols[4], "x") != "" {
		c.wrong("a row whose filler of %d bytes is %s", s.arg(1, 0), show([]byte(cols[4])))
	}
	pid, _ := strconv.Atoi(cols[1])
	if (c.status != wire.TxIdle || w.set.session() || c.walks != "") && c.pid != 0 && pid != c.pid {
		c.wrong("a row from session %d within session %d", pid, c.pid)
	}
	c.pid = pid
	if cols[2] != "" && !w.mayLeak() {
		for item := range strings.SplitSeq(cols[2], ",") {
			what, name, _ := strings.Cut(item, " ")
			owner, _, _ := strings.Cut(strings.TrimPrefix(name, "channel_"), "/")
			if (what == "temp" || what == "listen") && owner != strconv.Itoa(c.id) {
				c.wrong("the session has %s of somebody else", item)
			}
			if what == "work_mem" && name != strconv.Itoa(1000+c.id) {
				c.wrong("the session has %s", item)
			}
		}
	}
	if !c.sure {
		return
	}
	for param := range strings.SplitSeq(cols[3], "\x1f") {
		name, value, _ := strings.Cut(param, "=")
		if told, ok := c.params[name]; ok && !same(name, told, value) {
			c.wrong("%s is %q in the session, and the client was told %q", name, value, told)
		}
	}
}

// mayLeak reports whether sessions may hold what others left there.
func (w *World) mayLeak() bool { return w.set.session() && !w.set.resets() }

// columns takes a DataRow apart.
func columns(body []byte) (cols []string) {
	if len(body) < 2 {
		return nil
	}
	n := int(binary.BigEndian.Uint16(body))
	body = body[2:]
	for range n {
		if len(body) < 4 {
			return nil
		}
		size := int(binary.BigEndian.Uint32(body))
		body = body[4:]
		if size > len(body) {
			return nil
		}
		cols = append(cols, string(body[:size]))
		body = body[size:]
	}
	return cols
}

// notice checks a notice.
func (c *client) notice(f wire.Fields) {
	text, ok := strings.CutPrefix(f.Message, "notice ")
	if !ok {
		return
	}
	if c.abused {
		if t, _ := parseTag(text); t.client != c.id {
			c.wrong("a notice of %s", text)
		}
		return
	}
	if len(c.queue) == 0 || c.queue[0].statement() == nil || c.queue[0].statement().tag.String() != text {
		c.wrong("a notice of %s", text)
	}
}

// checkTags is what remains to be checked for a client that broke the protocol.
func (c *client) checkTags(typ byte, body []byte) {
	if typ != wire.DataRow {
		return
	}
	if cols := columns(body); len(cols) > 0 {
		if t, _ := parseTag(cols[0]); t.client != c.id && t.client != 0 {
			c.wrong("a row of %s", cols[0])
		}
	}
}
