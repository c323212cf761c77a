package pool

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool/dial"
	"github.com/pgweir/pgweir/pool/latency"
	"github.com/pgweir/pgweir/wire"
)

// A replication client speaks to a walsender: what it says at login goes to a
// server that is opened for it, that it keeps to its end, and that nobody else
// gets. It waits for its slot in the queue with all others. When its turn has
// come it goes back to ClientLogin until its server is logged in to, and is
// told in its welcome what that very server said.

// replication is the kind of a connection: the value of the startup parameter
// of that name.
type replication uint8

const (
	replicatesNot      replication = iota
	replicatesLogical              // replication=database: SQL works too
	replicatesPhysical             // replication=true: only commands of replication
)

func (r replication) String() string { return [...]string{"none", "logical", "physical"}[r] }

// replicationOf is what a StartupMessage asks for. What is neither "database"
// nor a truth value is not taken into account.
func replicationOf(f wire.First) (r replication) {
	// The error of a message that is broken is startup's to tell.
	_ = f.Params(func(name, value []byte) bool {
		if string(name) != "replication" {
			return true
		}
		v := strings.ToLower(string(value))
		switch {
		case v == "database":
			r = replicatesLogical
		case v == "1" || v == "on" || v != "" && (strings.HasPrefix("true", v) || strings.HasPrefix("yes", v)):
			r = replicatesPhysical
		default:
			r = replicatesNot
		}
		return true
	})
	return r
}

// passOn notes a parameter of a replication client for its server.
func (c *Client) passOn(main *configs.Main, name, value string) {
	l := c.login
	switch {
	case strings.HasPrefix(name, "_pq_."):
		l.negoti = true
		l.unknown = append(l.unknown, name)
	case !slices.Contains(main.IgnoreStartupParameters, name) || name == "options":
		l.own = append(l.own, [2]string{name, value})
	}
}

// awaitsWelcome reports whether c logs in, and waits for what any server of its
// pool says at login.
func (c *Client) awaitsWelcome() bool { return c.login != nil && !c.awaitsOwn() }

// awaitsOwn reports whether c logs in, and waits for a server that is opened
// for it alone.
func (c *Client) awaitsOwn() bool {
	l := c.login
	return l != nil && (l.replication != replicatesNot || l.trial != nil)
}

// replicates reports whether c has a server of its own.
func (c *Client) replicates() bool {
	return c.server != nil && c.server.replication != replicatesNot
}

// exchange opens a server for c, the oldest waiter, although v is idle: c can't
// have that. If there is no room for both, v is closed first. It reports false
// if c has to wait until the connection of v, or another, is at its end.
func (s *Shard) exchange(c *Client, v *Server) bool {
	p, a := s.w.p, ask{now: s.w.now(), shard: s, instead: true}
	if p.reserve(s.pool, &a) != WaitNone {
		if p.vacating(s.pool) {
			return false
		}
		v.close("evicted for "+WaitPool.String(), true)
		if p.reserve(s.pool, &a) != WaitNone {
			return false
		}
	}
	s.connectFor(c, a.seat)
	return true
}

// vacating reports whether servers of q take their leave: slots will be free
// soon.
func (p *Pooler) vacating(q *Pool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return q.leaving > 0
}

// connectFor opens a server for c, the oldest waiter. The caller took a slot,
// with seat.
func (s *Shard) connectFor(c *Client, seat *seat) {
	s.stats.WaitTime += s.w.now().Sub(c.queryStart)
	s.endWait(c)
	c.move(ClientLogin)
	s.publishWaiters()
	if k := c.login.trial; k != nil {
		s.tryOut(k, seat)
		return
	}
	o := s.newOpening(seat)
	o.client = c
	s.private.pushBack(o)
	r := o.order()
	own := append([][2]string{{"replication", c.login.replication.value()}}, c.login.own...)
	r.Params = slices.Insert(r.Params, len(r.Params)-1, own...) // the last one is the user
	s.dial(r, func(session *dial.Session, err error) { s.connectedFor(o, session, err) })
}

// value is what the startup parameter says.
func (r replication) value() string {
	if r == replicatesLogical {
		return "database"
	}
	return "true"
}

// connectedFor takes in what became of an opening for one client. A failure is
// that client's alone.
func (s *Shard) connectedFor(o *opening, session *dial.Session, err error) {
	s.private.remove(o)
	p, q, c := s.w.p, s.pool, o.client
	if err != nil {
		p.loggedIn(q, o.seat, s.w.now(), false)
		p.free(q, o.seat)
		s.failedFor(o, err)
		return
	}
	if o.pass != nil {
		o.pass.taken(s.w.now())
	}
	untracked, vars := p.readParams(session.Params)
	v := s.newServer(o, session, vars)
	if !v.attach(session.Socket) {
		c.disconnect(true, "server conn crashed?")
		return
	}
	if p.Snapshot().Main.LogConnections {
		v.log(Info, "new connection to server (from "+v.to()+")")
	}
	switch {
	case c.state != ClientLogin:
		v.close("client disconnect", true)
	case v.obsolete():
		v.close("connect string changed", true)
		s.wait(c)
		s.provide()
	case s.paused():
		v.close("pause mode", true)
		s.wait(c)
		s.provide()
	default:
		v.replication = c.login.replication
		c.greet(v, untracked)
	}
}

// failedFor tells the client of o that there is no server for it. If o was given
// up because servers are elsewhere by now, the client waits for one of those.
func (s *Shard) failedFor(o *opening, err error) {
	p, c, conf := s.w.p, o.client, s.pool.db.conf.Load()
	if o.generation != s.pool.db.generation.Load() {
		if c.state == ClientLogin {
			s.wait(c)
		}
		s.superseded(o)
		return
	}
	f := wire.Fields{Severity: "FATAL", Code: codeProtocol, Message: err.Error()}
	reason := err.Error()
	login := dial.AsLoginError(err)
	if o.passRefused(login) {
		s.pool.losePass(o.pass)
		login = s.pool.passOutdated(login)
	}
	if login != nil {
		f, reason = login.Fields(), login.Reason
	}
	prefix := "S: " + s.pool.name() + "@" + conf.Host + ":" + strconv.Itoa(conf.Port)
	p.log.Log(Warning, prefix, err.Error())
	p.log.Log(Info, prefix, fmt.Sprintf("closing because: %s (age=%ds)", reason, int(s.w.now().Sub(o.since)/time.Second)))
	c.fail(f)
}

// greet ends the login of a replication client: it has v from now on.
func (c *Client) greet(v *Server, untracked []byte) {
	w, s := c.w, c.shard
	b := append(wire.AppendAuthOk(w.scratch[:0]), untracked...)
	for i, value := range v.vars.List(w.p.tracked) {
		if value.Known {
			b = wire.AppendParameterStatus(b, w.p.tracked.Names[i], value.Text)
		}
	}
	b = c.appendKey(b)
	w.scratch = b
	c.endLogin()
	s.stats.ClientLogins++
	s.latencies[latency.Login].Record(w.now().Sub(c.connected))
	c.vars = v.vars
	c.server, v.client = v, c
	c.move(ClientActive)
	v.move(ServerActive)
	v.since = w.now()
	c.conn.Write(b)
	c.proceed()
}

// tickReplication closes the servers of replication clients that should not be
// used any more: they would never be free.
func (s *Shard) tickReplication() {
	s.busy.each(func(v *Server) {
		if v.replication != replicatesNot && v.obsolete() {
			v.close("database configuration changed", true)
		}
	})
}
