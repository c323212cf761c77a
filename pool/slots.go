package pool

import (
	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/wire"
)

// slots count the servers under one limit, those being opened included. They
// outlive the Database or Pool that they belong to for as long as there are
// any: a successor of the same name goes on counting from there.
type slots struct {
	open      int
	inherited bool // servers of a predecessor may be among them
}

// retired are the slots of what was removed while servers of it were open.
type retired struct {
	databases map[string]*slots
	pools     map[poolKey]*slots
}

func (r *retired) database(name string) *slots { return inherit(r.databases, name) }
func (r *retired) pool(key poolKey) *slots     { return inherit(r.pools, key) }

// retire keeps s for a successor called key, if there is anything to count.
func retire[K comparable](m map[K]*slots, key K, s *slots) map[K]*slots {
	if s.open == 0 {
		return m
	}
	if m == nil {
		m = map[K]*slots{}
	}
	for k, old := range m { // those that came to an end meanwhile
		if old.open == 0 {
			delete(m, k)
		}
	}
	m[key] = s
	return m
}

func inherit[K comparable](m map[K]*slots, key K) *slots {
	s := m[key]
	if s == nil || s.open == 0 {
		return &slots{}
	}
	delete(m, key)
	s.inherited = true
	return s
}

// ask says for what a slot is wanted.
type ask struct {
	now    wire.Time
	oldest wire.Time // since when the pool's oldest waiter waits, 0 if nobody does
	fill   int       // if not 0: only up to so many servers
	anew   bool      // with a secret of its own: that another one was refused does not count
	swap   bool      // the caller closes a server of the pool in the same breath, and this one takes its place
}

// reserve takes a slot for one more server of q: the only place where the
// number of servers goes up. WaitNone means that the slot is the caller's,
// who must open a server or give the slot back with free.
func (p *Pooler) reserve(q *Pool, a ask) WaitReason {
	p.mu.Lock()
	defer p.mu.Unlock()
	if h := p.obstacleLocked(q, a); h != WaitNone {
		return h
	}
	q.open++
	q.logins++
	q.db.open++
	q.user.open++
	q.db.idleSince = 0
	return WaitNone
}

// obstacleLocked is what stands in the way of one more server of q.
func (p *Pooler) obstacleLocked(q *Pool, a ask) WaitReason {
	set := q.settings.Load()
	open, ofDB, ofUser := q.open, q.db.open, q.user.open
	if a.swap {
		open, ofDB, ofUser = open-1, ofDB-1, ofUser-1
	}
	if f := q.failure.Load(); f != nil && a.now < f.until && !a.swap && !(a.anew && f.secret) {
		return WaitBackoff
	}
	if !a.swap && q.logins >= max(1, p.Snapshot().Main.MaxLoginConcurrency) {
		return WaitLogins
	}
	if a.fill > 0 && open >= a.fill {
		return WaitPool
	}
	if set.PoolSize > 0 && open >= set.PoolSize {
		patience := p.Snapshot().Main.ReservePoolTimeout
		switch {
		case a.oldest == 0 || patience == 0 || open >= set.PoolSize+set.ReservePoolSize:
			return WaitPool
		case a.now.Sub(a.oldest) < patience:
			return WaitReserve
		}
		p.log.Log(Warning, "", "pool "+q.name()+": taking connection from reserve_pool")
	}
	if set.MaxDBConnections > 0 && ofDB >= set.MaxDBConnections {
		return WaitDatabase
	}
	if set.MaxUserConnections > 0 && ofUser >= set.MaxUserConnections {
		return WaitUser
	}
	return WaitNone
}

// loggedIn tells that a server that held a slot of q is no longer being
// opened: it is open, or free follows.
func (p *Pooler) loggedIn(q *Pool) {
	p.mu.Lock()
	q.logins--
	p.mu.Unlock()
	p.wakeStarved()
}

// free gives back the slot of a server of q, which is closed, and wakes
// whoever waits for one.
func (p *Pooler) free(q *Pool) {
	p.mu.Lock()
	q.open--
	q.db.open--
	q.user.open--
	p.wakeChoresLocked()
	p.mu.Unlock()
	p.wakeStarved()
}

// wakeStarved lets every shard whose waiters wait for a slot try again. It is
// called where a slot was freed, and where there is a server again that may be
// evicted for them.
func (p *Pooler) wakeStarved() {
	if p.wantSlot.Load() == 0 {
		return
	}
	for _, w := range p.workers {
		if w.starving.Load() > 0 && w.waking.CompareAndSwap(false, true) {
			w.loop.Post(w.feedStarved)
		}
	}
}

// victim is the lane of the server that has been idle for longest among those
// that share the limit h with q, nil if none is idle.
func (p *Pooler) victim(q *Pool, h WaitReason) *lane {
	p.mu.Lock()
	defer p.mu.Unlock()
	among := q.db.pools
	if h == WaitUser {
		among = q.user.pools
	}
	var found *lane
	var oldest int64
	for _, other := range among {
		for i := range other.lanes {
			l := &other.lanes[i]
			if t := l.spare.Load(); t != 0 && (found == nil || t < oldest) {
				found, oldest = l, t
			}
		}
	}
	return found
}

// name is the pool's name for people.
func (p *Pool) name() string { return p.db.Name + "/" + p.user.Name }

// session reports whether the pool's servers stay with their clients.
func (p *Pool) session() bool { return p.settings.Load().PoolMode == configs.PoolSession }
