package pool

import (
	"cmp"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/wire"
)

// A budget is what all pools that lead to one place share: the connections that
// a plan grants, or that Postgres itself does. Each server counts in up to four
// of them: that of its plan, and those of the Postgres server, the role and the
// database that it is logged in to. Most of these have no limit and only count.
type budget struct {
	key  budgetKey
	plan *configs.Plan // nil: the limit is Postgres' own

	// Guarded by Pooler.mu:
	pools   []*Pool  // that lead there now
	open    int      // servers: being opened, open, and taking their leave
	logins  int      // of these, being opened
	leaving int      // of these, taking their leave
	peak    int      // of open
	limit   int      // noLimit for none
	reserve int      // already off limit: what is left to others
	live    int      // what Postgres said last that it allows: 0 is no limit, below it has not said yet
	refusal *refusal // nil: Postgres let everybody in lately
	refused uint64   // logins that Postgres refused because it was full
	claims  []*Shard // those that the budget keeps waiting
	seeker  *Shard   // the first of them that nothing on its way will serve, nil if there is none
	news    bool     // it has not heard of that yet: nextLocked tells it

	pinned    bool // the configuration names it
	inherited bool // servers of pools that are gone may be among open

	// claim is what the releases of servers look at: see (*Server).yields.
	claim atomic.Int32
}

// budgetKey says whose connections a budget counts.
type budgetKey struct {
	plan   string // its name; "" for what Postgres itself limits
	scope  configs.PlanScope
	server string // host and port, as the entry has them
	of     string // the role; the database, or with a plan the entry; "" for all of the server
}

// String says it to people.
func (k budgetKey) String() string {
	switch k.scope {
	case configs.ScopeRole:
		return "role " + k.of + " at " + k.server
	case configs.ScopeDatabase:
		return "database " + k.of + " at " + k.server
	}
	return "server " + k.server
}

// noLimit is the limit of a budget without one.
const noLimit = math.MaxInt32

const (
	// claimNone: whoever waits for the budget gets what is on its way.
	claimNone = math.MaxInt32
	// claimAll: more servers are open than the budget allows by now.
	claimAll = -1
)

// turn is how long a pool keeps a server that another, which has one less,
// waits for. A turn begins with the last server that the pool has got. Who has
// two more than another gives one away at once.
const turn = 200 * time.Millisecond

// rest is how long a server is idle before it is closed for a pool that has not
// less than its own. It is longer than a client takes for its next request and
// shorter than a login.
const rest = 5 * time.Millisecond

// budgetLocked returns the budget called key, made if need be.
func (p *Pooler) budgetLocked(key budgetKey) *budget {
	b := p.budgets[key]
	if b == nil {
		b = &budget{key: key, limit: noLimit, live: -1}
		b.claim.Store(claimNone)
		p.budgets[key] = b
	}
	return b
}

// sweepLocked forgets b if it is nobody's, and Postgres has never refused a login
// to it: then it is worth remembering.
func (p *Pooler) sweepLocked(b *budget) {
	if len(b.pools) == 0 && b.open == 0 && b.refused == 0 && !b.pinned && p.budgets[b.key] == b {
		delete(p.budgets, b.key)
	}
}

// relimit finds out anew what b allows: what the plan or Postgres says, less
// what the plans of its pools leave to others.
func (b *budget) relimit() {
	b.limit, b.reserve = noLimit, 0
	if b.plan != nil {
		b.reserve = b.plan.Reserve
		if n := b.plan.Budget(); n > 0 {
			b.limit = n
		}
	} else {
		planned := false
		for _, q := range b.pools {
			if plan := q.db.conf.Load().Plan; plan != nil {
				planned = true
				b.reserve = max(b.reserve, plan.Reserve)
				switch {
				case b.live > 0:
					b.limit = min(b.limit, plan.Share(b.live))
				case b.live < 0:
					b.limit = max(1, b.open) // whoever comes next asks
				}
			}
		}
		if !planned {
			b.live = -1 // nobody asks any more
		}
	}
	b.update()
}

// most is how many servers b lets in, as far as is known.
func (b *budget) most() int {
	if b.refusal != nil {
		return min(b.limit, b.refusal.most)
	}
	return b.limit
}

// limited reports whether b has a limit now.
func (b *budget) limited() bool { return b.limit != noLimit || b.refusal != nil }

func (l budgets) limited() bool { return slices.ContainsFunc(l, (*budget).limited) }

// count counts servers in and out, as seat does.
func (b *budget) count(open, logins, leaving int) {
	b.open += open
	b.logins += logins
	b.leaving += leaving
	b.peak = max(b.peak, b.open)
}

// before orders claims: first those whose pool has fewest servers, of these the
// one that has got a server longest ago, then in the order of their coming. Who
// has no claim yet comes behind. The order is the same in all budgets, so of
// those that several budgets keep waiting the first is let in by each that has
// room, and others can't wait for each other in a circle.
func before(s, o *Shard) int {
	return cmp.Or(
		cmp.Compare(s.pool.size.Load(), o.pool.size.Load()),
		cmp.Compare(s.pool.gained.Load(), o.pool.gained.Load()),
		cmp.Compare(s.ticket-1, o.ticket-1), // none is the highest
	)
}

// rank is how many claims come before one of s, which need not have one yet.
func (b *budget) rank(s *Shard) (n int) {
	for _, o := range b.claims {
		if o != s && before(o, s) < 0 {
			n++
		}
	}
	return n
}

// admits reports whether b has room for one more server, for a.
func (b *budget) admits(a *ask) bool {
	if b.claims == nil && b.refusal == nil {
		return b.open < b.limit
	}
	if a.shard == nil { // nobody waits for it
		return b.room(a.now) > 0 && len(b.claims) == 0
	}
	return b.room(a.now) > b.rank(a.shard)
}

// room is how many more servers b lets in now: also one whose login finds out
// whether Postgres has room again.
func (b *budget) room(now wire.Time) int {
	n := b.most() - b.open
	if b.refusal.lets(b, now) {
		n++
	}
	return n
}

// refuses returns the budget of l that has no room for another server, nil if
// all have. If several have none it is the one with which a has its claim: a
// claim that went to and fro would wake others each time.
func (l budgets) refuses(a *ask) *budget {
	if s := a.shard; s != nil && slices.Contains(l, s.claims) && !s.claims.admits(a) {
		return s.claims
	}
	for _, b := range l {
		if !b.admits(a) {
			return b
		}
	}
	return nil
}

// update finds out anew who has to look for a server to be closed, and says from
// whom b takes those that are released. It is called whenever anything has
// changed that b or its claims count.
func (b *budget) update() {
	if s := b.unmet(); s != b.seeker {
		b.seeker, b.news = s, s != nil
	}
	b.claim.Store(int32(b.wanted()))
}

// unmet is who has the first claim that neither room nor a server that takes
// its leave will meet, nil if there is none.
func (b *budget) unmet() *Shard {
	coming := b.coming()
	switch {
	case len(b.claims) == 0 || coming >= len(b.claims):
		return nil
	case coming <= 0:
		return slices.MinFunc(b.claims, before)
	}
	return slices.SortedStableFunc(slices.Values(b.claims), before)[coming]
}

// wanted is how many servers the pool of the seeker has, or that some have to
// go.
func (b *budget) wanted() int {
	switch {
	case b.open-b.leaving > b.limit:
		return claimAll
	case b.seeker == nil:
		return claimNone
	}
	return int(b.seeker.pool.size.Load())
}

// first is who has the first claim, none or one. The caller holds mu.
func (b *budget) first() []*Shard {
	if len(b.claims) == 0 {
		return nil
	}
	return []*Shard{slices.MinFunc(b.claims, before)}
}

// nextLocked are those whom budgets of l can serve now, or one whose login may
// find out whether there is room again; and who has to look for a server to be
// closed since the last update. Wake them when mu is free.
func (l budgets) nextLocked(now wire.Time) (next []*Shard) {
	for _, b := range l {
		if b.news {
			b.news = false
			next = append(next, b.seeker)
		}
		if b.room(now) > 0 {
			next = append(next, b.first()...)
		}
	}
	return next
}

// wakeShards lets them try again to open servers. Who is woken twice before it
// comes to that looks once.
func wakeShards(shards []*Shard) {
	for _, s := range shards {
		if s.woken.CompareAndSwap(false, true) {
			s.w.loop.Post(func() {
				s.woken.Store(false)
				s.provide()
			})
		}
	}
}

// stake enters s among those that b keeps waiting. A claim with another budget
// ends, and leaves its ticket.
func (p *Pooler) stake(s *Shard, b *budget) {
	p.mu.Lock()
	ticket := s.ticket
	next := s.withdrawLocked().nextLocked(s.w.now())
	if ticket == 0 {
		p.tickets++
		ticket = p.tickets
	}
	s.claims, s.ticket = b, ticket
	b.claims = append(b.claims, s)
	b.update()
	next = append(next, budgets{b}.nextLocked(s.w.now())...)
	p.mu.Unlock()
	wakeShards(next)
}

// withdraw ends the claim of s, if it has one, and lets those behind it have a
// look.
func (p *Pooler) withdraw(s *Shard) {
	p.mu.Lock()
	next := s.withdrawLocked().nextLocked(s.w.now())
	p.mu.Unlock()
	wakeShards(next)
}

// withdrawLocked ends the claim of s, and returns with whom it had one.
func (s *Shard) withdrawLocked() budgets {
	b := s.claims
	if b == nil {
		return nil
	}
	s.claims, s.ticket = nil, 0
	b.claims = slices.DeleteFunc(b.claims, func(o *Shard) bool { return o == s })
	if len(b.claims) == 0 {
		b.claims = nil
	}
	b.update()
	return budgets{b}
}
