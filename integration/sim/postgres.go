package sim

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgweir/pgweir/pool/dial"
	"github.com/pgweir/pgweir/wire"
)

// serverState is how the server process is.
type serverState uint8

const (
	serverUp serverState = iota
	serverStarting
	serverDown // nobody listens
	serverMute // connections hang
)

// Postgres is the server process: its sessions and what they share.
type Postgres struct {
	shape int // of the table, see stmt

	w         *World
	state     serverState
	backends  []*backend // oldest first
	lastPID   uint32
	maxConn   int  // max_connections
	roleLimit int  // of each role's connections; -1: none
	tight     bool // that is less than the pools may want
	atOnce    bool // reports changed parameters at once, as before Postgres 14
	reported  int  // so many of the parameters are reported: search_path is young
	defaults  gucs
}

func newPostgres(w *World) *Postgres {
	p := &Postgres{w: w, maxConn: pick(w, 100, 100, 100, 3), atOnce: w.chance(3)}
	p.roleLimit = pick(w, -1, -1, -1, 2)
	p.tight = p.maxConn < 100 || p.roleLimit > 0
	p.defaults = append(slices.Clone(gucs(reported)), plain...)
	if w.chance(2) { // an old one
		i := p.defaults.find("search_path")
		old := p.defaults[i]
		p.defaults = append(slices.Delete(p.defaults, i, i+1), old)
		p.reported = len(reported) - 1
	} else {
		p.reported = len(reported)
	}
	return p
}

// accept begins a session, or says why not.
func (p *Postgres) accept(r *dial.Request, entry string) (*backend, *dial.LoginError) {
	w := p.w
	refused := func(code, text string, routine ...string) *dial.LoginError {
		return &dial.LoginError{
			Kind: dial.Refused, Reason: text,
			Server: wire.Fields{Severity: "FATAL", Code: code, Message: text, Routine: strings.Join(routine, "")},
		}
	}
	ofRole := 0
	for _, b := range p.backends {
		if b.user == r.User {
			ofRole++
		}
	}
	switch {
	case p.state == serverDown:
		return nil, &dial.LoginError{Kind: dial.ConnectFailed, Reason: "connect failed"}
	case p.state == serverStarting:
		return nil, refused("57P03", "the database system is starting up")
	case len(p.backends) >= p.maxConn:
		return nil, refused("53300", "sorry, too many clients already", "InitProcess")
	case p.roleLimit >= 0 && ofRole >= p.roleLimit:
		return nil, refused("53300", "too many connections for role \""+r.User+"\"", "InitializeSessionUserId")
	}
	p.lastPID++
	b := &backend{
		pg: p, pid: p.lastPID, user: r.User, entry: entry, status: wire.TxIdle,
		prepared: map[string]*prepared{}, portals: map[string]*portal{},
	}
	b.key = binary.BigEndian.AppendUint32(nil, b.pid)
	b.key = binary.BigEndian.AppendUint32(b.key, w.rng.Uint32())
	b.gucs = slices.Clone(p.defaults)
	for _, param := range r.Params {
		b.walks = b.walks || param[0] == "replication"
		if i := b.gucs.find(param[0]); i >= 0 {
			v, ok := canonical(b.gucs[i].name, param[1])
			if !ok {
				return nil, refused("22023", "invalid value for parameter")
			}
			b.gucs[i].value, b.gucs[i].explicit = v, true
		}
	}
	b.deaf = w.set.faults > 0 && w.chance(8)
	b.start = slices.Clone(b.gucs)
	b.told = slices.Clone(b.gucs)
	b.k = w.dial("backend "+strconv.Itoa(int(b.pid)), b, w.drawPace(false))
	p.backends = append(p.backends, b)
	return b, nil
}

// byKey finds a session.
func (p *Postgres) byKey(key []byte) *backend {
	for _, b := range p.backends {
		if string(b.key) == string(key) {
			return b
		}
	}
	return nil
}

// remove forgets a session that has ended.
func (p *Postgres) remove(b *backend) {
	p.backends = slices.DeleteFunc(p.backends, func(o *backend) bool { return o == b })
	if b.onOver != nil {
		b.onOver()
	}
}

// reads reports whether a transaction of another session than b reads the table
// that is altered.
func (p *Postgres) reads(b *backend) bool {
	return slices.ContainsFunc(p.backends, func(o *backend) bool { return o != b && o.reads })
}

// notify sends a notification to who listens.
func (p *Postgres) notify(from *backend, channel, payload string) {
	for _, b := range p.backends {
		if b.entry == from.entry && slices.Contains(b.channels, channel) {
			out, at := wire.Begin(nil, wire.NotificationResponse)
			out = binary.BigEndian.AppendUint32(out, from.pid)
			out = wire.AppendString(out, channel)
			out = wire.AppendString(out, payload)
			b.later = append(b.later, wire.End(out, at))
			b.kick()
		}
	}
}

// misbehave lets a fault of the server process happen, every so often.
func (p *Postgres) misbehave() {
	w := p.w
	if w.calm || w.set.faults == 0 {
		return
	}
	defer w.after(w.between(w.set.faults/2, w.set.faults*2), p.misbehave)
	if p.state != serverUp {
		p.state = pick(w, serverUp, serverUp, serverStarting)
		return
	}
	var victim *backend
	if n := len(p.backends); n > 0 {
		victim = p.backends[w.rng.IntN(n)]
	}
	switch what := w.rng.IntN(12); {
	case what < 3 && victim != nil:
		w.tracef("fault: %v crashes", victim.k)
		victim.crash()
	case what < 6 && victim != nil:
		w.tracef("fault: %v is terminated", victim.k)
		victim.terminated = true
		victim.kick()
	case what < 8 && victim != nil:
		victim.later = append(victim.later, wire.AppendNotice(nil, wire.Fields{
			Severity: "WARNING", Code: "01000", Message: "a remark that nobody asked for",
		}))
		victim.kick()
	case what == 8:
		p.reload()
	case what == 9:
		w.tracef("fault: the server restarts")
		p.state = serverStarting
		for _, b := range slices.Clone(p.backends) {
			b.crash()
		}
	case what == 10:
		w.tracef("fault: the server is down")
		p.state = pick(w, serverDown, serverMute)
	}
}

// reload changes a default for all sessions that have not set it.
func (p *Postgres) reload() {
	w := p.w
	zone := pick(w, "UTC", "Europe/Berlin", "Asia/Kolkata")
	w.tracef("the server's TimeZone is %s now", zone)
	i := p.defaults.find("TimeZone")
	p.defaults[i].value = zone
	for _, b := range p.backends {
		b.hup = true
		b.kick()
	}
}

// calmDown ends all faults.
func (p *Postgres) calmDown() {
	p.state = serverUp
	p.maxConn, p.roleLimit = 100, -1
	for _, b := range slices.Clone(p.backends) {
		if b.running != nil && b.running.endless {
			b.finish(nil)
		}
	}
}

// rests reports whether b has nothing to do and is between two transactions, as
// far as the pooler's bytes have reached it.
func (b *backend) rests() bool {
	return b.running == nil && b.copy == nil && b.saved == nil && b.status == wire.TxIdle && !b.skip && len(b.in)+len(b.k.out) == 0
}

// underway is how long after its query was sent a session is not to be sent a
// cancel request, less what the pooler's clock may lag behind.
const underway = 45 * time.Millisecond

// cancelSent checks that a cancel request which is sent now does not come before
// the session can have begun with the query that it is for: it would be lost. It
// notes whom it is for.
func (p *Postgres) cancelSent(key []byte) {
	b := p.byKey(key)
	if b == nil {
		return
	}
	b.signals++
	switch {
	case b.running != nil:
		b.meant = b.running.tag.client
	case b.copy != nil:
		b.meant = b.copy.s.tag.client
	case b.saved != nil:
		b.meant = b.last.client
	}
	if b.running != nil || b.copy != nil || b.saved != nil {
		return
	}
	if age := p.w.now.Sub(b.k.asked); len(b.in)+len(b.k.out) > 0 && age < underway {
		p.w.failf("%v is sent a cancel request for what it was asked %v ago, and has not begun with", b.k, age)
	}
}

// checkMeant checks that a session to which a cancel request is on its way begins
// with nothing of a client that it is not meant for. Whether that was told what
// became of it does not matter: the signal comes when it comes.
func (b *backend) checkMeant(t tag) {
	switch {
	case b.signals == 0 || t.client == 0:
	case b.meant == 0:
		b.meant = t.client
	case b.meant != t.client:
		b.pg.w.failf("%v begins with %v, and may be hit by a cancel request for client %d", b.k, t, b.meant)
	}
}

// mustStop expects that a query of c's which hangs now has been stopped by the
// cancel request that is sent now, unless a request was refused meanwhile, or the
// client has left: nobody tells Postgres of that.
func (p *Postgres) mustStop(c *client) {
	for _, b := range p.backends {
		r, lost := b.running, p.w.books.lost
		if r == nil || !r.endless || r.tag.client != c.id {
			continue
		}
		p.w.after(inTime, func() {
			if b.running == r && !b.k.shut && p.w.books.lost == lost {
				p.w.failf("%v: nothing has stopped %v, %v after a cancel request", b.k, r.tag, inTime)
			}
		})
	}
}

// mustDequeue expects that a request of c's which waits in the pooler has been
// cancelled by the cancel request that is sent now, or has come to a session,
// unless the request to cancel was refused.
func (p *Postgres) mustDequeue(c *client) {
	w, unheard := p.w, p.w.books.unheard
	if len(c.queue) == 0 || len(c.k.in) > 0 || c.slow || c.abused {
		return
	}
	e := c.queue[0]
	s := e.statement()
	waits := func() bool {
		told := len(c.in)+len(c.k.out) > 0 || c.k.conn != nil && len(c.k.conn.queue) > 0 // a part of the answer
		return c.stage == stageReady && len(c.queue) > 0 && c.queue[0] == e && e.phase == phaseBegin && e.at == 0 && !told && !p.knows(s.tag)
	}
	if s == nil || s.tag.client != c.id || !waits() {
		return
	}
	w.after(inTime, func() {
		if waits() && w.books.unheard == unheard {
			w.failf("%v: its request %v still waits, %v after it was cancelled", c.k, s.tag, inTime)
		}
	})
}

// knows reports whether a session has begun with a statement, or it is on the way
// to one.
func (p *Postgres) knows(t tag) bool {
	text := []byte(t.String())
	return slices.ContainsFunc(p.backends, func(b *backend) bool {
		return b.last == t || bytes.Contains(b.in, text) || b.k.conn != nil && len(b.k.conn.queue) > 0 || len(b.k.out) > 0
	})
}

// inTime is how long a cancel request may take to stop a query.
const inTime = 3 * time.Second

// cancel is the signal that a cancel request makes.
func (p *Postgres) cancel(key []byte) {
	b := p.byKey(key)
	if b == nil {
		return
	}
	if b.signals--; b.signals == 0 {
		b.meant = 0
	}
	switch {
	case b.running != nil:
		p.w.tracef("cancel: %v stops %v", b.k, b.running.tag)
		p.w.books.cancelled(p.w, b.running.tag)
		b.finish(&pgError{code: "57014", text: "canceling statement due to user request " + b.running.tag.String()})
	case b.copy != nil:
		p.w.books.cancelled(p.w, b.copy.s.tag)
		b.copy.cancelled = true
	default:
		p.w.tracef("cancel: %v has nothing to do", b.k)
	}
}
