package pool

import (
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/pgweir/pgweir/auth"
	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool/params"
	"github.com/pgweir/pgweir/wire/secure"
)

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

// Version is pgweir's own version. Compatible is that of the PgBouncer whose
// place it takes, and what it says where a program asks PgBouncer's version.
const (
	Version    = "0.1.0"
	Compatible = "1.26.1"
)

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
