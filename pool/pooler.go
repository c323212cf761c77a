package pool

import (
	"crypto/tls"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgweir/pgweir/auth"
	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool/dial"
	"github.com/pgweir/pgweir/pool/params"
	"github.com/pgweir/pgweir/wire"
	"github.com/pgweir/pgweir/wire/secure"
)

// Options are what a Pooler needs of the world around it.
type Options struct {
	// Snapshot is the configuration to start with.
	Snapshot *configs.Snapshot

	// Loops are the event loops, one Worker each. They need not run yet.
	Loops []wire.Loop

	// Dialer connects to servers.
	Dialer Dialer

	// ClientTLS is by what the next client that asks for TLS gets it, over TCP;
	// nil, or a nil result, is not at all. It is called on the loops.
	ClientTLS func() *tls.Config

	// Names knows the addresses of servers' names; nil: the Dialer finds them
	// by itself.
	Names *dial.Names

	// Chore runs fn where it may block.
	Chore func(fn func())

	// After runs fn when d has passed, on any goroutine; fn does not block.
	After func(d time.Duration, fn func())

	// Random is read for keys, salts and nonces: crypto/rand.Reader, but in
	// tests. It may be used by all loops at once.
	Random io.Reader

	// Seed seeds what needs no secrecy: jitter.
	Seed uint64

	// Wall is the wall-clock time of the zero wire.Time.
	Wall time.Time

	// Now is the loops' clock, for what runs outside of them.
	Now func() wire.Time

	// UID is the user id of the process: who has the same may use the console
	// over a unix socket.
	UID int

	// Hostname is the name of this machine, for application_name_add_host.
	Hostname string

	// Log takes the log lines.
	Log Logger

	// LDAP returns nil if and only if an LDAP server says that password is
	// that of user. It may block. nil: no LDAP.
	LDAP func(o *configs.LDAP, user, password string) error

	// PAM returns nil if and only if PAM says that password is that of user, who
	// comes from host. It may block. nil: no PAM.
	PAM func(user, password, host string) error

	// Console answers on the admin database. It is set before the loops run.
	Console Console

	// Reload reads the configuration anew. It may block.
	Reload func(old *configs.Snapshot) (*configs.Snapshot, error)

	// Stop is called once, from any goroutine, when a shutdown has come to its
	// end and the process may exit.
	Stop func()

	// CloseListeners is called once, from any goroutine, when a shutdown
	// begins: TCP listeners go, those of unix sockets stay. closed is to be
	// called, on any goroutine, when nobody comes from them any more.
	CloseListeners func(closed func())

	// Poison spoils buffers as soon as nobody may read them any more, so that
	// a test notices who does: those that are given back at once, those that
	// are good for one turn when Check is called.
	Poison bool
}

// Dialer opens connections to servers. Its methods return at once, and call
// back from any goroutine, once.
type Dialer interface {
	// Connect dials and logs in. It sets what r lacks for that: Detach.
	Connect(r dial.Request, done func(*dial.Session, error))

	// Cancel sends a CancelRequest to host, as r's port, options and TLS say,
	// within timeout (0: no limit). When it is connected it calls ready with a function that must be
	// called once: with true to send the request, with false to leave it.
	// done is told the end: nil if and only if the request was sent and the
	// server has dealt with it.
	Cancel(r dial.Request, host string, key []byte, timeout time.Duration, ready func(send func(bool)), done func(error))
}

// Pooler is a whole pooler: what its loops share. A client, a server and all
// that its socket touches belong to one Worker; what is here is either
// immutable, or an atomic, or guarded by mu.
type Pooler struct {
	opts       Options
	log        Logger
	workers    []*Worker
	tracked    *params.Tracked
	verifiers  *auth.Verifiers
	statements statements
	answers    answers
	guesses    guesses
	console    Console

	// handshakes bound how many clients' TLS handshakes compute at once: a
	// storm of them leaves the loops half of the processors at least.
	handshakes secure.Slots

	snapshot atomic.Pointer[configs.Snapshot]
	ids      atomic.Uint64 // SHOW CLIENTS.id: one counter for clients and servers
	clients  atomic.Int32  // client sockets but the console's
	sockets  atomic.Int32  // client sockets, the console's included

	wantSlot  atomic.Int32 // shards whose waiters wait for a slot
	wantSpare atomic.Int32 // of these, those for whom an idle server may be evicted

	paused   atomic.Bool
	shutdown atomic.Uint32 // ShutdownMode
	closed   atomic.Bool   // the TCP listeners are
	drain    atomic.Pointer[draining]
	stopped  sync.Once

	recalls atomic.Int32 // under way
	leaving atomic.Bool  // the process ends when there is none

	// mu guards the registry below and the slots of its members (slots.go). A
	// loop takes it only where a pool is met for the first time and where a
	// server is opened or closed, for a few map operations, and calls nothing
	// that takes another lock.
	mu        sync.Mutex
	databases map[string]*Database
	pools     map[poolKey]*Pool
	users     map[string]*User
	retired   retired
	budgets   map[budgetKey]*budget
	tickets   uint64                    // given to claims
	tenants   map[budgetKey][]*Database // see tenantsLocked; nil: to be found out
	keys      map[string]*auth.Keys     // by user, from SCRAM logins
	peers     map[int]*peer             // by id
	changed   chan struct{}             // closed, and replaced, when waitServers has to look again
	periods   [2]period                 // the begin of the last stats period, and of this one
	reloading sync.Mutex                // held over a whole reload, by chores only
	measuring sync.Mutex                // held while histograms are gathered, by chores only; guards Pool.history

	sums sums // of Check
}

// New makes a Pooler over the loops of o. Nothing happens until the loops run.
func New(o Options) *Pooler {
	p := &Pooler{
		opts:      o,
		log:       o.Log,
		console:   o.Console,
		tracked:   params.NewTracked(o.Snapshot.Main.TrackedParameters()),
		verifiers: auth.NewVerifiers(maxVerifiers, o.Random),
		answers:   newAnswers(),
		guesses:   newGuesses(),
		databases: map[string]*Database{},
		pools:     map[poolKey]*Pool{},
		users:     map[string]*User{},
		budgets:   map[budgetKey]*budget{},
		keys:      map[string]*auth.Keys{},
		peers:     map[int]*peer{},
		changed:   make(chan struct{}),

		handshakes: secure.NewSlots(max(1, runtime.GOMAXPROCS(0)/2)),
	}
	for i, l := range o.Loops {
		p.workers = append(p.workers, newWorker(p, i, l, o.Seed+uint64(i)))
	}
	p.install(o.Snapshot, true)
	return p
}

// maxVerifiers bounds the derived SCRAM secrets that are kept: about 200 bytes
// each.
const maxVerifiers = 10_000

// Worker returns the part of p that runs on loop i.
func (p *Pooler) Worker(i int) *Worker { return p.workers[i] }

// Snapshot is the configuration in force.
func (p *Pooler) Snapshot() *configs.Snapshot { return p.snapshot.Load() }

// Database is a database entry as it runs: what outlives a reload.
type Database struct {
	Name string

	// conf is the entry in force. settings of the pools are made from it.
	conf atomic.Pointer[configs.Database]

	// generation goes up when servers opened so far should not be used again
	// (RECONNECT, a changed entry): they are closed when they are free.
	generation atomic.Uint32

	// superseded is closed when generation goes up, and another takes its place.
	superseded atomic.Pointer[chan struct{}]

	paused, disabled atomic.Bool
	removed          atomic.Bool  // by a reload: nobody may use it any more
	clients          atomic.Int32 // logged in or logging in

	auto bool // made from "*"

	// Guarded by Pooler.mu:
	*slots
	pools     []*Pool
	idleSince wire.Time // auto: without clients and servers since, 0 if with
}

// User is a user as it runs, in either part: clients log in as it, servers are
// logged in to as it. Neither part outlives anything, the counts do.
type User struct {
	Name    string
	clients atomic.Int32 // logged in or logging in
	open    int          // servers, those being opened included; guarded by Pooler.mu
	pools   []*Pool      // guarded by Pooler.mu
}

// Version is pgweir's own version. Compatible is that of the PgBouncer whose
// place it takes, and what it says where a program asks PgBouncer's version.
const (
	Version    = "0.1.0"
	Compatible = "1.26.1"
)

type poolKey struct{ database, user string }

// Pool is all the connections to one database entry as one server-side user.
// Its clients and servers stand in its Shards, one on each loop that has any.
type Pool struct {
	db   *Database
	user *User // the forced user, or the clients' own

	settings atomic.Pointer[configs.PoolSettings]

	// welcome is what a server of the pool said when it was logged in to, nil
	// until one was. It is of use while its generation is the database's.
	welcome atomic.Pointer[welcome]

	// told is the secret that came with the last login that had one, nil if
	// none had.
	told atomic.Pointer[told]

	// pass is what auth_type passthrough knows of the user's password, nil if
	// nothing.
	pass atomic.Pointer[pass]

	// passLost is set if there was a pass that a server did not take any more,
	// and no other has come.
	passLost atomic.Bool

	// failure is the last attempt to open a server, if it failed.
	failure   atomic.Pointer[failure]
	connected atomic.Int32 // servers logged in
	clients   atomic.Int32 // of all loops
	hosts     hosts
	lifeClose atomic.Int64 // wire.Time of the last close for age
	gained    atomic.Int64 // wire.Time when the last server came, or began to be opened

	// lanes are where the loops see each other's idle servers and waiters,
	// one for each worker.
	lanes []lane

	// Guarded by Pooler.mu:
	*slots
	logins  int     // servers being opened
	removed bool    // by a reload, KILL, or time: no server is opened for it any more
	led     budgets // removed: where its servers counted
	idleFor wire.Time
	liveFor wire.Time // when a server was last asked for its limits, 0: ask
	liveOf  uint32    // and of which generation it was

	history history // see latency.go
}

// lane is what one loop's Shard of a pool publishes to the others. Only its
// own loop writes it. A loop that enqueues a waiter publishes that before it
// looks for idle servers elsewhere, and one that keeps a server idle publishes
// that before it looks for waiters elsewhere: so at least one of two that do
// so at the same time sees the other.
type lane struct {
	oldest atomic.Int64 // wire.Time since when the oldest waiter waits for a server like these, 0 if none does
	idle   atomic.Int32 // idle servers
	used   atomic.Int32 // servers to be checked before they are used again
	spare  atomic.Int64 // wire.Time since when the longest unused server is idle, 0 if none is
	shard  atomic.Pointer[Shard]
	_      [32]byte // a cache line each
}

// welcome is what a client is told of the server when it logs in.
type welcome struct {
	generation uint32
	params     []byte        // ParameterStatus messages of what is not tracked
	vars       params.Values // of what is
}

// failure is a failed attempt to open a server.
type failure struct {
	at     wire.Time
	count  int       // in a row
	until  wire.Time // no new attempt before
	login  bool      // the server answered, and refused
	secret bool      // because of the secret
	reason string
}

// key names p.
func (p *Pool) key() poolKey { return poolKey{p.db.Name, p.user.Name} }

// welcomed returns what to tell a new client, or nil if no server of the
// present generation has said it yet.
func (p *Pool) welcomed() *welcome {
	w := p.welcome.Load()
	if w == nil || w.generation != p.db.generation.Load() {
		return nil
	}
	return w
}

// oldestElsewhere is since when the oldest waiter on another loop than i
// waits, and that loop's index; 0 if nobody does.
func (p *Pool) oldestElsewhere(i int) (since wire.Time, at int) {
	for j := range p.lanes {
		if t := wire.Time(p.lanes[j].oldest.Load()); j != i && t != 0 && (since == 0 || t < since) {
			since, at = t, j
		}
	}
	return since, at
}

// idleElsewhere is the index of a loop other than i that has an idle server,
// -1 if none has.
func (p *Pool) idleElsewhere(i int) int {
	for j := range p.lanes {
		if j != i && p.lanes[j].idle.Load() > 0 {
			return j
		}
	}
	return -1
}

// databaseLocked returns the database entry that runs under name, made from "*"
// if need be; nil if there is none.
func (p *Pooler) databaseLocked(name string) *Database {
	if d := p.databases[name]; d != nil {
		return d
	}
	snap := p.Snapshot()
	if snap.AutoDB == nil || name == "" || len(name) > maxDatabaseName || name == consoleDatabase {
		return nil
	}
	d := newDatabase(name, snap.Auto(name), p.retired.database(name))
	d.auto = true
	p.databases[name] = d
	p.tenants = nil
	p.log.Log(Info, "", "registered new auto-database: "+name)
	return d
}

const (
	maxDatabaseName = 63
	maxUserName     = 127
	consoleDatabase = "pgbouncer"
)

// userLocked returns the user called name.
func (p *Pooler) userLocked(name string) *User {
	u := p.users[name]
	if u == nil {
		u = &User{Name: name}
		p.users[name] = u
	}
	return u
}

// enterUser returns the user called name, and counts a client in.
func (p *Pooler) enterUser(name string) *User {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := p.userLocked(name)
	u.clients.Add(1)
	return u
}

// pool returns the pool of db for the server-side user called user, and counts
// n clients in.
func (p *Pooler) pool(db *Database, user string, n int32) *Pool {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.poolLocked(db, user)
	q.clients.Add(n)
	return q
}

func (p *Pooler) poolLocked(db *Database, user string) *Pool {
	key := poolKey{db.Name, user}
	if q := p.pools[key]; q != nil && q.db == db {
		return q
	}
	q := &Pool{db: db, user: p.userLocked(user), lanes: make([]lane, len(p.workers)), slots: p.retired.pool(key)}
	q.configure(p.Snapshot())
	p.sitLocked(q)
	p.pools[key] = q
	db.pools = append(db.pools, q)
	q.user.pools = append(q.user.pools, q)
	return q
}

// told is a secret that was learned by a login: auth_query told it, or the
// client sent its password. It is immutable.
type told struct {
	secret auth.Secret
	keys   *auth.Keys // what a SCRAM login has proved of it, nil if none was needed
	judged bool       // LDAP or PAM took it: it counts more than what auth_file says
}

// learn keeps what a login has told.
func (p *Pool) learn(t told) {
	if old := p.told.Load(); old != nil && t.keys == nil && old.secret.Equal(t.secret) {
		t.keys = old.keys
	}
	p.told.Store(&t)
}

// configure takes the pool's settings from snap.
func (p *Pool) configure(snap *configs.Snapshot) {
	s := snap.ForPool(p.db.conf.Load(), p.user.Name)
	p.settings.Store(&s)
}

// rememberKeys keeps what a SCRAM login of user, whose secret is in the
// auth_file, proved: servers are logged in to as user with it.
func (p *Pooler) rememberKeys(user string, k *auth.Keys) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys[user] = k
}

func (p *Pooler) keysOf(user string) *auth.Keys {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.keys[user]
}
