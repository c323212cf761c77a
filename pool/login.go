package pool

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/pgweir/pgweir/auth"
	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool/params"
	"github.com/pgweir/pgweir/wire"
	"github.com/pgweir/pgweir/wire/secure"
)

// phase is how far a login has come.
type phase uint8

const (
	phaseFirst     phase = iota // expects an untyped packet: requests for encryption, then the StartupMessage
	phaseHandshake              // TLS: expects whatever the handshake does
	phaseExchange               // expects the client's answers
	phaseWorking                // a chore works for the exchange; nothing is read
	phaseGranted                // is who it says; waits for what a server says in its welcome
)

// login is what a client needs until it is welcomed.
type login struct {
	phase    phase
	uid      int // of the process at the other end of a unix socket, else -1
	user     string
	database string
	want     []params.Value // the tracked parameters it asked for; empty if none
	extra    []params.Extra // the others

	replication replication // what kind of connection it is
	own         [][2]string // replication: all parameters that its server is told, as they came

	negoti   bool // it must hear that only protocol 3.0 is spoken
	unknown  []string
	refused  [2]bool // SSLRequest, GSSENCRequest: each is answered once
	exchange auth.Exchange
	late     bool // it came when the TCP listeners were closed
	console  bool // wants the admin console
	admin    bool // and may do everything there

	direct    bool           // it began with TLS, and did not ask for it before
	handshake *shaking       // phaseHandshake
	stream    *secure.Stream // what it has led to

	judged *auth.Judged // auth_type passthrough: the exchange
	tried  tried        // and what came of it
	trying bool         // a trial of it is under way
	trial  *trial       // set for the client that stands for a trial

	question question // what auth_query was asked, zero if nothing
	asking   bool     // and has not answered yet
	told     told     // what servers are logged in to with from now on; KindNone: nothing new
}

// maxFreeLogins bounds what is kept for logins to come.
const maxFreeLogins = 64

func (w *Worker) newLogin() *login {
	n := len(w.freeLogins)
	if n == 0 {
		return &login{}
	}
	l := w.freeLogins[n-1]
	w.freeLogins = w.freeLogins[:n-1]
	return l
}

// endLogin ends the login of c, for better or worse, if it had not ended yet.
func (c *Client) endLogin() {
	l := c.login
	if l == nil {
		return
	}
	if l.asking {
		c.leaveLookup()
	}
	if l.trying {
		c.leaveTrial()
	}
	c.login = nil
	if l.handshake != nil {
		l.handshake.tls.Abort()
	}
	if len(c.w.freeLogins) < maxFreeLogins {
		clear(l.want)
		*l = login{want: l.want[:0]}
		c.w.freeLogins = append(c.w.freeLogins, l)
	}
}

// loginData takes in what comes before the welcome.
func (c *Client) loginData(b []byte) {
	for len(b) > 0 && c.state == ClientLogin {
		var n int
		switch c.login.phase {
		case phaseFirst:
			n = c.firstPacket(b)
		case phaseHandshake:
			n = c.feed(b)
		case phaseExchange:
			n = c.answer(b)
		default:
			n = 0 // more than it may send now: it waits
		}
		if n == 0 {
			break
		}
		b = b[n:]
	}
	switch c.state {
	case ClientClosed:
	case ClientLogin, ClientWaiting:
		c.keepInput(b)
	default:
		c.take(b)
	}
}

// admit counts the client in, against the limits that concern it, and begins
// to ask who it is.
func (c *Client) admit(main *configs.Main) {
	l, p := c.login, c.w.p
	l.console = l.database == consoleDatabase
	if !l.console && !p.admits(c) {
		c.disconnect(true, reasonStopping)
		return
	}
	if l.console {
		if c.unix && l.user == consoleDatabase && l.uid == p.opts.UID {
			c.log(Info, "pgbouncer access from unix socket")
			l.admin = true
			c.user = p.enterUser(l.user)
			c.openConsole()
			return
		}
		if n := main.MaxDBClientConnections; n > 0 && p.consoles() >= n && !c.exempt(main) {
			c.disconnect(true, overDatabase)
			return
		}
	} else {
		if int(p.clients.Load()) > main.MaxClientConn {
			c.disconnect(true, "no more connections allowed (max_client_conn)")
			return
		}
		if !c.enter(false) {
			return
		}
	}
	if l.negoti {
		c.conn.Write(wire.AppendNegotiateProtocolVersion(c.w.scratch[:0], l.unknown))
	}
	secret, known := p.Snapshot().Auth.Lookup(l.user)
	if known || !c.lookUp(main) {
		c.identify(main, auth.ParseSecret(secret), known)
	}
}

// identify asks a client who it is. known says that there is a user of that
// name, whose secret is secret.
func (c *Client) identify(main *configs.Main, secret auth.Secret, known bool) {
	if known && !c.enterAs() {
		return
	}
	if !known && main.AuthType.Listed() {
		c.log(Info, "no such user: "+c.login.user)
	}
	c.prove(main, secret, known)
}

// enterAs counts the client in with the user that it logs in as, unless that is
// done. It reports false if the client was refused.
func (c *Client) enterAs() bool {
	l, p := c.login, c.w.p
	if c.user != nil {
		return true
	}
	c.user = p.enterUser(l.user)
	snap := p.Snapshot()
	set := snap.ForClient(&configs.Database{}, l.user) // no database has a say in it
	if n := set.MaxUserClientConnections; n > 0 && int(c.user.clients.Load()) > n && !c.exempt(&snap.Main) {
		c.disconnect(true, "client connections exceeded (max_user_client_connections)")
		return false
	}
	return true
}

// exempt reports whether c, once it is who it says, may enter the console
// whatever the limits are.
func (c *Client) exempt(main *configs.Main) bool {
	return c.login.console && slices.Contains(main.AdminUsers, c.login.user)
}

// consoles counts the console's clients.
func (p *Pooler) consoles() int { return int(p.sockets.Load() - p.clients.Load()) }

// overDatabase is why a client is refused that is one too many for its database.
const overDatabase = "client connections exceeded (max_db_client_connections)"

// enter counts the client in with the database it asked for. One that is to be
// made from "*" is made only for a client that is who it says: make. It reports
// false if the client was refused; a database that there is not refuses nobody
// yet.
func (c *Client) enter(make bool) bool {
	p, l := c.w.p, c.login
	if c.db = p.enter(l.database, make); c.db == nil {
		return true
	}
	set := p.Snapshot().ForClient(c.db.conf.Load(), l.user)
	if n := set.MaxDBClientConnections; n > 0 && int(c.db.clients.Load()) > n {
		c.disconnect(true, overDatabase)
		return false
	}
	return true
}

// exchange begins an exchange, as soon as what it needs is there.
func (c *Client) exchange(m auth.Method, main *configs.Main, secret auth.Secret, known bool) {
	p, l := c.w.p, c.login
	if !auth.NeedsVerifier(m, secret) {
		c.startExchange(auth.New(m, l.user, secret, !known, nil, p.opts.Random))
		return
	}
	iterations := main.ScramIterations
	if v, ok := p.verifiers.Lookup(l.user, secret, iterations); ok {
		c.startExchange(auth.New(m, l.user, secret, !known, v, p.opts.Random))
		return
	}
	var v *auth.Verifier
	user := l.user
	c.chore(func() { v = p.verifiers.Derive(user, secret, iterations) }, func() {
		c.startExchange(auth.New(m, user, secret, !known, v, p.opts.Random))
	})
}

func (c *Client) startExchange(e auth.Exchange) {
	if s := c.login.stream; s != nil {
		auth.Bind(e, auth.EndPoint(s.Own()))
	}
	c.login.exchange = e
	c.login.phase = phaseExchange
	c.w.scratch = e.Start(c.w.scratch[:0])
	c.conn.Write(c.w.scratch)
}

// chore runs work where it may take its time, and then on the loop, unless the
// client is gone by then. Nothing is read meanwhile.
func (c *Client) chore(work, then func()) {
	c.login.phase = phaseWorking
	c.conn.Pause()
	c.w.p.opts.Chore(func() {
		work()
		c.w.loop.Post(func() { c.resume(then) })
	})
}

// resume goes on with a login that had to wait for something, unless the
// client is gone: with then, and with what it sent meanwhile.
func (c *Client) resume(then func()) {
	if c.state != ClientLogin {
		return
	}
	then()
	if c.state == ClientClosed || c.state == ClientWaiting || c.login != nil && c.login.phase == phaseWorking {
		return
	}
	c.conn.Resume()
	if b := c.held; b != nil {
		c.held = nil
		c.take(b)
		c.w.drop(b)
	}
}

// maxAnswer bounds the messages of an exchange: a password has up to 64 KiB.
const maxAnswer = 1<<16 + wire.HeaderLen

// answer deals with the message at the begin of b, as firstPacket does.
func (c *Client) answer(b []byte) int {
	if b[0] == 0 {
		c.disconnect(true, "client re-sent startup pkt")
		return 0
	}
	typ, size, ok, err := wire.Peek(b, maxAnswer)
	switch {
	case err != nil:
		c.disconnect(true, badHeader(b))
		return 0
	case !ok || size > len(b):
		return 0
	case typ == wire.Terminate:
		c.disconnect(false, "client close request")
		return 0
	case typ != wire.Password:
		c.disconnect(false, "bad packet")
		return 0
	}
	c.step(b[wire.HeaderLen:size])
	return size
}

// step takes the exchange one message further.
func (c *Client) step(body []byte) {
	e := c.login.exchange
	out, verdict := e.Step(c.w.scratch[:0], body)
	c.w.scratch = out
	if len(out) > 0 {
		c.conn.Write(out)
	}
	switch verdict {
	case auth.More:
	case auth.Busy:
		if c.login.judged != nil {
			c.judge()
			return
		}
		c.chore(e.Work, func() {
			c.login.phase = phaseExchange
			c.step(nil)
		})
	case auth.Accepted:
		main := &c.w.p.Snapshot().Main
		c.proved(e.Result())
		c.login.exchange = nil
		if c.enterAs() { // whom only somebody else knows was not counted yet
			c.proven(main)
		}
	default:
		c.forgetAnswer()
		c.disconnect(true, e.Reason())
	}
}

// proved notes what an exchange that went well has left for logging in to
// servers.
func (c *Client) proved(r auth.Result) {
	l := c.login
	switch {
	case r.Keys != nil && l.told.secret.Kind() == auth.KindSCRAM: // auth_query's
		l.told.keys = r.Keys
	case r.Keys != nil:
		c.w.p.rememberKeys(l.user, r.Keys)
	case r.Password.Kind() != auth.KindNone && l.judged == nil:
		l.told.secret = r.Password
	}
}

// granted goes on with a client that is who it says: only now it is told
// whether the database exists, and whether its plan has room.
func (c *Client) granted(main *configs.Main) {
	l, p := c.login, c.w.p
	l.phase = phaseGranted
	if main.LogConnections {
		c.log(Info, "login attempt: db="+l.database+" user="+l.user+" tls="+cmp.Or(c.tls(), "no"))
	}
	if l.console {
		if !l.admin && main.AuthType != configs.AuthAny && !slices.Contains(main.StatsUsers, l.user) {
			c.disconnect(true, "not allowed")
			return
		}
		c.openConsole()
		return
	}
	if c.db == nil && !c.enter(true) {
		return
	}
	if c.db == nil || c.db.removed.Load() {
		c.disconnect(true, "no such database: "+l.database)
		return
	}
	if c.db.disabled.Load() {
		c.disconnect(true, fmt.Sprintf("database %q is disabled", l.database))
		return
	}
	forced := c.db.conf.Load().User
	name := forced
	if name == "" {
		name = l.user
	}
	if main.AuthType == configs.AuthAny {
		if forced == "" {
			c.disconnect(true, "bouncer config error")
			return
		}
		if c.user == nil {
			c.user = p.enterUser(forced)
		}
	}
	c.shard = c.w.shard(p.pool(c.db, name, 1))
	c.db.inside.Add(1)
	if plan := c.db.conf.Load().Plan; plan != nil && !p.fits(c.db, plan) {
		c.fail(overPlan(plan))
		return
	}
	if forced == "" && l.told.secret.Kind() != auth.KindNone {
		c.shard.pool.learn(l.told)
	}
	switch wel := c.shard.pool.welcomed(); {
	case l.replication != replicatesNot:
	case wel != nil:
		c.welcome(wel)
		return
	default:
		c.shard.logins++
	}
	c.shard.wait(c)
	// A server that was logged in to on another loop meanwhile did not see us
	// waiting: provide looks again.
	c.shard.provide()
}
