package pool

import (
	"crypto/sha256"
	"sync/atomic"

	"github.com/pgweir/pgweir/auth"
	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool/dial"
	"github.com/pgweir/pgweir/wire"
)

// With auth_type passthrough the database itself judges passwords, by a login
// as the client with what the client has sent (trial.go). Kept is what later
// logins to the same pool need, and only here, in memory.

// pass is what is known of the password of a pool's user, because a server has
// taken it. But for at it is immutable: whoever finds it wrong finds it by its
// address.
type pass struct {
	secret auth.Secret  // the password itself only if the server asked for that
	keys   *auth.Keys   // if the server asked for SCRAM
	at     atomic.Int64 // a wire.Time: when a server took it last
}

// taken notes that a server has taken s, at now.
func (s *pass) taken(now wire.Time) *pass {
	s.at.Store(int64(now))
	return s
}

// outdatedPass is what clients hear that were let in by a password which the
// database turns out to have changed: what they would hear if they came now.
func outdatedPass(user string) *dial.LoginError {
	message := "password authentication failed for user \"" + user + "\""
	return &dial.LoginError{Kind: dial.Refused, Reason: message, Server: wire.Fields{Severity: "FATAL", Code: "28P01", Message: message}}
}

// passOutdated is what clients hear of a login that was refused because of such
// a password: no secret of the configuration is wrong.
func (q *Pool) passOutdated(login *dial.LoginError) *dial.LoginError {
	if login.Kind == dial.BadSecret {
		return outdatedPass(q.user.Name)
	}
	return login
}

// tried names a password that a client has sent.
type tried struct {
	database, user string
	print          [sha256.Size]byte
}

// passthrough begins the login of a client whose password the database judges.
// Users with a secret in the auth_file are judged by that.
func (c *Client) passthrough(main *configs.Main, secret auth.Secret, known bool) {
	switch {
	case !c.unix && !c.encrypted():
		c.disconnect(true, "password authentication needs TLS or a unix socket here")
	case known && secret.Kind() != auth.KindNone:
		c.exchange(auth.MethodPlain, main, secret, known)
	default:
		c.login.judged = auth.NewJudged("password authentication failed")
		c.startExchange(c.login.judged)
	}
}

// judge has the password that c has sent judged. Nothing is read meanwhile.
func (c *Client) judge() {
	l, p := c.login, c.w.p
	password := l.judged.Password()
	l.tried = tried{l.database, l.user, p.verifiers.Fingerprint(l.database, l.user, password)}
	conf := p.Snapshot().Auto(l.database)
	if c.db != nil {
		conf = c.db.conf.Load()
	}
	switch {
	case l.console || conf == nil:
		c.judged(trialEnd{}) // there is nobody to ask, which a stranger need not know
		return
	case conf.User != "":
		c.log(Error, "auth_type passthrough can't judge passwords for database "+l.database+": servers are logged in to as "+conf.User+" there")
		c.disconnect(true, reasonConfig)
		return
	}
	known := p.passOf(l.tried)
	if known == nil {
		l.phase = phaseWorking
		c.conn.Pause()
		c.try(nil)
		return
	}
	fits, user := false, l.user
	c.chore(func() { fits = known.secret.Fits(user, password, p.verifiers) }, func() {
		switch {
		case !fits:
			c.try(nil) // unless it was changed on the database
		case late(c.w.now(), wire.Time(known.at.Load()), p.Snapshot().Main.AuthPassthroughCache) || p.Snapshot().Main.AuthPassthroughCache == 0:
			c.try(known)
		default:
			c.judged(trialEnd{right: true})
		}
	})
}

// passOf is what is known of the password of a user in a database, nil if
// nothing is.
func (p *Pooler) passOf(t tried) *pass {
	p.mu.Lock()
	q := p.pools[poolKey{t.database, t.user}]
	p.mu.Unlock()
	if q == nil {
		return nil
	}
	return q.pass.Load()
}

// try has a server judge, unless it has refused that password a moment ago, or
// too many others from where c is. known is what was right until lately and is
// what c has sent: it is no guess.
func (c *Client) try(known *pass) {
	l, w := c.login, c.w
	from := c.origin()
	if known == nil {
		if w.p.guesses.refused(l.tried, w.now()) {
			c.judged(trialEnd{})
			return
		}
		if !w.p.guesses.allowed(from, l.user, w.now()) {
			c.log(Warning, "too many wrong passwords from there: this one is not tried")
			c.fail(tooManyGuesses)
			return
		}
	}
	l.trying = true
	t, password := l.tried, l.judged.Password()
	a := trialAsker{c.id, func(end trialEnd) {
		w.loop.Post(func() {
			c.resume(func() {
				c.login.trying = false
				c.judged(end)
			})
		})
	}}
	at := w.p.workerOf(t.user)
	at.loop.Post(func() { at.try(t, password, known, from, a) })
}

// judged goes on with a login whose password was judged.
func (c *Client) judged(end trialEnd) {
	if end.err.Message != "" {
		c.fail(end.err)
		return
	}
	l := c.login
	l.judged.Judge(end.right)
	l.phase = phaseExchange
	c.step(nil)
}

// origin is where c comes from, as far as guesses are counted.
func (c *Client) origin() origin {
	if c.unix {
		return origin{uid: c.login.uid}
	}
	addr := c.remote.Addr().Unmap()
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64 // whoever has one address has all of these
	}
	network, _ := addr.Prefix(bits) // bits fit
	return origin{network: network}
}

// leaveTrial tells the trial that c does not wait for it any more.
func (c *Client) leaveTrial() {
	t, id, at := c.login.tried, c.id, c.w.p.workerOf(c.login.tried.user)
	at.loop.Post(func() {
		if k := at.trials[t]; k != nil {
			k.leave(id)
		}
	})
}
