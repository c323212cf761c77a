package sim

import (
	"slices"
	"strings"
	"time"

	"github.com/pgweir/pgweir/wire"
)

// failed checks an error that does not end the session.
func (c *client) failed(f wire.Fields) {
	text := f.Message
	if c.abused {
		return
	}
	if len(c.queue) == 0 {
		c.wrong("error %s %q, and nothing was asked", f.Code, text)
	}
	e := c.queue[0]
	c.reconsider(e)
	if e.kind == kindConsole {
		e.phase = phaseOver
		return
	}
	if strings.Contains(text, "PGBOUNCER_") && !c.w.set.session() {
		c.wrong("error %s %q tells a server's name", f.Code, text)
	}
	s := e.statement()
	if at := strings.LastIndexByte(text, ' '); at >= 0 {
		if t, ok := parseTag(text[at+1:]); ok && (s == nil || t != s.tag) {
			c.wrong("error %s %q is about something else", f.Code, text)
		}
	}
	verb := ""
	if s != nil {
		verb = s.verb
	}
	ok := false
	switch f.Code {
	case "57014":
		ok = c.cancels > 0 || verb == "copyin" && e.ended
	case "25P02":
		ok = c.status == wire.TxFailed
	case "0A000":
		ok = verb == "shaped"
	case "P0001":
		ok = verb == "fail"
	case "22P02", "23505":
		ok = verb == "copyin"
	case "22023", "42704":
		ok = verb == "set"
	case "26000", "42P05": // a cancelled PREPARE or DEALLOCATE has changed nothing
		ok = f.Code == e.code || c.cancels > 0
	default:
		ok = f.Code == e.code
	}
	if !ok || e.phase == phaseOver {
		c.wrong("error %s %q", f.Code, text)
	}
	if c.status == wire.TxOpen {
		c.status = wire.TxFailed
	}
	c.sure = false
	if verb == "copyin" {
		c.swallowed(s)
	}
	if e.kind == wire.Query || e.kind == wire.FunctionCall || e.kind == wire.Sync {
		e.phase = phaseOver
		return
	}
	for len(c.queue) > 0 && c.queue[0].kind != wire.Sync {
		c.pop()
	}
	c.skip = len(c.queue) == 0
}

// byAdministrator is what clients are told whose session is ended from outside,
// be it by Postgres or by a drain.
const byAdministrator = "terminating connection due to administrator command"

// fatal checks what ends the connection.
func (c *client) fatal(f wire.Fields) {
	c.fatals = append(c.fatals, f.Message)
	c.w.tracef("%v is told %s %q", c.k, f.Code, f.Message)
	c.w.books.refused[f.Message]++
	if len(c.fatals) > 2 {
		c.wrong("a third error that ends it: %q", f.Message)
	}
	if !c.abused && !c.mayBeTold(f) {
		c.wrong("ended by %s %q", f.Code, f.Message)
	}
	if f.Code == "57P01" && f.Message == byAdministrator && c.w.now < c.w.cutFrom && !c.abused && c.stage == stageReady &&
		(c.status != wire.TxIdle || len(c.queue) > 0 && c.queue[0].phase != phaseBegin) {
		c.wrong("cut in a transaction, %v before the grace is over", c.w.cutFrom.Sub(c.w.now))
	}
}

// since reports whether d lies back at least as long as the shortest value that
// a timeout had.
func (c *client) since(t wire.Time, key string) bool {
	least := c.w.set.least[key]
	// The pooler's clock is that of the loop's turn.
	return least > 0 && c.w.now.Sub(t) >= least-5*time.Millisecond
}

// mayBeTold reports whether there is a reason to end the client so.
func (c *client) mayBeTold(f wire.Fields) bool {
	w := c.w
	text := f.Message
	failing := w.set.dialFaults > 0 || w.set.faults > 0 || w.pg.tight || w.set.attachFails
	// The pool is a new one, and nobody has sent the password again.
	forgotten := w.set.passthrough() && (failing || w.books.kills > 0 || w.set.removals > 0 || w.operator.acts)
	switch {
	case f.Code != "08P01":
		switch f.Code {
		case "57P01":
			return true
		case "28000", "57P03":
			return failing
		case "53300": // Postgres' own gets to those only who log in to it for themselves
			return c.stage != stageReady && (c.walks != "" || strings.HasPrefix(text, "too many connections for plan"))
		case "28P01":
			return forgotten
		case "22023":
			return c.walks != "" && c.stage != stageReady && c.oddParams()
		}
		return false
	case c.walks != "" && c.stage != stageReady && slices.Contains([]string{
		"connect failed", "connect timeout", "server DNS lookup failed", "server conn crashed?",
	}, text): // nobody else's login was to be waited for
		return failing
	case text == "database configuration changed":
		return c.walks != "" && w.operator.acts
	case text == "server conn crashed?":
		return w.books.crashes > 0
	case text == "cancel request of unknown outcome":
		return c.cancels > 0
	case text == "query_wait_timeout":
		return c.since(c.asked, "query_wait_timeout") || c.since(c.arrived, "query_wait_timeout") && c.stage == stageLogin
	case text == "query_timeout":
		return c.since(c.asked, "query_timeout") || c.since(c.arrived, "query_timeout") && c.stage == stageLogin
	case text == "query timeout":
		return c.since(c.asked, "query_timeout")
	case text == "idle transaction timeout":
		return w.set.least["idle_transaction_timeout"] > 0 && c.status != wire.TxIdle
	case text == "transaction timeout":
		return w.set.least["transaction_timeout"] > 0
	case text == "client_idle_timeout":
		return c.since(c.asked, "client_idle_timeout") || c.since(c.arrived, "client_idle_timeout")
	case text == "client_login_timeout", text == "client_login_timeout (server down)":
		// Who joins the trial of a password ends with it.
		return (c.since(c.arrived, "client_login_timeout") || w.set.passthrough()) && c.stage != stageReady
	case strings.HasPrefix(text, "no more connections"):
		return w.set.main["max_client_conn"] == "5" && c.stage != stageReady
	case strings.HasPrefix(text, "client connections exceeded"):
		return c.stage != stageReady
	case w.set.passthrough() && c.stage != stageReady && failing &&
		(text == "password authentication failed" || text == "too many failed logins, try again later"):
		return true // the server has refused the login for another reason
	case strings.HasPrefix(text, "server login has been failing"), strings.HasPrefix(text, "server login failed"):
		return failing || forgotten
	case strings.Contains(text, "authentication failed"), strings.HasPrefix(text, "no such database"):
		return c.stage != stageReady && (!c.right || w.set.removals > 0)
	case text == "bouncer config error": // a database is removed, or a server crashes or refuses, under an auth_query or a trial
		return c.stage != stageReady && (w.set.main["auth_user"] != "" || w.set.passthrough())
	case text == "invalid server parameter":
		return c.oddParams()
	case strings.HasPrefix(text, "transaction blocks not allowed"):
		return w.set.statement() && (c.status != wire.TxIdle || w.set.mixed)
	case text == "database removed":
		return w.books.kills > 0 || w.set.removals > 0
	case text == "admin forced disconnect":
		return w.books.kills > 0
	case strings.HasSuffix(text, "is disabled"):
		return c.stage != stageReady
	case strings.HasPrefix(text, "too many prepared statements"):
		return w.set.main["max_client_prepared_statements"] != ""
	case text == "pooler is shutting down", text == "server shutting down":
		return w.operator.stopping
	case text == "pause mode":
		return w.operator.stopping
	}
	return false
}

// oddParams reports whether the client asked for parameters that the server
// refuses.
func (c *client) oddParams() bool {
	for _, p := range c.want {
		if _, ok := canonical(p[0], p[1]); !ok {
			return true
		}
	}
	return false
}
