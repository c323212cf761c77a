package pool

import (
	"sync/atomic"

	"github.com/pgweir/pgweir/wire"
)

// slots count the servers under one limit. They outlive the Database or Pool
// that they belong to for as long as there are any: a successor of the same name
// goes on counting from there, and both count in the same place.
type slots struct {
	open      int          // being opened, open, and taking their leave
	leaving   int          // of these, taking their leave
	size      atomic.Int32 // open less leaving; written under mu
	seat      *seat        // of a pool: that of its servers to come, nil if it leads nowhere
	seats     []*seat      // of a pool: also those of servers that are open still
	inherited bool         // servers of a predecessor may be among them
}

// count counts servers in and out. The caller holds mu.
func (s *slots) count(open, leaving int) {
	s.open += open
	s.leaving += leaving
	s.size.Store(int32(s.open - s.leaving))
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

// ask says for what a slot is wanted, and what came of it.
type ask struct {
	now     wire.Time
	shard   *Shard    // whose waiters want it, nil if nobody waits
	oldest  wire.Time // since when the oldest of them waits; 0: not out of the reserve
	fill    int       // if not 0: only up to so many servers
	anew    bool      // with a secret of its own: that another one was refused does not count
	instead bool      // of a server that works: no back-off and no other login stands in the way

	seat   *seat   // WaitNone: the server's
	budget *budget // WaitPlan: the one that has no room
}

// reserve takes a slot for one more server of q: the only place where the
// number of servers goes up. WaitNone means that the slot is the caller's,
// who must open a server or give the slot back with free.
func (p *Pooler) reserve(q *Pool, a *ask) WaitReason {
	p.mu.Lock()
	h := p.obstacleLocked(q, a)
	var had budgets
	if h == WaitNone {
		q.count(1, 0)
		q.logins++
		q.db.count(1, 0)
		q.user.open++
		q.db.idleSince = 0
		q.gained.Store(int64(a.now))
		a.seat = q.seat
		had = a.seat.take(a.shard)
	}
	next := append(had.nextLocked(a.now), q.seat.all().nextLocked(a.now)...) // there may be room for more than one
	p.mu.Unlock()
	if h == WaitNone {
		wakeShards(next)
	}
	return h
}

// obstacleLocked is what stands in the way of one more server of q.
func (p *Pooler) obstacleLocked(q *Pool, a *ask) WaitReason {
	if q.removed {
		return WaitPause
	}
	set := q.settings.Load()
	if f := q.failure.Load(); f != nil && a.now < f.until && !a.instead && !(a.anew && f.secret) {
		return WaitBackoff
	}
	if !a.instead && q.logins >= max(1, p.Snapshot().Main.MaxLoginConcurrency) {
		return WaitLogins
	}
	if a.fill > 0 && q.open >= a.fill {
		return WaitPool
	}
	reserved := set.PoolSize > 0 && q.open >= set.PoolSize
	if reserved {
		patience := p.Snapshot().Main.ReservePoolTimeout
		switch {
		case a.oldest == 0 || patience == 0 || q.open >= set.PoolSize+set.ReservePoolSize:
			return WaitPool
		case a.now.Sub(a.oldest) < patience:
			return WaitReserve
		}
	}
	if set.MaxDBConnections > 0 && q.db.open >= set.MaxDBConnections {
		return WaitDatabase
	}
	if set.MaxUserConnections > 0 && q.user.open >= set.MaxUserConnections {
		return WaitUser
	}
	if a.budget = q.seat.all().refuses(a); a.budget != nil {
		return WaitPlan
	}
	if reserved {
		p.log.Log(Warning, "", "pool "+q.name()+": taking connection from reserve_pool")
	}
	return WaitNone
}

// loggedIn tells that a server of q that took its seat is no longer being
// opened: it is open (ok), or free follows.
func (p *Pooler) loggedIn(q *Pool, t *seat, now wire.Time, ok bool) {
	p.mu.Lock()
	q.logins--
	if ok {
		q.gained.Store(int64(now))
	}
	t.loggedIn(now, ok)
	q.seat.update() // another one, since a reload
	next := t.all().nextLocked(now)
	p.mu.Unlock()
	wakeShards(next)
	p.wakeStarved()
}

// free gives back the slot of a server of q, which is closed, and wakes
// whoever waits for one.
func (p *Pooler) free(q *Pool, t *seat) { p.vacate(q, t, 0) }

// vacate is free; leaving is 1 for a server that was taking its leave.
func (p *Pooler) vacate(q *Pool, t *seat, leaving int) {
	p.mu.Lock()
	q.count(-1, -leaving)
	q.db.count(-1, 0)
	q.user.open--
	t.count(-1, 0, -leaving)
	for _, b := range t.all() {
		p.sweepLocked(b)
	}
	q.seat.update() // another one, since a reload
	next := append(t.all().nextLocked(p.opts.Now()), q.seat.all().nextLocked(p.opts.Now())...)
	p.wakeChoresLocked()
	last := leaving > 0 && q.leaving == 0
	p.mu.Unlock()
	if last {
		p.wakeWaiters(q) // somebody else may have the slot that one of them has counted on
	}
	wakeShards(next)
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

// sharingLocked are the pools that share the limit h with q, q among them. leaving
// tells whether any server takes its leave that counts there, also one of a pool
// that was removed.
func (p *Pooler) sharingLocked(q *Pool, h WaitReason) (among []*Pool, leaving bool) {
	among = q.db.pools
	if h == WaitUser {
		among = q.user.pools
	}
	for _, other := range among {
		leaving = leaving || other.leaving > 0
	}
	for key, s := range p.retired.pools {
		if key.database == q.db.Name && h == WaitDatabase || key.user == q.user.Name && h == WaitUser {
			leaving = leaving || s.leaving > 0
		}
	}
	return among, leaving
}

// victim is the lane of the server that has been idle for longest among those of
// other pools that share the limit h with q, nil if none is idle.
func (p *Pooler) victim(q *Pool, h WaitReason) *lane {
	p.mu.Lock()
	defer p.mu.Unlock()
	among, leaving := p.sharingLocked(q, h)
	if leaving {
		return nil // a slot will be free soon
	}
	var found *lane
	var oldest int64
	for _, other := range among {
		if other == q {
			continue // what it has is checked, or comes over
		}
		for i := range other.lanes {
			l := &other.lanes[i]
			if t := l.spare.Load(); t != 0 && (found == nil || t < oldest) {
				found, oldest = l, t
			}
		}
	}
	return found
}
