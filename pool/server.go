package pool

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/pgweir/pgweir/auth"
	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool/certs"
	"github.com/pgweir/pgweir/pool/dial"
	"github.com/pgweir/pgweir/wire"
)

// Server is a connection to Postgres, logged in. It belongs to its shard's
// loop, and to one client at most.
type Server struct {
	links[Server]
	ends
	conn   wire.Conn
	shard  *Shard
	client *Client // the other half of the pair, nil if none
	ledger ledger

	seat      *seat
	prepared  prepared
	bareOf    uint64     // id of the client whose unnamed statement it has, 0 if none is known
	bare      *statement // what of that the client keeps in its names, nil if nothing
	pending   *sqlWork   // of the Query that changes names and is not answered yet; nil if none
	again     []byte     // of the batch under way, if it may be asked again and nothing of it was answered
	repeating bool       // it is asked again
	blind     bool       // the statement being told is bound by a client that does not ask what its result looks like
	bound     bound      // the portal that was bound last, if it is of interest
	asking    bool       // its client waits for the shape of a statement
	strays    bool       // it may have statements under names of the client's own choice
	common    bool       // connect_query has prepared statements for everybody

	// What an Execute means for names: of the statement that was told last, of
	// the unnamed statement, of portals by name. nil: nothing.
	toldSQL, bareSQL *ref
	portals          map[string]*ref

	local []byte // answers of pgweir's own that go out with what follows

	part    []byte // the begin of a message that must be seen whole, or of a header
	remain  int    // bytes of the message that is passing through
	swallow bool   // and it goes to nobody

	state    ServerState
	job      job
	jobError string // what the server said to the job, if it failed
	status   wire.TxStatus
	stalled  bool // not read, because the client does not take its replies
	leaving  bool // released in the middle of a read: offered at its end
	retired  bool // its address is not to be used any more
	fits     bool // jobRole: it is what the entry wants
	standby  bool // it was one when it was logged in, and the entry prefers those

	replication replication // of the one client that it was opened for

	generation uint32
	cancels    int // cancel requests on their way to it

	vars      vars
	before    vars // jobSets: what they were
	extras    extras
	had       extras // jobSets: what they were
	strayed   bool   // somebody else may have changed what extras tells
	id        uint64
	key       []byte    // for cancel requests
	name      string    // of the host, as configured
	host      string    // as dialled
	connected wire.Time // when it was logged in
	since     wire.Time // of the state it is in
	asked     wire.Time // when the job began
}

func (v *Server) at() *links[Server] { return &v.links }

// job is a query of pgweir's own that runs on a server.
type job uint8

const (
	jobNone    job = iota
	jobSets        // the client's parameters; the client waits
	jobReset       // server_reset_query
	jobForget      // DEALLOCATE ALL, because of strays
	jobCheck       // server_check_query
	jobConnect     // connect_query
	jobProbe       // which Syncs did a failed COPY swallow? see ledger.doubt
	jobRole        // is it what target_session_attrs asks for?
	jobLive        // how many connections does it allow?
)

// list is where v stands, nil if in no list.
func (v *Server) list() *list[Server, *Server] {
	switch v.state {
	case ServerIdle:
		return &v.shard.idle
	case ServerUsed:
		return &v.shard.used
	case ServerTested:
		return &v.shard.tested
	case ServerActive:
		return &v.shard.busy
	case ServerBeingCanceled:
		return &v.shard.canceled
	}
	return nil
}

// move is the only place where a server changes its state, and its list with
// it.
func (v *Server) move(to ServerState) {
	if serverExits[v.state]&(1<<to) == 0 {
		panic(fmt.Sprintf("BUG: server %d: %v -> %v", v.id, v.state, to))
	}
	if l := v.list(); l != nil {
		l.remove(v)
	}
	v.state = to
	switch l := v.list(); {
	case l == nil:
	case to == ServerIdle && !v.shard.w.p.Snapshot().Main.ServerRoundRobin && !v.obsolete():
		l.pushFront(v)
	default:
		l.pushBack(v)
	}
}

// obsolete reports whether v may finish what it does and nothing more:
// PgBouncer's close_needed.
func (v *Server) obsolete() bool {
	return v.retired || v.generation != v.shard.pool.db.generation.Load()
}

// opening is a server that is being connected and logged in. It holds a slot.
type opening struct {
	links[opening]
	shard      *Shard
	seat       *seat
	client     *Client // the one that it is for, if it is for one alone
	pass       *pass   // what it logs in with, if that comes from passthrough
	without    bool    // it has nothing to log in with, because the pass was lost
	generation uint32
	since      wire.Time
	id         uint64
}

func (o *opening) at() *links[opening] { return &o.links }

// connect opens one more server, for which the caller took a slot, with seat.
func (s *Shard) connect(seat *seat) {
	o := s.newOpening(seat)
	r := o.order()
	s.opening.pushBack(o)
	s.dial(r, func(session *dial.Session, err error) { s.connected(o, session, err) })
}

// order is what o's connection is asked for by. o notes what it logs in with.
func (o *opening) order() (r dial.Request) {
	q := o.shard.pool
	r, o.pass = o.shard.w.p.order(q)
	o.without = r.PasswordCommand == "" && r.Secret.Kind() == auth.KindNone && q.passLost.Load()
	return r
}

func (s *Shard) newOpening(seat *seat) *opening {
	return &opening{shard: s, seat: seat, generation: s.pool.db.generation.Load(), since: s.w.now(), id: s.w.p.ids.Add(1)}
}

// dial connects to whichever host's turn it is, and tells done on the loop.
func (s *Shard) dial(r dial.Request, done func(*dial.Session, error)) {
	p := s.w.p
	s.pool.choose(p, &r, s.w.now())
	p.opts.Dialer.Connect(r, func(session *dial.Session, err error) {
		if !s.w.loop.Post(func() { done(session, err) }) && session != nil {
			session.Close()
		}
	})
}

// newServer is the server that o has led to, in no list yet. It counts as
// logged in.
func (s *Shard) newServer(o *opening, session *dial.Session, own vars) *Server {
	p, q := s.w.p, s.pool
	p.loggedIn(q, o.seat, s.w.now(), true)
	q.hosts.works(session.Name, q.db.conf.Load().Hosts, q.db.conf.Load().LoadBalanceHosts)
	q.connected.Add(1)
	s.latencies[LatencyConnect].Record(s.w.now().Sub(o.since))
	return &Server{
		shard: s, seat: o.seat, id: o.id, generation: o.generation, key: session.Key, name: session.Name, host: session.Host, standby: session.Standby,
		connected: s.w.now(), status: wire.TxIdle, ends: endsOf(session.Socket), vars: own,
	}
}

// order says how to log in to a server of q, and with which pass, if with one.
func (p *Pooler) order(q *Pool) (r dial.Request, known *pass) {
	conf := q.db.conf.Load()
	main := p.Snapshot().Main
	r = dial.Request{
		Port:           conf.Port,
		User:           q.user.Name,
		Verifiers:      p.verifiers,
		Random:         p.opts.Random,
		Options:        p.socketOptions(),
		ConnectTimeout: main.ServerConnectTimeout,
		TLS:            certs.ForServers(&main),
	}
	r.Params = append(r.Params, [2]string{"database", conf.DBName})
	for _, param := range [][2]string{
		{"client_encoding", conf.ClientEncoding},
		{"datestyle", conf.DateStyle},
		{"timezone", conf.TimeZone},
		{"application_name", conf.ApplicationName},
	} {
		if param[1] != "" {
			r.Params = append(r.Params, param)
		}
	}
	r.Params = append(r.Params, [2]string{"user", q.user.Name})
	if r.PasswordCommand = conf.PasswordCommand; r.PasswordCommand == "" {
		r.Secret, r.Keys, known = p.serverSecret(q)
	}
	return r, known
}

// socketOptions are those of the sockets that the pooler opens.
func (p *Pooler) socketOptions() dial.Options {
	main := &p.Snapshot().Main
	return dial.Options{
		Keepalive:   main.TCPKeepalive,
		Idle:        time.Duration(main.TCPKeepIdle) * time.Second,
		Interval:    time.Duration(main.TCPKeepIntvl) * time.Second,
		Count:       main.TCPKeepCnt,
		UserTimeout: time.Duration(main.TCPUserTimeout) * time.Millisecond,
		Buffer:      main.TCPSocketBuffer,
	}
}

// connected takes in what became of an opening.
func (s *Shard) connected(o *opening, session *dial.Session, err error) {
	s.opening.remove(o)
	p, q := s.w.p, s.pool
	if err != nil {
		p.loggedIn(q, o.seat, s.w.now(), false)
		p.free(q, o.seat)
		s.failed(o, err)
		return
	}
	if o.pass != nil {
		o.pass.taken(s.w.now())
	}
	s.arrived(o, session)
}

// arrived takes in the server that o has led to, for whoever needs it first.
func (s *Shard) arrived(o *opening, session *dial.Session) {
	p, q := s.w.p, s.pool
	untracked, vars := p.readParams(session.Params)
	v := s.newServer(o, session, vars)
	if v.attrs() != configs.SessionAny {
		v.roleKnown() // the login saw to it
	}
	if !v.attach(session.Socket) {
		s.provide()
		return
	}
	if q.failure.Swap(nil) != nil {
		p.wakeWaiters(q) // the back-off is over
	}
	if p.Snapshot().Main.LogConnections {
		v.log(Info, "new connection to server (from "+v.to()+")")
	}
	if v.obsolete() {
		v.close("connect string changed", true)
		s.provide()
		return
	}
	if q.welcomed() == nil {
		q.welcome.Store(&welcome{v.generation, untracked, vars})
		p.wakeWaiters(q)
	}
	if v.liveDue() {
		v.run(jobLive, liveQuery)
		return
	}
	v.begin()
}

// begin goes on with v, which is logged in and knows what its server allows.
func (v *Server) begin() {
	if query := v.shard.pool.db.conf.Load().ConnectQuery; query != "" {
		v.run(jobConnect, query)
		return
	}
	v.shard.w.offer(v)
}

// attach puts v's socket on v's loop. It reports whether that worked; if not, v
// is closed.
func (v *Server) attach(socket wire.Socket) bool {
	conn, err := v.shard.w.loop.Attach(socket, v)
	if err != nil {
		v.log(Error, "cannot take in a server connection: "+err.Error())
		v.dead()
		return false
	}
	v.conn = conn
	return true
}

// lost gives up a server whose new loop has stopped.
func (v *Server) lost(socket wire.Socket) {
	dial.CloseSocket(socket)
	v.dead()
}

// dead ends a server that has no connection.
func (v *Server) dead() {
	v.forgetStatements()
	v.move(ServerClosed)
	v.shard.pool.connected.Add(-1)
	v.shard.w.p.free(v.shard.pool, v.seat)
}

// failed notes that a server could not be opened, and tells those who must not
// wait any longer.
func (s *Shard) failed(o *opening, err error) {
	p, q := s.w.p, s.pool
	prefix := "S: " + q.name() + "@" + q.db.conf.Load().Host + ":" + strconv.Itoa(q.db.conf.Load().Port)
	p.log.Log(Warning, prefix, err.Error())
	login := dial.AsLoginError(err)
	if o.passRefused(login) {
		q.losePass(o.pass)
		if _, _, known := p.serverSecret(q); known != nil && known != o.pass {
			s.provide() // a client has told the new password meanwhile: no reason to wait
			return
		}
		login = q.passOutdated(login)
	}
	f := &failure{at: s.w.now(), count: 1, reason: err.Error()}
	if last := q.failure.Load(); last != nil {
		f.count = last.count + 1
	}
	f.until = f.at.Add(s.backoff(f.count))
	scope, isFull := full(login)
	if login != nil {
		f.reason = login.Reason
		f.login = login.Answered() && !(login.StartingUp() && q.several())
		f.secret = login.WrongSecret()
	}
	if isFull {
		s.refused(o.seat, scope, login)
		f.login = false
	} else {
		q.failure.Store(f)
	}
	p.log.Log(Info, prefix, fmt.Sprintf("closing because: %s (age=%ds)", f.reason, int(f.at.Sub(o.since)/time.Second)))
	if f.login && (q.connected.Load() == 0 || q.welcomed() == nil) && !login.StartingUp() {
		p.each(func(w *Worker) {
			if s := w.shards[q.key()]; s != nil {
				s.refuseWaiters(login)
			}
		})
	}
	s.provide()
}

// passRefused reports whether login says that a password which a client had
// sent, and which is not in the configuration, is not right any more.
func (o *opening) passRefused(login *dial.LoginError) bool {
	return login != nil && login.WrongSecret() && (o.pass != nil || o.without)
}

// losePass forgets known, which a server has not taken, unless another is known
// by now.
func (q *Pool) losePass(known *pass) {
	if known != nil && q.pass.CompareAndSwap(known, nil) {
		q.passLost.Store(true)
	}
}

// refuseWaiters tells everybody who waits for a server of a pool whose server
// refuses the login.
func (s *Shard) refuseWaiters(login *dial.LoginError) {
	s.waiting.each(func(c *Client) {
		if c.login == nil || c.login.trial == nil { // which has another secret to try
			c.fail(login.Fields())
		}
	})
}

// backoff is how long not to try again after the n-th failure in a row: from a
// quarter of a second doubling up to server_login_retry, a fifth more or less.
func (s *Shard) backoff(n int) time.Duration {
	longest := s.w.p.Snapshot().Main.ServerLoginRetry
	if s.pool.several() {
		longest = min(longest, time.Second) // any of them may be the new primary
	}
	d := min(longest, 250*time.Millisecond<<min(n-1, 16))
	return time.Duration(float64(d) * (0.8 + 0.4*s.w.rng.Float64()))
}

// run sends a query of pgweir's own.
func (v *Server) run(j job, query string) {
	v.job, v.jobError, v.asked = j, "", v.shard.w.now()
	v.bareOf = 0 // a Query takes the unnamed statement away
	switch j {
	case jobSets, jobProbe:
	default:
		if j != jobRole {
			v.since = v.shard.w.now()
		}
		if v.state != ServerTested {
			v.move(ServerTested)
		}
		v.shard.publishIdle()
	}
	e := owedQuery | owedSwallow
	if j == jobProbe {
		e |= owedProbe
	}
	v.ledger.push(e)
	w := v.shard.w
	w.scratch = wire.AppendQuery(w.scratch[:0], query)
	v.conn.Write(w.scratch)
}

// check sends the check query, if there is one.
func (v *Server) check() {
	query := v.shard.w.p.Snapshot().Main.ServerCheckQuery
	if query == configs.NoCheckQuery {
		query = ";"
	}
	v.run(jobCheck, query)
}

// setVars tells v the parameters of c, as far as they are not its own. It
// reports whether c has to wait for that.
func (v *Server) setVars(c *Client) bool {
	if c.vars == v.vars && c.extras == v.extras && !v.strayed {
		return false
	}
	w := v.shard.w
	sets := appendSets(w.scratch[:0], w.p.tracked, v.vars, c.vars)
	sets = appendExtras(sets, v.extras, c.extras, v.strayed)
	v.had, v.extras, v.strayed = v.extras, c.extras, false
	w.scratch = sets
	if len(sets) == 0 {
		return false
	}
	v.before = v.vars
	v.run(jobSets, string(sets))
	return true
}

// jobDone ends the job of v, whose ReadyForQuery has come.
func (v *Server) jobDone() {
	j := v.job
	v.job = jobNone
	w, s := v.shard.w, v.shard
	switch j {
	case jobSets:
		c := v.client
		if v.jobError != "" || v.status != wire.TxIdle {
			v.refusedSets(c)
			return
		}
		c.vars = c.vars.adopt(w.p.tracked, v.before, v.vars)
		if v.setVars(c) {
			return // the server's own configuration changed meanwhile
		}
		c.proceed()
		s.varsTold(v)
	case jobReset, jobForget, jobCheck:
		if v.jobError != "" || v.status != wire.TxIdle {
			reason := "test query failed"
			if j != jobCheck {
				reason = "reset query failed"
			}
			v.close(reason, true)
			s.provide()
			return
		}
		if j == jobForget {
			v.settle()
			return
		}
		if j == jobReset {
			v.afterReset()
			return
		}
		if v.attrs() != configs.SessionAny {
			v.askRole() // while it was unused nobody asked
			return
		}
		w.offer(v)
	case jobRole:
		v.roleTold()
	case jobLive:
		v.liveTold()
	case jobConnect:
		if v.jobError != "" {
			w.p.log.Log(Warning, v.prefix(), "exec_on_connect query failed: "+v.jobError)
		}
		if v.status != wire.TxIdle {
			v.close("exec_on_connect query failed", true)
			s.provide()
			return
		}
		w.offer(v)
	}
}

// unpair ends the pair of v and its client, which is over for the client and
// clear for the server. settle follows.
func (v *Server) unpair() {
	c := v.client
	c.server, v.client = nil, nil
	v.unstall()
	v.move(ServerLoose)
	c.move(ClientIdle)
	c.unstall()
}

// unstall goes on reading after the client took what was queued for it.
func (v *Server) unstall() {
	if v.stalled {
		v.stalled = false
		v.conn.Resume()
	}
}

// settle sends a server that was used, and is loose now, where it belongs:
// closed, reset, checked, or to the next client. The order is PgBouncer's.
func (v *Server) settle() {
	s := v.shard
	switch {
	case v.overAge():
		s.pool.lifeClose.Store(int64(s.w.now()))
		v.close("server lifetime over", true)
		s.provide()
	case v.obsolete():
		v.close("close_needed", true)
		s.provide()
	case v.yields():
		v.close("given up for "+WaitPlan.String(), true)
		s.provide()
	case v.cancels > 0:
		v.move(ServerBeingCanceled)
	case v.strays && v.common:
		v.close("prepared statements of unknown names", true)
		s.provide()
	case v.strays:
		v.run(jobForget, "DEALLOCATE ALL")
	default:
		main := s.w.p.Snapshot().Main
		if main.ServerResetQuery != "" && (s.pool.session() || main.ServerResetQueryAlways) {
			v.run(jobReset, main.ServerResetQuery)
			return
		}
		v.afterReset()
	}
}

// afterReset is the rest of settle.
func (v *Server) afterReset() {
	s := v.shard
	if v.state == ServerLoose && v.roleDue() {
		v.since = s.w.now()
		v.askRole()
		return
	}
	main := s.w.p.Snapshot().Main
	if main.ServerCheckDelay == 0 && main.ServerCheckQuery != "" && v.state == ServerLoose {
		if s.waiting.n > 0 {
			v.check()
			return
		}
		v.since = s.w.now()
		v.move(ServerUsed)
		s.publishIdle()
		s.help()
		return
	}
	s.w.offer(v)
}

// refusedSets ends c, whose parameters v did not take. All of them were told in
// one query, so v has those that it had before.
func (v *Server) refusedSets(c *Client) {
	s := v.shard
	s.w.p.log.Log(Warning, v.prefix(), "varcache_apply failed: "+v.jobError)
	v.extras, v.strayed = v.had, true
	if v.status != wire.TxIdle {
		v.close(reasonParameter, true)
		return
	}
	c.fail(wire.Fields{Severity: "FATAL", Code: codeProtocol, Message: reasonParameter, Detail: v.jobError})
	s.varsTold(v)
}

const reasonParameter = "invalid server parameter"

// overAge reports whether v is older than server_lifetime, and no other server
// of its pool was closed for that so lately that they would all go at once.
func (v *Server) overAge() bool {
	set := v.shard.pool.settings.Load()
	now := v.shard.w.now()
	if now.Sub(v.connected) < set.ServerLifetime {
		return false
	}
	gap := set.ServerLifetime
	if set.PoolSize > 0 {
		gap /= time.Duration(set.PoolSize)
	}
	last := wire.Time(v.shard.pool.lifeClose.Load())
	return last == 0 || now.Sub(last) >= gap
}

// close ends v, for reason. A client that is paired with it is closed too.
// polite says that the server is listening and may be told.
func (v *Server) close(reason string, polite bool) {
	if v.state == ServerClosed {
		return
	}
	s := v.shard
	if s.w.p.Snapshot().Main.LogDisconnections {
		v.log(Info, fmt.Sprintf("closing because: %s (age=%ds)", reason, int(s.w.now().Sub(v.connected)/time.Second)))
	}
	c, lingers := v.client, false
	v.client = nil
	v.move(ServerClosed)
	v.shard.w.drop(v.part)
	v.part = nil
	v.forgetStatements()
	if polite && v.ledger.clear() && v.remain == 0 && v.conn.Queued() == 0 {
		v.conn.Write([]byte{wire.Terminate, 0, 0, 0, 4})
		lingers = v.leave()
	} else {
		v.conn.Abort()
	}
	s.publishIdle()
	s.pool.connected.Add(-1)
	if !lingers {
		s.w.p.free(s.pool, v.seat)
	}
	if c != nil {
		c.server = nil
		c.disconnect(!v.torn(), reason)
	}
	s.varsTold(v)
}

// Drained implements wire.Handler.
func (v *Server) Drained() {
	if c := v.client; c != nil {
		c.unstall()
	}
	if v.client != nil {
		v.rest()
	}
}

// Closed implements wire.Handler.
func (v *Server) Closed(err error) {
	if v.state == ServerClosed {
		return
	}
	s, waiting := v.shard, v.shard.waiting.n > 0
	reason := "server conn crashed?"
	if err != nil && err != io.EOF && v.client == nil {
		reason = "server conn crashed?: " + err.Error()
	}
	v.close(reason, false)
	if waiting {
		s.provide()
	}
}

// prefix names v in log lines.
func (v *Server) prefix() string {
	return fmt.Sprintf("S-%#x: %s@%s", v.id, v.shard.pool.name(), v.from())
}

func (v *Server) log(level Level, text string) { v.shard.w.p.log.Log(level, v.prefix(), text) }
