package pool

import (
	"fmt"

	"github.com/pgweir/pgweir/wire"
)

// How the pools of a budget come to their share. A shard that the budget keeps
// waiting has a claim. Seats go to the claim whose pool has fewest servers. If
// there is none, idle servers of other pools are closed, longest unused first;
// and a pool that has more servers than the one with the claim gives one up
// when it is released. So pools that want more than there is end up with as
// many as each other, and where that can't be they take turns.

// overdue reports whether q has had its turn.
func (q *Pool) overdue(now wire.Time) bool {
	return now.Sub(wire.Time(q.gained.Load())) >= turn
}

// richer reports whether q has to give one of its servers to a pool with n.
func (q *Pool) richer(n int, now wire.Time) bool {
	size := int(q.size.Load())
	return size > n+1 || size == n+1 && q.overdue(now)
}

// yields reports whether v, which was released, is to be closed for somebody
// else's claim, or because a budget has shrunk.
func (v *Server) yields() bool {
	q, now := v.shard.pool, v.shard.w.now()
	for _, b := range v.seat.all() {
		if n := b.claim.Load(); n != claimNone && q.richer(int(n), now) {
			return true
		}
	}
	return false
}

// exceeded reports whether a budget of l has shrunk below what is open.
func (l budgets) exceeded() bool {
	for _, b := range l {
		if b.claim.Load() == claimAll {
			return true
		}
	}
	return false
}

// offer tells those who wait for a seat of v that v is idle.
func (v *Server) offer() {
	p := v.shard.w.p
	for _, b := range v.seat.all() {
		if b.claim.Load() == claimNone {
			continue
		}
		p.mu.Lock()
		s := b.seeker
		p.mu.Unlock()
		if s != nil {
			wakeShards([]*Shard{s})
		}
	}
}

// seek has an idle server closed for s, whose claim b can't meet.
func (s *Shard) seek(b *budget) {
	if s.seeking {
		return
	}
	p := s.w.p
	p.mu.Lock()
	l, later := b.victim(s, s.w.now())
	p.mu.Unlock()
	switch {
	case l != nil:
		from := l.shard.Load()
		s.seeking = from.w.loop.Post(func() { from.surrender(b, s) })
	case later && !s.resting:
		s.resting = true
		p.opts.After(rest, func() {
			s.w.loop.Post(func() {
				s.resting = false
				s.provide()
			})
		})
	}
}

// victim is the lane of the server that was unused for longest among those that
// may be closed for s, nil if there is none. later says that there will be one
// if it stays unused.
func (b *budget) victim(s *Shard, now wire.Time) (found *lane, later bool) {
	if b.coming() > b.rank(s) {
		return nil, false // what comes is for s
	}
	var oldest int64
	for _, q := range b.pools {
		if q == s.pool {
			continue
		}
		for i := range q.lanes {
			l := &q.lanes[i]
			t := l.spare.Load()
			switch {
			case t == 0 || found != nil && t >= oldest:
			case q.spares(s.pool, wire.Time(t), now):
				found, oldest = l, t
			default:
				later = true
			}
		}
	}
	return found, later
}

// spares reports whether q has to give up, for a waiter of o, a server that is
// unused since then. It must not be for a moment only, unless q has had its
// turn; and of a pool with waiters only what is beyond its share.
func (q *Pool) spares(o *Pool, since, now wire.Time) bool {
	if q.size.Load() > o.size.Load()+1 {
		return true
	}
	return !q.waits() && (now.Sub(since) >= rest || q.overdue(now))
}

// waits reports whether any client of q waits.
func (q *Pool) waits() bool {
	for i := range q.lanes {
		if q.lanes[i].oldest.Load() != 0 {
			return true
		}
	}
	return false
}

// coming is how many seats of b are free or will be soon; below 0 more have to
// be given up before there is one.
func (b *budget) coming() int { return b.most() - b.open + b.leaving }

// surrender closes the server of s that was unused for longest, for a waiter of
// to, if that still has to be.
func (s *Shard) surrender(b *budget, to *Shard) {
	p := s.w.p
	s.publishIdle()
	if v := s.longestUnused(); v != nil {
		p.mu.Lock()
		wanted := to.claims == b && b.coming() <= b.rank(to) && s.pool.spares(to.pool, v.since, s.w.now())
		p.mu.Unlock()
		if wanted {
			v.close(fmt.Sprintf("evicted for %v", WaitPlan), true)
		}
	}
	to.w.loop.Post(func() {
		to.seeking = false
		to.provide() // somebody may have been faster, and another pool may have one
	})
}
