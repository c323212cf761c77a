package pool

import (
	"bytes"
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
	all := &p.sums
	all.clear()
	all.steady = p.Snapshot() == p.opts.Snapshot
	for _, w := range p.workers {
		w.verify(all)
		if p.opts.Poison {
			poison(w.scratch)
			poison(w.gather)
			poison(w.joined)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.checkCounts(all, quiet)
	p.checkBudgets(all, quiet)
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
	if p.sockets.Load() != 0 || p.clients.Load() != 0 {
		bug("%d clients of %d sockets are counted, and all are gone", p.clients.Load(), p.sockets.Load())
	}
	if p.wantSlot.Load() != 0 || p.wantSpare.Load() != 0 {
		bug("%d shards starve, %d want an idle server closed, and no client is left", p.wantSlot.Load(), p.wantSpare.Load())
	}
	if len(p.guesses.trials) != 0 {
		bug("trials from %d origins are counted, and all are over", len(p.guesses.trials))
	}
	holders := map[*statement]int{}
	for _, w := range p.workers {
		if w.logins.n+w.consoles.n+w.cancels.n != 0 {
			bug("loop %d lists clients that are gone", w.index)
		}
		if len(w.trials) != 0 {
			bug("loop %d has %d passwords under trial that nobody waits for", w.index, len(w.trials))
		}
		if len(w.lookups) != 0 {
			bug("loop %d has %d auth_queries that nobody waits for", w.index, len(w.lookups))
		}
		for _, s := range w.all {
			if s.clients() != 0 {
				bug("%v lists clients that are gone", s)
			}
			if s.busy.n != 0 {
				bug("%v has servers pinned by nobody", s)
			}
			if s.canceled.n != 0 {
				bug("%v has servers being cancelled for ever", s)
			}
			for _, l := range []*list[Server, *Server]{&s.idle, &s.used, &s.tested} {
				l.each(func(v *Server) {
					for st := range v.prepared.of {
						holders[st]++
					}
				})
			}
			if s.cancelling != 0 || len(s.cancelQueue)+len(s.cancelEarly) != 0 {
				bug("%v has cancel requests left", s)
			}
			for _, l := range []*list[Server, *Server]{&s.idle, &s.used} {
				l.each(func(v *Server) {
					if v.part != nil {
						bug("server %d holds a part of a message", v.id)
					}
				})
			}
		}
	}
	p.statements.mu.Lock()
	defer p.statements.mu.Unlock()
	for _, st := range p.statements.byKey {
		if st.holders != holders[st] || st.holders <= 0 {
			bug("statement %s counts %d holders, and has %d", st.name, st.holders, holders[st])
		}
	}
}

// sums are what the lists of all loops come to. Check keeps their memory.
type sums struct {
	clients, sockets   int
	byDB, inside       map[*Database]int
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

// clear makes a the sums of nothing.
func (a *sums) clear() {
	if a.byDB == nil {
		a.byDB, a.inside, a.byUser = map[*Database]int{}, map[*Database]int{}, map[*User]int{}
		a.ofPool, a.servers, a.openings = map[*Pool]int{}, map[*Pool]int{}, map[*Pool]int{}
		a.farewells = map[*slots]int{}
		a.seats, a.logins, a.leaving, a.claims = map[*budget]int{}, map[*budget]int{}, map[*budget]int{}, map[*budget]int{}
	}
	clear(a.byDB)
	clear(a.inside)
	clear(a.byUser)
	for _, m := range []map[*Pool]int{a.ofPool, a.servers, a.openings} {
		clear(m)
	}
	clear(a.farewells)
	for _, m := range []map[*budget]int{a.seats, a.logins, a.leaving, a.claims} {
		clear(m)
	}
	a.clients, a.sockets, a.starving, a.evicting = 0, 0, 0, 0
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

// bug panics with a sentence.
func bug(format string, args ...any) {
	panic("BUG: " + fmt.Sprintf(format, args...))
}

// verify walks the lists of w.
func (w *Worker) verify(a *sums) {
	if w.reading || w.serving || len(w.released) != 0 {
		bug("loop %d still has servers to give out", w.index)
	}
	if int(w.starving.Load()) != len(w.hungry) {
		bug("loop %d says that %d shards starve, and %d do", w.index, w.starving.Load(), len(w.hungry))
	}
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
	if hungry != len(w.hungry) {
		bug("loop %d lists %d shards as hungry, and %d are", w.index, len(w.hungry), hungry)
	}
	for _, l := range []*list[Client, *Client]{&w.logins, &w.consoles, &w.cancels} {
		walk(l, func(c *Client) {
			if c.list() != l {
				bug("client %d stands in a list that is not that of its state %v", c.id, c.state)
			}
			if c.server != nil {
				bug("client %d has a server and is %v", c.id, c.state)
			}
			c.count(a)
		})
	}
}

// walk calls fn for each element of l, whose links and count must be right.
func walk[T any, P linked[T]](l *list[T, P], fn func(P)) {
	n := 0
	var prev P
	for e := l.head; e != nil; e = e.at().next {
		if P(e.at().prev) != prev {
			bug("a list's links are broken")
		}
		prev = e
		n++
		if n > l.n {
			bug("a list says that it has %d elements, and has more", l.n)
		}
		fn(e)
	}
	if n != l.n || l.tail != prev {
		bug("a list says that it has %d elements, and has %d", l.n, n)
	}
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
		if c.shard != nil {
			a.inside[c.db]++
		}
	}
	if c.user != nil {
		a.byUser[c.user]++
	}
}

// verify walks the lists of s.
func (s *Shard) verify(a *sums) {
	logins := 0
	var last wire.Time
	for _, l := range []*list[Client, *Client]{&s.idleClients, &s.active, &s.waiting} {
		walk(l, func(c *Client) {
			if c.shard != s || c.list() != l {
				bug("%v: client %d stands in a list that is not that of its state %v", s, c.id, c.state)
			}
			if (c.server != nil) != (c.state == ClientActive) {
				bug("%v: client %d is %v, which does not fit its server", s, c.id, c.state)
			}
			if v := c.server; v != nil {
				if v.client != c || v.shard != s || v.state != ServerActive {
					bug("%v: client %d has server %d, which has another client", s, c.id, v.id)
				}
			}
			if c.state == ClientWaiting {
				if c.queryStart < last {
					bug("%v: client %d waits out of order", s, c.id)
				}
				last = c.queryStart
				if c.awaitsWelcome() {
					logins++
				}
			} else {
				if c.login != nil {
					bug("%v: client %d is %v and logs in", s, c.id, c.state)
				}
			}
			if c.remain < 0 {
				bug("%v: client %d has sent more than its message", s, c.id)
			}
			c.count(a)
		})
	}
	if logins != s.logins {
		bug("%v counts %d logins among its waiters, and has %d", s, s.logins, logins)
	}
	for _, l := range []*list[Server, *Server]{&s.idle, &s.used, &s.tested, &s.busy, &s.canceled} {
		walk(l, func(v *Server) {
			if v.shard != s || v.list() != l {
				bug("%v: server %d stands in a list that is not that of its state %v", s, v.id, v.state)
			}
			v.verify(a.steady)
			a.servers[s.pool]++
			a.sit(v.seat)
		})
	}
	for _, l := range []*list[opening, *opening]{&s.opening, &s.private} {
		walk(l, func(o *opening) {
			if o.shard != s || (o.client != nil) != (l == &s.private) {
				bug("%v lists the opening of another", s)
			}
			a.openings[s.pool]++
			a.sit(o.seat, a.logins)
		})
	}
	if (s.held == WaitPlan) != (s.claims != nil) {
		bug("%v is held by %v, and has the claim %v", s, s.held, s.claims)
	}
	if s.claims != nil {
		a.claims[s.claims]++
		if !slices.Contains(s.claims.claims, s) {
			bug("%v has a claim that the budget does not know", s)
		}
	}
	if s.waiting.n == 0 && s.held != WaitNone {
		bug("%v is held by %v, and nobody waits", s, s.held)
	}
	var oldest, spare wire.Time
	if c := s.next(); c != nil {
		oldest = c.queryStart
	}
	if v := s.longestUnused(); v != nil {
		spare = v.since
	}
	if s.lane.shard.Load() == s {
		if int(s.lane.idle.Load()) != s.idle.n {
			bug("%v tells the others of %d idle servers, and has %d", s, s.lane.idle.Load(), s.idle.n)
		}
		if wire.Time(s.lane.oldest.Load()) != oldest {
			bug("%v tells the others of another oldest waiter than it has", s)
		}
		if wire.Time(s.lane.spare.Load()) != spare && s.waiting.n == 0 {
			bug("%v tells the others of another longest unused server than it has", s)
		}
	}
	if s.held.lifted() {
		a.starving++
	}
	if s.held.evicts() {
		a.evicting++
	}
}

// verify checks what a server between two events of its loop is.
func (v *Server) verify(steady bool) {
	if v.leaving {
		bug("%v was released and went nowhere", v)
	}
	if v.remain < 0 || v.cancels < 0 {
		bug("%v: a count is below zero", v)
	}
	c := v.client
	switch v.state {
	case ServerActive:
		if c == nil || c.server != v || c.state != ClientActive {
			bug("%v is active without its client", v)
		}
		if v.job != jobNone && v.job != jobSets && v.job != jobProbe {
			bug("%v is paired and runs job %d", v, v.job)
		}
		if v.free() && (steady || c.busy) {
			bug("%v is free, and still paired", v)
		}
	case ServerIdle, ServerUsed:
		if c != nil || v.job != jobNone || v.cancels != 0 || v.replication != replicatesNot {
			bug("%v is %v, and somebody's", v, v.state)
		}
		if !v.ledger.clear() || v.status != wire.TxIdle || v.remain != 0 && !v.swallow {
			bug("%v is %v, and owes replies", v, v.state)
		}
	case ServerTested:
		if c != nil || v.job == jobNone || v.ledger.n == 0 {
			bug("%v is tested, and no query runs", v)
		}
	case ServerBeingCanceled:
		if c != nil || v.cancels <= 0 || !v.ledger.clear() || v.status != wire.TxIdle {
			bug("%v is being cancelled, and in use", v)
		}
	}
	if c == nil && v.stalled {
		bug("%v is not read for a client that it does not have", v)
	}
}

// checkCounts compares the counts that all loops share to the sums.
func (p *Pooler) checkCounts(a *sums, quiet bool) {
	if int(p.sockets.Load()) != a.sockets {
		bug("%d client sockets are counted, and there are %d", p.sockets.Load(), a.sockets)
	}
	if int(p.clients.Load()) != a.clients {
		bug("%d clients are counted, and there are %d", p.clients.Load(), a.clients)
	}
	if int(p.wantSlot.Load()) != a.starving {
		bug("%d shards are said to starve, and %d do", p.wantSlot.Load(), a.starving)
	}
	if int(p.wantSpare.Load()) != a.evicting {
		bug("%d shards are said to want an idle server closed, and %d do", p.wantSpare.Load(), a.evicting)
	}
	for name, d := range p.databases {
		if int(d.clients.Load()) != a.byDB[d] {
			bug("database %s counts %d clients, and has %d", name, d.clients.Load(), a.byDB[d])
		}
		if int(d.inside.Load()) != a.inside[d] {
			bug("database %s counts %d clients that are logged in, and has %d", name, d.inside.Load(), a.inside[d])
		}
		open := 0
		for _, q := range d.pools {
			open += q.open
		}
		if d.open < open {
			bug("database %s counts %d servers, and its pools %d", name, d.open, open)
		}
	}
	for name, u := range p.users {
		if int(u.clients.Load()) != a.byUser[u] {
			bug("user %s counts %d clients, and has %d", name, u.clients.Load(), a.byUser[u])
		}
	}
	for _, q := range p.pools {
		if int(q.clients.Load()) != a.ofPool[q] {
			bug("%v counts %d clients, and has %d", q, q.clients.Load(), a.ofPool[q])
		}
		if q.logins != a.openings[q] {
			bug("%v counts %d logins to servers, and has %d", q, q.logins, a.openings[q])
		}
		if q.open < a.servers[q]+a.openings[q] {
			bug("%v counts %d servers, and has %d and %d to come", q, q.open, a.servers[q], a.openings[q])
		}
		if quiet {
			if !q.inherited && q.open != a.servers[q]+a.openings[q]+a.farewells[q.slots] {
				bug("%v counts %d servers, and has %d and %d to come", q, q.open, a.servers[q], a.openings[q])
			}
			if int(q.connected.Load()) != a.servers[q] {
				bug("%v counts %d servers logged in to, and has %d", q, q.connected.Load(), a.servers[q])
			}
		}
	}
}

// checkBudgets compares what the budgets count to the sums.
func (p *Pooler) checkBudgets(a *sums, quiet bool) {
	for key, b := range p.budgets {
		if b.key != key {
			bug("%v: a budget stands under another name", key)
		}
		if b.open < a.seats[b] {
			bug("%v counts %d servers, and has %d", key, b.open, a.seats[b])
		}
		if !b.inherited && b.logins != a.logins[b] {
			bug("%v counts %d logins, and has %d", key, b.logins, a.logins[b])
		}
		if b.leaving != a.leaving[b] {
			bug("%v counts %d farewells, and has %d", key, b.leaving, a.leaving[b])
		}
		for _, q := range b.pools {
			if !slices.Contains(q.seat.all(), b) {
				bug("%v lists the pool %v, which leads elsewhere", key, q)
			}
		}
		if len(b.claims) != a.claims[b] {
			bug("%v lists %d claims, and has %d", key, len(b.claims), a.claims[b])
		}
		strange := func(s *Shard) bool { return !slices.Contains(s.pool.seat.all(), b) } // a reload will be noticed soon
		if !slices.ContainsFunc(b.claims, strange) && int(b.claim.Load()) != b.wanted() {
			bug("%v tells of the claim %d, which is %d", key, b.claim.Load(), b.wanted())
		}
		if quiet && !b.inherited && b.open != a.seats[b] {
			bug("%v counts %d servers, and has %d", key, b.open, a.seats[b])
		}
	}
	for b := range a.seats {
		if p.budgets[b.key] != b {
			bug("%v has servers, and is forgotten", b.key)
		}
	}
	for _, q := range p.pools {
		if q.leaving != a.farewells[q.slots] {
			bug("%v counts %d farewells, and has %d", q, q.leaving, a.farewells[q.slots])
		}
		if int(q.size.Load()) != q.open-q.leaving {
			bug("%v tells of %d servers, and has %d", q, q.size.Load(), q.open-q.leaving)
		}
		for _, b := range q.seat.all() {
			if !slices.Contains(b.pools, q) {
				bug("%v leads to %v, which does not know it", q, b.key)
			}
		}
	}
}

func (q *Pool) String() string { return q.name() }

func (s *Shard) String() string { return fmt.Sprintf("%v on loop %d", s.pool, s.w.index) }

func (v *Server) String() string { return fmt.Sprintf("%v: server %d", v.shard, v.id) }

// poison makes nonsense of all that was written to buf, up to its capacity.
// Who writes begins at the start, so the first part of nonsense is the last.
func poison(buf []byte) {
	buf = buf[:cap(buf)]
	for len(buf) > 0 {
		part := buf[:min(len(buf), len(nonsense))]
		if bytes.Equal(part, nonsense[:len(part)]) {
			return
		}
		copy(part, nonsense)
		buf = buf[len(part):]
	}
}

var nonsense = bytes.Repeat([]byte{0xdb}, 256)
