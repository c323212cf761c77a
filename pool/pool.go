package pool

import (
	"sync/atomic"

	"github.com/pgweir/pgweir/auth"
	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool/params"
	"github.com/pgweir/pgweir/wire"
)

// Database is a database entry as it runs: what outlives a reload.
type Database struct {
	Name string

	// conf is the entry in force. settings of the pools are made from it.
	conf atomic.Pointer[configs.Database]

	// generation goes up when servers opened so far should not be used again
	// (RECONNECT, a changed entry): they are closed when they are free.
	generation atomic.Uint32

	paused, disabled atomic.Bool
	removed          atomic.Bool  // by a reload: nobody may use it any more
	clients          atomic.Int32 // logged in or logging in
	inside           atomic.Int32 // of those, who have proved who they are: they count for the plan

	auto bool // made from "*"

	// Guarded by Pooler.mu:
	*slots
	superseded chan struct{} // closed when generation goes up, and another takes its place
	pools      []*Pool
	idleSince  wire.Time // auto: without clients and servers since, 0 if with
}

// User is a user as it runs, in either part: clients log in as it, servers are
// logged in to as it. Neither part outlives anything, the counts do.
type User struct {
	Name    string
	clients atomic.Int32 // logged in or logging in
	open    int          // servers, those being opened included; guarded by Pooler.mu
	pools   []*Pool      // guarded by Pooler.mu
}

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

// name is the pool's name for people.
func (p *Pool) name() string { return p.db.Name + "/" + p.user.Name }

// session reports whether the pool's servers stay with their clients.
func (p *Pool) session() bool { return p.settings.Load().PoolMode == configs.PoolSession }
