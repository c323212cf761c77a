package pool

import (
	"fmt"
	"slices"

	"github.com/pgweir/pgweir/wire"
)

// Check panics with a sentence if the books of p do not balance: lists and
// states, pairs, counts, what the loops tell each other. It reads everything
// without being on any loop, so none may be within a call. quiet says that no
// posted function and no chore is under way; then also nobody may wait who
// could be served, as far as that does not hang on time.
func (p *Pooler) Check(quiet bool) {
	// After a reload a server that had to stay with its client may not have to
	// any more, and stays until it is used again.
	all := sums{steady: p.Snapshot() == p.opts.Snapshot}
	all.init()
	for _, w := range p.workers {
		w.verify(&all)
		if p.opts.Poison {
			poison(w.scratch)
			poison(w.gather)
			poison(w.joined)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.checkCounts(&all, quiet)
	p.checkBudgets(&all, quiet)
	if quiet {
		for _, w := range p.workers {
			for _, s := range w.all {
				s.checkServed()
			}
		}
	}
}

// CheckEmpty panics with a sentence if anything is left of clients, all of
// which are gone, with nothing under way.
func (p *Pooler) CheckEmpty() {
	p.Check(true)
	must(p.sockets.Load() == 0 && p.clients.Load() == 0, "%d clients of %d sockets are counted, and all are gone", p.clients.Load(), p.sockets.Load())
	must(p.wantSlot.Load() == 0 && p.wantSpare.Load() == 0, "%d shards starve, %d want an idle server closed, and no client is left", p.wantSlot.Load(), p.wantSpare.Load())
	holders := map[*statement]int{}
	for _, w := range p.workers {
		must(w.logins.n+w.consoles.n+w.cancels.n == 0, "loop %d lists clients that are gone", w.index)
		must(len(w.trials) == 0, "loop %d has %d passwords under trial that nobody waits for", w.index, len(w.trials))
		must(len(w.lookups) == 0, "loop %d has %d auth_queries that nobody waits for", w.index, len(w.lookups))
		for _, s := range w.all {
			name := s.pool.name()
			must(s.clients() == 0, "%s on loop %d lists clients that are gone", name, w.index)
			must(s.busy.n == 0, "%s on loop %d has servers pinned by nobody", name, w.index)
			must(s.canceled.n == 0, "%s on loop %d has servers being cancelled for ever", name, w.index)
			for _, l := range []*list[Server, *Server]{&s.idle, &s.used, &s.tested} {
				l.each(func(v *Server) {
					for st := range v.prepared.of {
						holders[st]++
					}
				})
			}
			must(s.cancelling == 0 && len(s.cancelQueue)+len(s.cancelEarly) == 0, "%s on loop %d has cancel requests left", name, w.index)
			for _, l := range []*list[Server, *Server]{&s.idle, &s.used} {
				l.each(func(v *Server) {
					must(v.part == nil, "server %d holds a part of a message", v.id)
				})
			}
		}
	}
	p.statements.mu.Lock()
	defer p.statements.mu.Unlock()
	for _, st := range p.statements.byKey {
		must(st.holders == holders[st] && st.holders > 0, "statement %s counts %d holders, and has %d", st.name, st.holders, holders[st])
	}
}

// sums are what the lists of all loops come to.
type sums struct {
	clients, sockets   int
	byDB               map[*Database]int
	byUser             map[*User]int
	ofPool             map[*Pool]int // clients
	servers            map[*Pool]int // in a list
	openings           map[*Pool]int
	seats              map[*budget]int // of servers, openings and farewells
	logins, leaving    map[*budget]int
	claims             map[*budget]int
	farewells          map[*slots]int
	starving, evicting int
	steady             bool
}

func (a *sums) init() {
	a.byDB, a.byUser = map[*Database]int{}, map[*User]int{}
	a.ofPool, a.servers, a.openings = map[*Pool]int{}, map[*Pool]int{}, map[*Pool]int{}
	a.farewells = map[*slots]int{}
	a.seats, a.logins, a.leaving, a.claims = map[*budget]int{}, map[*budget]int{}, map[*budget]int{}, map[*budget]int{}
}

// sit counts a seat, also among those of ways.
func (a *sums) sit(t *seat, ways ...map[*budget]int) {
	for _, b := range t.all() {
		a.seats[b]++
		for _, way := range ways {
			way[b]++
		}
	}
}

// must panics with a sentence unless ok.
func must(ok bool, format string, args ...any) {
	if !ok {
		panic("BUG: " + fmt.Sprintf(format, args...))
	}
}

// verify walks the lists of w.
func (w *Worker) verify(a *sums) {
	must(!w.serving && len(w.released) == 0, "loop %d still has servers to give out", w.index)
	must(int(w.starving.Load()) == len(w.hungry), "loop %d says that %d shards starve, and %d do", w.index, w.starving.Load(), len(w.hungry))
	hungry := 0
	for _, s := range w.all {
		if s.held.lifted() {
			hungry++
		}
		s.verify(a)
	}
	walk(&w.farewells, func(f *farewell) {
		a.farewells[f.pool.slots]++
		a.sit(f.seat, a.leaving)
	})
	must(hungry == len(w.hungry), "loop %d lists %d shards as hungry, and %d are", w.index, len(w.hungry), hungry)
	for _, l := range []*list[Client, *Client]{&w.logins, &w.consoles, &w.cancels} {
		walk(l, func(c *Client) {
			must(c.list() == l, "client %d stands in a list that is not that of its state %v", c.id, c.state)
			must(c.server == nil, "client %d has a server and is %v", c.id, c.state)
			c.count(a)
		})
	}
}

// walk calls fn for each element of l, whose links and count must be right.
func walk[T any, P linked[T]](l *list[T, P], fn func(P)) {
	n := 0
	var prev P
	for e := l.head; e != nil; e = e.at().next {
		must(P(e.at().prev) == prev, "a list's links are broken")
		prev = e
		n++
		must(n <= l.n, "a list says that it has %d elements, and has more", l.n)
		fn(e)
	}
	must(n == l.n && l.tail == prev, "a list says that it has %d elements, and has %d", l.n, n)
}

// count adds c to the sums.
func (c *Client) count(a *sums) {
	if c.shard != nil {
		a.ofPool[c.shard.pool]++
	}
	if c.internal() {
		return
	}
	a.sockets++
	if c.state != ClientConsole {
		a.clients++
	}
	if c.db != nil {
		a.byDB[c.db]++
	}
	if c.user != nil {
		a.byUser[c.user]++
	}
}

// verify walks the lists of s.
func (s *Shard) verify(a *sums) {
	name := fmt.Sprintf("%s on loop %d", s.pool.name(), s.w.index)
	logins := 0
	var last wire.Time
	for _, l := range []*list[Client, *Client]{&s.idleClients, &s.active, &s.waiting} {
		walk(l, func(c *Client) {
			must(c.shard == s && c.list() == l, "%s: client %d stands in a list that is not that of its state %v", name, c.id, c.state)
			must((c.server != nil) == (c.state == ClientActive), "%s: client %d is %v, which does not fit its server", name, c.id, c.state)
			if v := c.server; v != nil {
				must(v.client == c && v.shard == s && v.state == ServerActive, "%s: client %d has server %d, which has another client", name, c.id, v.id)
			}
			if c.state == ClientWaiting {
				must(c.queryStart >= last, "%s: client %d waits out of order", name, c.id)
				last = c.queryStart
				if c.awaitsWelcome() {
					logins++
				}
			} else {
				must(c.login == nil, "%s: client %d is %v and logs in", name, c.id, c.state)
			}
			must(c.remain >= 0, "%s: client %d has sent more than its message", name, c.id)
			c.count(a)
		})
	}
	must(logins == s.logins, "%s counts %d logins among its waiters, and has %d", name, s.logins, logins)
	for _, l := range []*list[Server, *Server]{&s.idle, &s.used, &s.tested, &s.busy, &s.canceled} {
		walk(l, func(v *Server) {
			must(v.shard == s && v.list() == l, "%s: server %d stands in a list that is not that of its state %v", name, v.id, v.state)
			v.verify(name, a.steady)
			a.servers[s.pool]++
			a.sit(v.seat)
		})
	}
	for _, l := range []*list[opening, *opening]{&s.opening, &s.private} {
		walk(l, func(o *opening) {
			must(o.shard == s && (o.client != nil) == (l == &s.private), "%s lists the opening of another", name)
			a.openings[s.pool]++
			a.sit(o.seat, a.logins)
		})
	}
	must((s.held == WaitPlan) == (s.claims != nil), "%s is held by %v, and has the claim %v", name, s.held, s.claims)
	if s.claims != nil {
		a.claims[s.claims]++
		must(slices.Contains(s.claims.claims, s), "%s has a claim that the budget does not know", name)
	}
	must(s.waiting.n > 0 || s.held == WaitNone, "%s is held by %v, and nobody waits", name, s.held)
	var oldest, spare wire.Time
	if c := s.waiting.head; c != nil {
		oldest = c.queryStart
	}
	if v := s.longestUnused(); v != nil {
		spare = v.since
	}
	if s.lane.shard.Load() == s {
		must(int(s.lane.idle.Load()) == s.idle.n, "%s tells the others of %d idle servers, and has %d", name, s.lane.idle.Load(), s.idle.n)
		must(wire.Time(s.lane.oldest.Load()) == oldest, "%s tells the others of another oldest waiter than it has", name)
		must(wire.Time(s.lane.spare.Load()) == spare || s.waiting.n > 0, "%s tells the others of another longest unused server than it has", name)
	}
	if s.held.lifted() {
		a.starving++
	}
	if s.held.evicts() {
		a.evicting++
	}
}

// verify checks what a server between two events of its loop is.
func (v *Server) verify(shard string, steady bool) {
	where := fmt.Sprintf("%s: server %d", shard, v.id)
	must(!v.leaving, "%s was released and went nowhere", where)
	must(v.remain >= 0 && v.cancels >= 0, "%s: a count is below zero", where)
	c := v.client
	switch v.state {
	case ServerActive:
		must(c != nil && c.server == v && c.state == ClientActive, "%s is active without its client", where)
		must(v.job == jobNone || v.job == jobSets || v.job == jobProbe, "%s is paired and runs job %d", where, v.job)
		must(!v.free() || !steady && !c.busy, "%s is free, and still paired", where)
	case ServerIdle, ServerUsed:
		must(c == nil && v.job == jobNone && v.cancels == 0 && v.replication == replicatesNot, "%s is %v, and somebody's", where, v.state)
		must(v.ledger.clear() && v.status == wire.TxIdle && (v.remain == 0 || v.swallow), "%s is %v, and owes replies", where, v.state)
	case ServerTested:
		must(c == nil && v.job != jobNone && v.ledger.n > 0, "%s is tested, and no query runs", where)
	case ServerBeingCanceled:
		must(c == nil && v.cancels > 0 && v.ledger.clear() && v.status == wire.TxIdle, "%s is being cancelled, and in use", where)
	}
	must(c != nil || !v.stalled, "%s is not read for a client that it does not have", where)
}

// checkCounts compares the counts that all loops share to the sums.
func (p *Pooler) checkCounts(a *sums, quiet bool) {
	must(int(p.sockets.Load()) == a.sockets, "%d client sockets are counted, and there are %d", p.sockets.Load(), a.sockets)
	must(int(p.clients.Load()) == a.clients, "%d clients are counted, and there are %d", p.clients.Load(), a.clients)
	must(int(p.wantSlot.Load()) == a.starving, "%d shards are said to starve, and %d do", p.wantSlot.Load(), a.starving)
	must(int(p.wantSpare.Load()) == a.evicting, "%d shards are said to want an idle server closed, and %d do", p.wantSpare.Load(), a.evicting)
	for name, d := range p.databases {
		must(int(d.clients.Load()) == a.byDB[d], "database %s counts %d clients, and has %d", name, d.clients.Load(), a.byDB[d])
		open := 0
		for _, q := range d.pools {
			open += q.open
		}
		must(d.open >= open, "database %s counts %d servers, and its pools %d", name, d.open, open)
	}
	for name, u := range p.users {
		must(int(u.clients.Load()) == a.byUser[u], "user %s counts %d clients, and has %d", name, u.clients.Load(), a.byUser[u])
	}
	for _, q := range p.pools {
		name := q.name()
		must(int(q.clients.Load()) == a.ofPool[q], "%s counts %d clients, and has %d", name, q.clients.Load(), a.ofPool[q])
		must(q.logins == a.openings[q], "%s counts %d logins to servers, and has %d", name, q.logins, a.openings[q])
		must(q.open >= a.servers[q]+a.openings[q], "%s counts %d servers, and has %d and %d to come", name, q.open, a.servers[q], a.openings[q])
		if quiet {
			must(q.inherited || q.open == a.servers[q]+a.openings[q]+a.farewells[q.slots], "%s counts %d servers, and has %d and %d to come", name, q.open, a.servers[q], a.openings[q])
			must(int(q.connected.Load()) == a.servers[q], "%s counts %d servers logged in to, and has %d", name, q.connected.Load(), a.servers[q])
		}
	}
}

// checkBudgets compares what the budgets count to the sums.
func (p *Pooler) checkBudgets(a *sums, quiet bool) {
	for key, b := range p.budgets {
		must(b.key == key, "%v: a budget stands under another name", key)
		must(b.open >= a.seats[b], "%v counts %d servers, and has %d", key, b.open, a.seats[b])
		must(b.inherited || b.logins == a.logins[b], "%v counts %d logins, and has %d", key, b.logins, a.logins[b])
		must(b.leaving == a.leaving[b], "%v counts %d farewells, and has %d", key, b.leaving, a.leaving[b])
		must(len(b.claims) == a.claims[b], "%v lists %d claims, and has %d", key, len(b.claims), a.claims[b])
		strange := func(s *Shard) bool { return !slices.Contains(s.pool.seat.all(), b) } // a reload will be noticed soon
		must(slices.ContainsFunc(b.claims, strange) || int(b.claim.Load()) == b.wanted(), "%v tells of the claim %d, which is %d", key, b.claim.Load(), b.wanted())
		must(!quiet || b.inherited || b.open == a.seats[b], "%v counts %d servers, and has %d", key, b.open, a.seats[b])
	}
	for b := range a.seats {
		must(p.budgets[b.key] == b, "%v has servers, and is forgotten", b.key)
	}
	for _, q := range p.pools {
		must(q.leaving == a.farewells[q.slots], "%s counts %d farewells, and has %d", q.name(), q.leaving, a.farewells[q.slots])
		must(int(q.size.Load()) == q.open-q.leaving, "%s tells of %d servers, and has %d", q.name(), q.size.Load(), q.open-q.leaving)
		for _, b := range q.seat.all() {
			must(slices.Contains(b.pools, q), "%s leads to %v, which does not know it", q.name(), b.key)
		}
	}
}

// checkServed checks that whoever waits must. Nothing is under way between the
// loops.
func (s *Shard) checkServed() {
	name := fmt.Sprintf("%s on loop %d", s.pool.name(), s.w.index)
	must(!s.asked, "%s waits for the answer of another loop, which does not come", name)
	q := s.pool
	if s.waiting.n == 0 || s.paused() || q.lanes[s.w.index].shard.Load() != s {
		return
	}
	must(s.reasonHolds(), "%s is said to wait for %v, which is not so", name, s.reason())
	exchanged := s.waiting.head.awaitsOwn() && q.leaving > 0 // for a server of its own it waits, and none that is idle
	unused, tested := 0, 0
	for i := range q.lanes {
		if o := q.lanes[i].shard.Load(); o != nil {
			must(o.idle.n == 0 || exchanged, "%s has a waiter, and an idle server stands on loop %d", name, i)
			unused += o.used.n
			tested += o.tested.n
		}
	}
	must(unused == 0 || s.opening.n+tested > 0, "%s has a waiter, and nobody checks the servers that were unused for long", name)
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
	must(h != WaitNone, "%s has %d waiters, %d servers to come, and room for another (held by %v)", name, s.waiting.n, s.opening.n+s.tested.n, s.held)
	if h == WaitPlan || s.held == WaitPlan {
		s.checkClaim(h, a.budget)
		return
	}
	must(s.held.lifted(), "%s is held by %v, would have to wait for %v, and would not hear that it is over", name, s.held, h)
	if h.evicts() && h == s.held { // else another limit holds it too
		among := q.db.pools
		if h == WaitUser {
			among = q.user.pools
		}
		if slices.ContainsFunc(among, func(q *Pool) bool { return q.leaving > 0 }) {
			return // a slot will be free soon
		}
		for _, other := range among {
			for i := range other.lanes {
				must(other.lanes[i].spare.Load() == 0, "%s is held by %v, and %s has an idle server to close", name, h, other.name())
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
	name := fmt.Sprintf("%s on loop %d", s.pool.name(), s.w.index)
	must(s.held.lifted() || s.held == WaitPlan, "%s is held by %v, would have to wait for %v, and would not hear that it is over", name, s.held, h)
	if s.claims != b || b.coming() > b.rank(s) {
		return // another limit holds it too, or something is on its way
	}
	now := s.w.now()
	for _, q := range b.pools {
		for i := range q.lanes {
			t := wire.Time(q.lanes[i].spare.Load())
			must(t == 0 || q == s.pool || q.waits() || now.Sub(t) < rest+2*TickEvery,
				"%s is held by %v, and %s has an idle server to close", name, b.key, q.name())
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

// poison makes nonsense of all that buf has room for.
func poison(buf []byte) {
	buf = buf[:cap(buf)]
	for i := range buf {
		buf[i] = 0xdb
	}
}
