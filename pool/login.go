package pool

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pgweir/pgweir/auth"
	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool/dial"
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
	want     []value     // the tracked parameters it asked for; empty if none
	extra    []parameter // the others
	negoti   bool        // it must hear that only protocol 3.0 is spoken
	unknown  []string
	refused  [2]bool // SSLRequest, GSSENCRequest: each is answered once
	exchange auth.Exchange
	console  bool // wants the admin console
	admin    bool // and may do everything there

	handshake *secure.Handshake // phaseHandshake
	shaking   bool              // its chore was started
	stream    *secure.Stream    // what it has led to

	question question    // what auth_query was asked, zero if nothing
	asking   bool        // and has not answered yet
	secret   auth.Secret // as auth_query told it, or the password that was right; else KindNone
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
	c.login = nil
	if l.handshake != nil {
		l.handshake.Abort()
	}
	if len(c.w.freeLogins) < maxFreeLogins {
		clear(l.want)
		*l = login{want: l.want[:0]}
		c.w.freeLogins = append(c.w.freeLogins, l)
	}
}

// want notes that the client asks for a value of the i-th tracked parameter.
func (c *Client) want(i int, text string) {
	l, n := c.login, len(c.w.p.tracked.names)
	if len(l.want) == 0 {
		l.want = slices.Grow(l.want, n)[:n]
	}
	l.want[i] = value{text, true}
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

// firstPacket deals with the untyped packet at the begin of b. It returns its
// length, 0 if there is nothing to go on with now.
func (c *Client) firstPacket(b []byte) int {
	if b[0] == typeHandshake && !c.encrypted() {
		if config := c.offersTLS(); config != nil {
			c.startTLS(config)
			return c.feed(b)
		}
	}
	f, size, ok, err := wire.PeekFirst(b)
	switch {
	case err != nil && b[0] == wire.Password:
		c.disconnect(true, "client password pkt before startup packet")
		return 0
	case err != nil:
		c.disconnect(true, badHeader(b))
		return 0
	case !ok:
		return 0
	}
	switch f.Kind {
	case wire.FirstSSL:
		return c.requestTLS(b, size)
	case wire.FirstGSSENC:
		return c.refuseEncryption(b, size, &c.login.refused[1], "GSSAPI encryption")
	case wire.FirstOld:
		c.disconnect(true, "old V2 protocol not supported")
		return 0
	case wire.FirstCancel:
		c.endLogin()
		c.cancelRequest(f.Key)
	case wire.FirstStartup:
		if c.w.p.Snapshot().Main.ClientTLSSSLMode.Required() && !c.unix && !c.encrypted() {
			c.disconnect(true, "SSL required")
			return 0
		}
		c.startup(f)
	}
	return size
}

// refuseEncryption answers the request of that size at the begin of b: there
// is none. A client that asks again is refused, for it could have answers pile
// up. It returns what firstPacket does.
func (c *Client) refuseEncryption(b []byte, size int, refused *bool, what string) int {
	switch {
	case len(b) > size:
		c.disconnect(true, "received unencrypted data after "+what+" request")
		return 0
	case *refused:
		c.disconnect(true, badHeader(b))
		return 0
	}
	*refused = true
	c.conn.Write([]byte{'N'})
	return size
}

// startup deals with the StartupMessage.
func (c *Client) startup(f wire.First) {
	l, main := c.login, &c.w.p.Snapshot().Main
	l.negoti = f.Minor > 0
	var refused string
	err := f.Params(func(name, value []byte) bool {
		refused = c.startupParam(main, name, string(value))
		return refused == ""
	})
	if err != nil {
		refused = err.Error()
	}
	if refused != "" {
		c.disconnect(true, refused)
		return
	}
	if l.database == "" {
		l.database = l.user
	}
	if l.user == "" {
		c.disconnect(true, "no username supplied")
		return
	}
	if len(l.user) > maxUserName {
		c.disconnect(true, "username too long")
		return
	}
	if main.ApplicationNameAddHost {
		c.addHost()
	}
	c.admit(main)
}

// startupParam takes one parameter of the StartupMessage. It returns what to
// refuse the client with, empty if nothing is wrong.
func (c *Client) startupParam(main *configs.Main, key []byte, value string) string {
	l := c.login
	switch string(key) {
	case "user":
		l.user = value
		return ""
	case "database":
		l.database = value
		return ""
	case "replication":
		if replication(value) {
			return "replication connections are not supported"
		}
		return ""
	case "options":
		return c.startupOptions(main, value)
	}
	if i, ok := c.w.p.tracked.index[string(key)]; ok { // no copy of a name that is as it should be
		c.want(i, value)
		return ""
	}
	name := string(key)
	switch {
	case strings.HasPrefix(name, "_pq_."):
		l.negoti = true
		l.unknown = append(l.unknown, name)
		return ""
	case c.wantParam(name, value), slices.Contains(main.IgnoreStartupParameters, name), c.wantExtra(name, value):
		return ""
	}
	c.log(Warning, fmt.Sprintf("unsupported startup parameter: %s=%s", name, value))
	return "unsupported startup parameter: " + name
}

// wantParam notes the value of a tracked parameter. It reports whether the
// parameter is tracked.
func (c *Client) wantParam(name, value string) bool {
	i, ok := c.w.p.tracked.lookup(name)
	if ok {
		c.want(i, value)
	}
	return ok
}

// startupOptions takes the parameters out of options, which is a command line:
// words with backslashes as escapes, "-c name=value" or "--name=value".
func (c *Client) startupOptions(main *configs.Main, options string) string {
	ignoreOthers := slices.Contains(main.IgnoreStartupParameters, "options")
	words := splitOptions(options)
	for i := 0; i < len(words); i++ {
		word := words[i]
		switch {
		case word == "-c" && i+1 < len(words):
			i++
			word = words[i]
		case strings.HasPrefix(word, "-c") && word != "-c":
			word = word[2:]
		case strings.HasPrefix(word, "--"):
			word = word[2:]
		default:
			word = ""
		}
		name, value, ok := strings.Cut(word, "=")
		switch {
		case !ok || name == "":
			if !ignoreOthers {
				return "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed"
			}
		case c.wantParam(name, value), ignoreOthers, slices.Contains(main.IgnoreStartupParameters, name), c.wantExtra(name, value):
		default:
			c.log(Warning, fmt.Sprintf("unsupported startup parameter in options: %s=%s", name, value))
			return "unsupported startup parameter in options: " + name
		}
	}
	return ""
}

// splitOptions splits at white space that no backslash stands before.
func splitOptions(s string) (words []string) {
	var word []byte
	in := false
	for i := 0; i < len(s); i++ {
		switch ch := s[i]; {
		case ch == '\\' && i+1 < len(s):
			i++
			word, in = append(word, s[i]), true
		case strings.IndexByte(" \t\n\v\f\r", ch) >= 0:
			if in {
				words, word, in = append(words, string(word)), nil, false
			}
		default:
			word, in = append(word, ch), true
		}
	}
	if in {
		words = append(words, string(word))
	}
	return words
}

// replication reports whether the value of the parameter asks for replication.
func replication(value string) bool {
	v := strings.ToLower(value)
	return v == "database" || v == "1" || v == "on" || v != "" && (strings.HasPrefix("true", v) || strings.HasPrefix("yes", v))
}

// addHost puts the client's address into its application_name.
func (c *Client) addHost() {
	t := c.w.p.tracked
	i, _ := t.lookup("application_name")
	app := "app"
	if w := c.login.want; len(w) > 0 && w[i].known && w[i].text != "" {
		app = w[i].text
	}
	from := c.from()
	if c.unix {
		p := c.w.p
		from = fmt.Sprintf("unix(%d@%s):%d", c.pid, p.opts.Hostname, p.Snapshot().Main.ListenPort)
	}
	c.wantParam("application_name", app+" - "+from)
}

// admit counts the client in, against the limits that concern it, and begins
// to ask who it is.
func (c *Client) admit(main *configs.Main) {
	l, p := c.login, c.w.p
	l.console = l.database == consoleDatabase
	if p.Stopping() && !l.console {
		c.disconnect(true, "pooler is shutting down")
		return
	}
	if l.console {
		if c.unix && l.user == consoleDatabase && l.uid == p.opts.UID {
			c.log(Info, "pgbouncer access from unix socket")
			l.admin = true
			c.openConsole()
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
	if !known && main.AuthType != configs.AuthAny && main.AuthType != configs.AuthLDAP {
		c.log(Info, "no such user: "+c.login.user)
	}
	c.prove(main, secret, known)
}

// enterAs counts the client in with the user that it logs in as, unless that is
// done. It reports false if the client was refused.
func (c *Client) enterAs() bool {
	l, p := c.login, c.w.p
	if l.console || c.user != nil {
		return true
	}
	c.user = p.user(l.user)
	c.user.clients.Add(1)
	set := p.Snapshot().ForClient(&configs.Database{}, l.user) // no database has a say in it
	if n := set.MaxUserClientConnections; n > 0 && int(c.user.clients.Load()) > n {
		c.disconnect(true, "client connections exceeded (max_user_client_connections)")
		return false
	}
	return true
}

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
		c.disconnect(true, "client connections exceeded (max_db_client_connections)")
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
		c.chore(e.Work, func() {
			c.login.phase = phaseExchange
			c.step(nil)
		})
	case auth.Accepted:
		main := &c.w.p.Snapshot().Main
		if k := e.Result().Keys; k != nil {
			c.w.p.rememberKeys(c.login.user, k)
		}
		if password := e.Result().Password; password.Kind() != auth.KindNone {
			c.login.secret = password
		}
		c.login.exchange = nil
		if c.enterAs() { // whom only somebody else knows was not counted yet
			c.proven(main)
		}
	default:
		c.forgetAnswer()
		c.disconnect(true, e.Reason())
	}
}

// granted goes on with a client that is who it says: only now it is told
// whether the database exists.
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
			c.user = p.user(forced)
			c.user.clients.Add(1)
		}
	}
	c.shard = c.w.shard(p.pool(c.db, name, 1))
	if forced == "" && l.secret.Kind() != auth.KindNone {
		secret := l.secret
		c.shard.pool.secret.Store(&secret)
	}
	if wel := c.shard.pool.welcomed(); wel != nil {
		c.welcome(wel)
		return
	}
	c.shard.logins++
	c.shard.wait(c)
	// A server that was logged in to on another loop meanwhile did not see us
	// waiting: provide looks again.
	c.shard.provide()
}

// welcomeWaiters welcomes those who waited for a server to say how.
func (s *Shard) welcomeWaiters() {
	wel := s.pool.welcomed()
	if wel == nil {
		return
	}
	s.waiting.each(func(c *Client) {
		if c.login != nil {
			c.welcome(wel)
		}
	})
	s.publishWaiters()
}

// wakeWaiters lets each loop that has waiters of q look at them again.
func (p *Pooler) wakeWaiters(q *Pool) {
	for i := range q.lanes {
		if s := q.lanes[i].shard.Load(); s != nil && q.lanes[i].oldest.Load() != 0 {
			s.w.loop.Post(s.provide)
		}
	}
}

// greeting is what a client is told at the end of its login, but for its key.
// Those who come next mostly are of the same application, and are told the
// same.
type greeting struct {
	wel      *welcome
	settings *configs.PoolSettings
	snap     *configs.Snapshot
	want     []value
	extra    []parameter
	vars     vars
	extras   extras
	text     []byte
}

// greet is the greeting for clients that ask for want and extra. What of want
// the server does not report is one of the extras too.
func (s *Shard) greet(wel *welcome, want []value, extra []parameter) *greeting {
	p := s.w.p
	snap, settings := p.Snapshot(), s.pool.settings.Load()
	if g := s.greeting; g != nil && g.wel == wel && g.settings == settings && g.snap == snap && slices.Equal(g.want, want) && slices.Equal(g.extra, extra) {
		return g
	}
	t := p.tracked
	values := wel.vars.values(t)
	var unreported []parameter
	for i, v := range want {
		switch {
		case v.known && values[i].known:
			values[i] = v
		case v.known:
			unreported = append(unreported, parameter{t.names[i], v.text})
		}
	}
	b := wire.AppendAuthOk(nil)
	b = append(b, wel.params...)
	for i, v := range values {
		if v.known {
			b = wire.AppendParameterStatus(b, t.names[i], v.text)
		}
	}
	b = wire.AppendParameterStatus(b, "pgbouncer.version", Compatible)
	b = wire.AppendParameterStatus(b, "pgbouncer.pool_mode", settings.PoolMode.String())
	b = wire.AppendParameterStatus(b, "pgbouncer.max_prepared_statements", strconv.Itoa(snap.Main.MaxPreparedStatements))
	s.greeting = &greeting{
		wel, settings, snap, slices.Clone(want), slices.Clone(extra), makeVars(values), makeExtras(append(unreported, extra...)), b,
	}
	return s.greeting
}

// welcome ends the login: the client learns what it needs to know of the
// server, and may ask.
func (c *Client) welcome(wel *welcome) {
	w := c.w
	g := c.shard.greet(wel, c.login.want, c.login.extra)
	c.vars, c.extras = g.vars, g.extras
	c.newKey()
	b := wire.AppendBackendKeyData(append(w.scratch[:0], g.text...), c.key)
	if m := g.snap.Main.LoginNotifyMessage; m != "" {
		b = wire.AppendNotice(b, wire.Fields{Severity: "NOTICE", Code: "00000", Message: m})
	}
	b = wire.AppendReadyForQuery(b, wire.TxIdle)
	w.scratch = b
	c.endLogin()
	c.shard.stats.ClientLogins++
	c.conn.Write(b)
	waited := c.state == ClientWaiting
	c.move(ClientIdle)
	if waited {
		c.shard.logins--
		w.loop.Post(c.proceed) // its input may have to wait again: not from within the queue
	}
}

// newKey makes the key for cancel requests: random, positive as a process id.
func (c *Client) newKey() {
	if _, err := c.w.p.opts.Random.Read(c.key[:]); err != nil {
		panic("no randomness: " + err.Error())
	}
	c.key[0] &= 0x7f
	stampKey(&c.key, c.w.p.Snapshot().Main.PeerID)
}

// readParams sorts what a server reported at login: messages for what is not
// tracked, and the values of what is.
func (p *Pooler) readParams(params []dial.Param) (untracked []byte, v vars) {
	values := make([]value, len(p.tracked.names))
	for _, s := range params {
		if i, ok := p.tracked.lookup(s.Name); ok {
			values[i] = value{s.Value, true}
		} else {
			untracked = wire.AppendParameterStatus(untracked, s.Name, s.Value)
		}
	}
	return slices.Clip(untracked), makeVars(values)
}
