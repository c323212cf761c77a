package pool

import (
	"fmt"
	"strconv"
	"time"

	"github.com/pgweir/pgweir/auth"
	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool/certs"
	"github.com/pgweir/pgweir/pool/dial"
	"github.com/pgweir/pgweir/pool/latency"
	"github.com/pgweir/pgweir/pool/params"
	"github.com/pgweir/pgweir/wire"
)

// opening is a server that is being connected and logged in. It holds a slot.
type opening struct {
	links[opening]
	shard      *Shard
	seat       *seat
	client     *Client // the one that it is for, if it is for one alone
	pass       *pass   // what it logs in with, if that comes from passthrough
	without    bool    // it has nothing to log in with, because the pass was lost
	generation uint32
	superseded <-chan struct{} // closed when the database's generation is another
	since      wire.Time
	id         uint64
	port       int // that it is asked for
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
	o.port, r.Unwanted = r.Port, o.superseded
	o.without = r.PasswordCommand == "" && r.Secret.Kind() == auth.KindNone && q.passLost.Load()
	return r
}

func (s *Shard) newOpening(seat *seat) *opening {
	p, d := s.w.p, s.pool.db
	p.mu.Lock() // a RELOAD in between would leave us without its word
	defer p.mu.Unlock()
	return &opening{shard: s, seat: seat, generation: d.generation.Load(), superseded: d.superseded, since: s.w.now(), id: p.ids.Add(1)}
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
func (s *Shard) newServer(o *opening, session *dial.Session, own params.Values) *Server {
	p, q := s.w.p, s.pool
	p.loggedIn(q, o.seat, s.w.now(), true)
	q.hosts.works(session.Name, q.db.conf.Load().Hosts, q.db.conf.Load().LoadBalanceHosts)
	q.connected.Add(1)
	s.latencies[latency.Connect].Record(s.w.now().Sub(o.since))
	return &Server{
		shard: s, seat: o.seat, id: o.id, generation: o.generation, key: session.Key,
		name: session.Name, host: session.Host, port: o.port, standby: session.Standby,
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

// superseded gives up o, whose server nobody could use any more. That it has
// failed says nothing of the servers that are wanted now.
func (s *Shard) superseded(o *opening) {
	prefix := fmt.Sprintf("S-%#x: %s", o.id, s.pool.name())
	s.w.p.log.Log(Info, prefix, fmt.Sprintf("closing because: connect string changed (age=%ds)", int(s.w.now().Sub(o.since)/time.Second)))
	s.provide()
}

// newDatabase returns a Database that runs conf, under a name that may be another.
func newDatabase(name string, conf *configs.Database, slots *slots) *Database {
	d := &Database{Name: name, slots: slots, superseded: make(chan struct{})}
	d.conf.Store(conf)
	return d
}

// supersedeLocked has the servers of d that were opened so far closed as soon as
// nobody uses them, and those that are being opened given up. What failed until
// now keeps nobody from trying again.
func (d *Database) supersedeLocked() {
	d.generation.Add(1)
	close(d.superseded)
	d.superseded = make(chan struct{})
	for _, q := range d.pools {
		q.failure.Store(nil)
	}
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

// failed notes that a server could not be opened, and tells those who must not
// wait any longer.
func (s *Shard) failed(o *opening, err error) {
	p, q := s.w.p, s.pool
	if o.generation != q.db.generation.Load() {
		s.superseded(o)
		return
	}
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
