package pool

import (
	"slices"

	"github.com/pgweir/pgweir/auth"
	"github.com/pgweir/pgweir/pool/dial"
	"github.com/pgweir/pgweir/wire"
)

// trial is a password under trial: one login to a server. As a lookup, it is a
// client to its pool: it waits in the queue for its place, and has a server
// opened for it alone. If the server takes the password it is the pool's from
// then on.
//
// All who send the same password at the same time share one trial. It runs on
// the loop that its user's name is assigned to, and tells them by Post.
type trial struct {
	inert
	tried    tried
	password auth.Secret
	known    *pass // what is tried again, nil if it is another password
	from     origin
	w        *Worker
	client   *Client // nil before its turn has come
	crowd    bool    // it is counted among those that come from there
	askers   []trialAsker
	end      trialEnd
}

// trialEnd is what became of a trial. The zero trialEnd is that the password is
// wrong.
type trialEnd struct {
	right bool
	err   wire.Fields // set if there is no answer
}

// trialAsker is a login that waits for the end of a trial.
type trialAsker struct {
	id   uint64 // of the Client
	tell func(trialEnd)
}

// workerOf is where what concerns a user's name is asked.
func (p *Pooler) workerOf(user string) *Worker { return p.workerFor(question{name: user}) }

// try joins the trial of t, or begins it.
func (w *Worker) try(t tried, password auth.Secret, known *pass, from origin, a trialAsker) {
	if k := w.trials[t]; k != nil {
		k.askers = append(k.askers, a)
		return
	}
	k := &trial{tried: t, password: password, known: known, from: from, w: w, crowd: known == nil, askers: []trialAsker{a}}
	w.trials[t] = k
	if !k.crowd || w.p.guesses.enter(k) {
		k.begin()
	}
}

// poolNamed returns the pool of a database and user, made if need be, and
// counts a client in; nil if there is no such database.
func (p *Pooler) poolNamed(database, user string) *Pool {
	p.mu.Lock()
	defer p.mu.Unlock()
	db := p.databaseLocked(database)
	if db == nil {
		return nil
	}
	q := p.poolLocked(db, user)
	q.clients.Add(1)
	return q
}

// begin puts the trial into the queue of its pool, unless nobody is left who
// waits for it.
func (k *trial) begin() {
	if len(k.askers) == 0 {
		k.leaveCrowd()
		return
	}
	q := k.w.p.poolNamed(k.tried.database, k.tried.user)
	if q == nil {
		k.finish() // the database was removed meanwhile
		return
	}
	s := k.w.shard(q)
	c := s.newInternal(k)
	c.login = k.w.newLogin()
	c.login.trial = k
	k.client = c
	s.wait(c)
	s.provide()
}

// leave is told that the client with that id is gone. A trial that nobody waits
// for gives up its place in the queue; a login under way is let finish.
func (k *trial) leave(id uint64) {
	k.askers = slices.DeleteFunc(k.askers, func(a trialAsker) bool { return a.id == id })
	switch {
	case len(k.askers) > 0:
	case k.client == nil:
		delete(k.w.trials, k.tried)
		k.w.p.guesses.abandon(k)
	case k.client.state == ClientWaiting:
		k.giveUp()
	}
}

// giveUp ends a trial that nobody waits for. Whoever comes from now on begins
// another.
func (k *trial) giveUp() {
	delete(k.w.trials, k.tried)
	k.client.disconnect(false, nobodyWaits)
}

// awaited reports whether somebody waits for the end of k, which may be nil. Each
// login has a timeout of its own, so k needs none then.
func (k *trial) awaited() bool { return k != nil && len(k.askers) > 0 }

// leaveCrowd lets another trial begin that comes from where k does.
func (k *trial) leaveCrowd() {
	if k.crowd {
		k.crowd = false
		k.w.p.guesses.leave(k.from)
	}
}

const nobodyWaits = "nobody waits for the password's trial any more"

// tryOut logs in to a server with the password under trial. The caller took a
// slot, with seat.
func (s *Shard) tryOut(k *trial, seat *seat) {
	p := s.w.p
	if k.known == nil && !p.guesses.allowed(k.from, k.tried.user, s.w.now()) { // others were wrong while it waited
		p.loggedIn(s.pool, seat, s.w.now(), false)
		p.free(s.pool, seat)
		k.over(trialEnd{err: tooManyGuesses})
		return
	}
	o := s.newOpening(seat)
	o.client = k.client
	s.private.pushBack(o)
	r, _ := p.order(s.pool)
	o.port, r.Unwanted = r.Port, o.superseded
	r.Secret, r.Keys = k.password, nil
	s.dial(r, func(session *dial.Session, err error) { s.tried(o, k, session, err) })
}

// tooManyGuesses is what those hear whose password is not tried.
var tooManyGuesses = wire.Fields{Severity: "FATAL", Code: codeProtocol, Message: "too many failed logins, try again later"}

// tried takes in what became of an opening for a trial.
func (s *Shard) tried(o *opening, k *trial, session *dial.Session, err error) {
	s.private.remove(o)
	p, q := s.w.p, s.pool
	switch {
	case err != nil:
		p.loggedIn(q, o.seat, s.w.now(), false)
		p.free(q, o.seat)
		s.refusedTrial(o, k, err)
	case !session.Proof.Asked:
		p.loggedIn(q, o.seat, s.w.now(), false)
		p.free(q, o.seat)
		session.Close()
		k.client.log(Error, "the server asked for no password, so it can't judge one: its pg_hba.conf must not trust the pooler when auth_type is passthrough")
		k.over(trialEnd{})
	default:
		known := &pass{secret: session.Proof.Secret, keys: session.Proof.Keys}
		q.pass.Store(known.taken(s.w.now()))
		q.passLost.Store(false)
		k.over(trialEnd{right: true})
		s.arrived(o, session)
	}
}

// refusedTrial goes on after the login of a trial has failed.
func (s *Shard) refusedTrial(o *opening, k *trial, err error) {
	p, c := s.w.p, k.client
	login := dial.AsLoginError(err)
	if login != nil && login.WrongSecret() {
		// That is nobody's business but theirs who sent it.
		c.log(Info, "the server does not take the password: "+err.Error())
		if k.known != nil {
			s.pool.losePass(k.known)
		}
		p.guesses.wrong(k.tried, k.from, s.w.now())
		k.over(trialEnd{})
		return
	}
	s.failed(o, err)
	switch {
	case c.state != ClientLogin:
	case login != nil && login.Answered() && !login.StartingUp() && !login.Full():
		f := login.Fields()
		if !login.Granted { // else the password is right
			f = forStranger(f)
		}
		k.over(trialEnd{err: f})
	case len(k.askers) == 0:
		k.giveUp()
	default:
		k.leaveCrowd() // nobody learns anything while there is no server
		s.wait(c)      // as everybody does then
		s.provide()
	}
}

// over ends the trial.
func (k *trial) over(end trialEnd) {
	k.end = end
	k.client.disconnect(false, "the password was tried")
}

// Write implements wire.Conn: the pool has an error to tell.
func (k *trial) Write(p []byte) {
	if typ, size, ok, err := wire.Peek(p, maxLookup); ok && err == nil && typ == wire.ErrorResponse && size <= len(p) {
		k.end = trialEnd{err: forStranger(wire.ParseFields(p[wire.HeaderLen:size]))}
	}
}

// Close implements wire.Conn: the client that stands for the trial has come to
// its end. finish is called once the pool is done with what it does.
func (k *trial) Close() { k.w.loop.Post(k.finish) }

// Abort implements wire.Conn.
func (k *trial) Abort() { k.Close() }

// finish tells all who wait. Of a password that was wrong nothing stays.
func (k *trial) finish() {
	if k.w.trials[k.tried] == k { // and not the one that has followed it
		delete(k.w.trials, k.tried)
	}
	k.leaveCrowd()
	for _, a := range k.askers {
		a.tell(k.end)
	}
	if k.client != nil && !k.end.right {
		k.w.p.forgetStranger(k.client.shard.pool)
	}
}

// forgetStranger forgets q, and its user and database, if they are there only
// because of somebody who was not let in.
func (p *Pooler) forgetStranger(q *Pool) {
	p.mu.Lock()
	if q.open > 0 || q.clients.Load() > 0 || q.pass.Load() != nil || q.welcome.Load() != nil {
		p.mu.Unlock()
		return
	}
	p.forgetLocked(q)
	if u := q.user; u.open == 0 && len(u.pools) == 0 && u.clients.Load() == 0 {
		delete(p.users, u.Name)
	}
	if d := q.db; d.auto && d.open == 0 && len(d.pools) == 0 && d.clients.Load() == 0 && !d.paused.Load() && !d.disabled.Load() {
		delete(p.databases, d.Name)
		d.removed.Store(true)
	}
	p.mu.Unlock()
	p.forgetShards([]*Pool{q})
}
