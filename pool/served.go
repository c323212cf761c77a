package pool

import (
	"github.com/pgweir/pgweir/wire"
)

// checkServed checks that whoever waits must. Nothing is under way between the
// loops.
func (s *Shard) checkServed() {
	if s.asked {
		bug("%v waits for the answer of another loop, which does not come", s)
	}
	q := s.pool
	if s.waiting.n == 0 || s.paused() || q.lanes[s.w.index].shard.Load() != s {
		return
	}
	if !s.reasonHolds() {
		bug("%v is said to wait for %v, which is not so", s, s.reason())
	}
	served := s.next() == nil // by what takes its leave, and not by servers that are idle
	unused, tested := 0, 0
	for i := range q.lanes {
		if o := q.lanes[i].shard.Load(); o != nil {
			if o.idle.n != 0 && !served {
				bug("%v has a waiter, and an idle server stands on loop %d", s, i)
			}
			unused += o.used.n
			tested += o.tested.n
		}
	}
	if unused != 0 && !served && s.opening.n+tested <= 0 {
		bug("%v has a waiter, and nobody checks the servers that were unused for long", s)
	}
	if s.opening.n+s.tested.n >= s.waiting.n {
		return
	}
	a := ask{now: s.w.now(), shard: s, oldest: s.waiting.head.queryStart}
	h := s.w.p.roomFor(q, &a)
	if h == WaitBackoff || h == WaitReserve {
		return // time passes
	}
	if r := s.retry(); r != 0 && a.now < r.Add(2*TickEvery) {
		return // and the next tick
	}
	if h == WaitNone {
		bug("%v has %d waiters, %d servers to come, and room for another (held by %v)", s, s.waiting.n, s.opening.n+s.tested.n, s.held)
	}
	if h == WaitPlan || s.held == WaitPlan {
		s.checkClaim(h, a.budget)
		return
	}
	if !s.held.lifted() {
		bug("%v is held by %v, would have to wait for %v, and would not hear that it is over", s, s.held, h)
	}
	if h.evicts() && h == s.held { // else another limit holds it too
		among, leaving := s.w.p.sharingLocked(q, h)
		if leaving {
			return // a slot will be free soon
		}
		for _, other := range among {
			for i := range other.lanes {
				if other != q && other.lanes[i].spare.Load() != 0 {
					bug("%v is held by %v, and %v has an idle server to close", s, h, other)
				}
			}
		}
	}
}

// reasonHolds reports whether the reason that the waiters of s are told is true.
func (s *Shard) reasonHolds() bool {
	q, set := s.pool, s.pool.settings.Load()
	switch s.reason() {
	case WaitOpening:
		return s.opening.n > 0 || q.logins > 0 || s.held == WaitPool // slots that are about to be free
	case WaitCheck:
		return s.tested.n > 0
	case WaitLogins:
		return q.logins >= max(1, s.w.p.Snapshot().Main.MaxLoginConcurrency)
	case WaitBackoff:
		return q.failure.Load() != nil
	case WaitPool, WaitReserve:
		return set.PoolSize > 0 && q.open >= set.PoolSize
	case WaitDatabase:
		return set.MaxDBConnections > 0 && q.db.open >= set.MaxDBConnections
	case WaitUser:
		return set.MaxUserConnections > 0 && q.user.open >= set.MaxUserConnections
	case WaitPlan:
		a := ask{now: s.w.now(), shard: s, oldest: s.waiting.head.queryStart}
		return s.claims != nil && (!s.claims.admits(&a) || s.retry() != 0) // the next tick tries
	}
	return false // a server from another loop is here by now, and there is no pause
}

// retry is until when the budget that holds s lets nobody try, 0 if it has not
// refused anybody.
func (s *Shard) retry() wire.Time {
	if s.claims == nil || s.claims.refusal == nil {
		return 0
	}
	return s.claims.refusal.until
}

// checkClaim checks that s, which waits for h, hears when it is over. b is the
// budget if there is one in the way.
func (s *Shard) checkClaim(h WaitReason, b *budget) {
	if !s.held.lifted() && s.held != WaitPlan {
		bug("%v is held by %v, would have to wait for %v, and would not hear that it is over", s, s.held, h)
	}
	if s.claims != b || b.coming() > b.rank(s) || s.resting {
		return // another limit holds it too, something is on its way, or it looks again in a moment
	}
	now := s.w.now()
	for _, q := range b.pools {
		for i := range q.lanes {
			t := wire.Time(q.lanes[i].spare.Load())
			if t != 0 && q != s.pool && !q.waits() && now.Sub(t) >= rest+2*TickEvery {
				bug("%v is held by %v, and %v has an idle server to close", s, b.key, q)
			}
		}
	}
}

// roomFor says what reserve would, and takes nothing. The caller holds p.mu.
func (p *Pooler) roomFor(q *Pool, a *ask) WaitReason {
	set, main := q.settings.Load(), &p.Snapshot().Main
	full, reserve := set.PoolSize > 0 && q.open >= set.PoolSize, false
	if full && main.ReservePoolTimeout > 0 && q.open < set.PoolSize+set.ReservePoolSize {
		reserve = true
	}
	f := q.failure.Load()
	switch {
	case f != nil && a.now < f.until.Add(2*TickEvery):
		return WaitBackoff // and the next tick
	case q.logins >= max(1, main.MaxLoginConcurrency):
		return WaitLogins
	case full && !reserve:
		return WaitPool
	case full && a.now.Sub(a.oldest) < main.ReservePoolTimeout+2*TickEvery:
		return WaitReserve // and the next tick
	case set.MaxDBConnections > 0 && q.db.open >= set.MaxDBConnections:
		return WaitDatabase
	case set.MaxUserConnections > 0 && q.user.open >= set.MaxUserConnections:
		return WaitUser
	}
	if a.budget = q.seat.all().refuses(a); a.budget != nil {
		return WaitPlan
	}
	return WaitNone
}

// String names q in failures, as those of Shard and Server do.
