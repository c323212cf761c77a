package pool

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/pgweir/pgweir/pool/latency"
	"github.com/pgweir/pgweir/wire"
)

// Shard is the part of a pool that stands on one loop. A client is served by
// the servers of its own Shard; one that another loop has idle comes over
// whole.
type Shard struct {
	pool *Pool
	w    *Worker
	lane *lane

	idleClients list[Client, *Client] // ClientIdle, longest idle first
	active      list[Client, *Client] // ClientActive
	waiting     list[Client, *Client] // ClientWaiting, oldest first
	logins      int                   // of waiting: those who wait for a welcome

	idle     list[Server, *Server] // ServerIdle, next to use first
	used     list[Server, *Server] // ServerUsed, longest unused first
	tested   list[Server, *Server] // ServerTested
	busy     list[Server, *Server] // ServerActive
	canceled list[Server, *Server] // ServerBeingCanceled

	opening list[opening, *opening] // servers being opened for whoever waits
	private list[opening, *opening] // those being opened for one replication client each

	held  WaitReason // what kept a server from being opened for the waiters of this shard
	asked bool       // another loop was asked for an idle server, and has not answered

	blocked bool // the oldest waiter awaits a server of its own, and the slot for that is on its way: see next

	waits *waits // nil until somebody waits

	// WaitPlan: with which budget it has its claim, and its number in the order
	// of coming. Guarded by Pooler.mu, and changed on this loop only.
	claims *budget
	ticket uint64

	woken   atomic.Bool // for what a budget has to offer: provide will be called
	seeking bool        // another shard was asked to give up a server, and has not answered
	resting bool        // seek will be called again

	rolesAsked map[string]wire.Time // hosts of which a server was asked lately what it is, and when

	cancelling  int            // cancel requests being sent to servers
	cancelQueue []queuedCancel // those that wait for their turn
	cancelEarly []queuedCancel // those for queries that wait until a server is told their parameters

	greeting *greeting // of the last login, nil before
	stats    Counters

	latencies latency.Histograms // counted in this stats period
}

// slack is by how much a waiter elsewhere must be older than one's own before
// a server goes over to it. A server that changes loops costs system calls and
// a wake-up; with waiters everywhere the loops would do nothing else.
const slack = time.Millisecond

// acquire gives c a server, or lets it wait for one. It reports whether c may
// send its request on now; if not, c is told by (*Client).proceed.
func (s *Shard) acquire(c *Client) bool {
	if s.next() == nil && !s.paused() {
		if v := s.takeIdle(); v != nil {
			return s.pair(c, v)
		}
	}
	if f := s.pool.failure.Load(); f != nil && f.login && s.pool.connected.Load() == 0 {
		c.disconnect(true, "server login has been failing, cached error: "+f.reason[:min(len(f.reason), 99)]+" (server_login_retry)")
		if a := (ask{now: s.w.now()}); s.opening.n == 0 && s.w.p.reserve(s.pool, &a) == WaitNone {
			s.connect(a.seat)
		}
		return false
	}
	s.wait(c)
	if s.held != WaitNone && s.next() != c {
		return false // what holds those before c holds c; whatever lifts it wakes s
	}
	s.provide()
	return c.state == ClientActive && c.server.job != jobSets
}

// wait puts c at the end of the queue.
func (s *Shard) wait(c *Client) {
	c.queryStart = s.w.now()
	c.notified = false
	c.move(ClientWaiting)
	c.conn.Pause()
	s.publishWaiters()
}

// publishWaiters tells the other loops who waits. It is called whenever the
// queue has changed.
func (s *Shard) publishWaiters() {
	head := s.waiting.head
	if head == nil {
		s.setHeld(WaitNone)
	}
	if s.blocked && (head == nil || !head.awaitsOwn()) {
		s.blocked = false
		s.w.loop.Post(s.provide) // what holds the others may be something else
	}
	s.publishOldest()
	if s.used.n > 0 {
		s.publishIdle() // whether they may be given up hangs on the waiters
	}
}

// publishOldest tells the other loops since when the next one waits that they
// could help with an idle server.
func (s *Shard) publishOldest() {
	since := int64(0)
	if c := s.next(); c != nil {
		since = int64(c.queryStart)
	}
	if s.lane.oldest.Load() != since {
		s.lane.oldest.Store(since)
	}
}

// next is who is to have the next idle server: the oldest waiter, but for those
// that await a server of their own while the slot for that is on its way; nil if
// there is nobody.
func (s *Shard) next() *Client { return s.firstBut(s.blocked) }

func (s *Shard) firstBut(own bool) *Client {
	c := s.waiting.head
	for own && c != nil && c.awaitsOwn() {
		c = c.next
	}
	return c
}

// publishIdle tells the other loops what s has to spare.
func (s *Shard) publishIdle() {
	if n := int32(s.idle.n); s.lane.idle.Load() != n {
		s.lane.idle.Store(n)
	}
	if n := int32(s.used.n); s.lane.used.Load() != n {
		s.lane.used.Store(n)
	}
	spare := int64(0)
	if v := s.longestUnused(); v != nil {
		spare = int64(v.since)
	}
	if was := s.lane.spare.Load(); was != spare {
		s.lane.spare.Store(spare)
		if was == 0 {
			if s.w.p.wantSpare.Load() > 0 {
				s.w.p.wakeStarved()
			}
			if spare != 0 {
				s.longestUnused().offer()
			}
		}
	}
}

// longestUnused is the server to give up first, nil if none is unused. Those
// to be checked are only given up while nobody waits for them.
func (s *Shard) longestUnused() *Server {
	if v := s.used.head; v != nil && s.waiting.n == 0 {
		return v
	}
	v := s.idle.tail
	if v != nil && s.idle.head.since < v.since {
		v = s.idle.head // server_round_robin puts the longest unused first
	}
	return v
}

// paused reports whether nobody may be given a server now.
func (s *Shard) paused() bool {
	return s.w.p.paused.Load() || s.pool.db.paused.Load() || s.pool.db.removed.Load()
}

// takeIdle is the next idle server that may be used, still in its list; nil if
// there is none. Those that may not be used any more are closed on the way.
func (s *Shard) takeIdle() *Server {
	for {
		v := s.idle.head
		switch {
		case v == nil:
			return nil
		case v.obsolete():
			v.close("obsolete connection", true)
		default:
			return v
		}
	}
}

// pair makes a pair of c and v, which is idle or loose. It reports whether c
// may go on at once: if its parameters are not those of v, v is told first.
func (s *Shard) pair(c *Client, v *Server) bool {
	now := s.w.now()
	if c.state == ClientWaiting {
		s.stats.WaitTime += now.Sub(c.queryStart)
		s.endWait(c)
	} else {
		s.latencies[latency.Wait].Record(0)
	}
	c.move(ClientActive)
	v.move(ServerActive)
	c.server, v.client = v, c
	v.portals = nil
	v.checkBare(c)
	v.since = now
	s.stats.ServerAssignments++
	s.publishIdle()
	s.publishWaiters()
	if v.setVars(c) {
		c.conn.Pause()
		return false
	}
	return true
}

// take gives v, which is free and in no list of free ones yet, to the oldest
// waiter of the pool, or keeps it idle.
func (s *Shard) take(v *Server) {
	p, checked := s.pool, v.state == ServerTested
	if s.paused() {
		v.close("pause mode", true)
		return
	}
	if v.obsolete() {
		v.close("obsolete connection", true)
		s.provide()
		if checked {
			s.passOn()
		}
		return
	}
	since, at := p.oldestElsewhere(s.w.index)
	own := s.next()
	if since != 0 && (own == nil || since.Add(slack) < own.queryStart) && s.migrate(v, at) {
		s.provide() // v may have been opened for a waiter of our own
		return
	}
	if own != nil && s.logins > 0 {
		s.welcomeWaiters()
	}
	if c := s.next(); c != nil && c.login == nil {
		if s.pair(c, v) {
			c.proceed()
		}
		if s.help(); checked {
			s.passOn()
		}
		return
	}
	s.keep(v)
	if c := s.waiting.head; c != nil && c.awaitsOwn() {
		s.provide()
	}
	// Whoever began to wait elsewhere before our idle server could be seen
	// there can be seen from here now.
	if since, at := p.oldestElsewhere(s.w.index); since != 0 && v.state == ServerIdle {
		s.migrate(v, at)
	}
}

// keep puts v among the idle ones.
func (s *Shard) keep(v *Server) {
	v.since = s.w.now()
	v.move(ServerIdle)
	s.publishIdle()
}

// migrate hands v over to loop at. It reports false, and does nothing, while v
// can't leave its socket's loop.
func (s *Shard) migrate(v *Server, at int) bool {
	to := s.pool.lanes[at].shard.Load()
	if to == nil || v.cancels > 0 {
		return false
	}
	socket, ok := v.conn.Detach()
	if !ok {
		return false
	}
	if v.state != ServerLoose {
		v.move(ServerLoose)
	}
	s.publishIdle()
	v.shard = to
	if !to.w.loop.Post(func() { to.arrive(v, socket) }) {
		v.lost(socket)
	}
	return true
}

// arrive takes in a server that comes from another loop.
func (s *Shard) arrive(v *Server, socket wire.Socket) {
	s.asked = false
	if !v.attach(socket) {
		s.provide()
		return
	}
	if v.obsolete() {
		v.close("obsolete connection", true)
		s.provide()
		return
	}
	s.w.offer(v)
	s.provide() // for whoever began to wait while the answer was awaited
}

// lend is asked by another loop for an idle server. What there is goes to the
// loop whose waiter is the oldest; the one that asked hears if it got nothing.
func (s *Shard) lend(to *Shard) {
	if s.next() == nil && !s.paused() {
		if v := s.takeIdle(); v != nil && s.migrate(v, to.w.index) {
			return
		}
	}
	to.w.loop.Post(func() {
		to.asked = false
		to.provide()
	})
}

// provide does what can be done for the waiters of s: an idle server here, one
// from another loop, a check of one that was unused for long, or a new one. It
// is called whenever a waiter comes or something changes that may help one, and
// notes what those who still wait do so for.
func (s *Shard) provide() {
	s.supply()
	s.noteReason()
}

// supply is provide without the note.
func (s *Shard) supply() {
	if s.logins > 0 {
		s.welcomeWaiters()
	}
	if s.paused() {
		if s.waiting.n > 0 {
			s.setHeld(WaitPause)
		}
		return
	}
	blocked := false
	for s.firstBut(blocked) != nil {
		v, c := s.takeIdle(), s.firstBut(blocked)
		if v == nil && c.awaitsOwn() {
			blocked = s.blocked && s.w.p.vacating(s.pool) // also while the idle servers are on other loops
		}
		if v == nil || c.awaitsWelcome() {
			break
		}
		switch {
		case c.awaitsOwn():
			blocked = !s.exchange(c, v) && s.w.p.vacating(s.pool)
		case s.pair(c, v):
			c.proceed()
		}
	}
	s.blocked = blocked
	s.publishOldest()
	s.help()
	if s.waiting.n == 0 {
		s.setHeld(WaitNone)
		return
	}
	if s.asked {
		return
	}
	if at := s.pool.idleElsewhere(s.w.index); at >= 0 && s.next() != nil {
		if from := s.pool.lanes[at].shard.Load(); from != nil && from.w.loop.Post(func() { from.lend(s) }) {
			s.asked = true
			return
		}
	}
	for s.used.n > 0 && s.tested.n < s.waiting.n {
		s.used.head.check()
	}
	s.open()
}

// open opens as many servers as there are waiters without one, as far as the
// limits allow, and notes which one does not. Those that are on their way are no
// help to one that awaits a server of its own.
func (s *Shard) open() {
	for s.blocked || s.opening.n+s.tested.n < s.waiting.n {
		c := s.waiting.head
		a := ask{now: s.w.now(), shard: s, oldest: c.queryStart, anew: c.login != nil && c.login.trial != nil}
		a.instead = c.awaitsOwn() && s.idle.n > 0 // see exchange
		if h := s.reserve(&a); h != WaitNone {
			s.setHeld(h)
			s.testElsewhere()
			return
		}
		if c.awaitsOwn() {
			s.connectFor(c, a.seat)
		} else {
			s.connect(a.seat)
		}
	}
	s.setHeld(WaitNone)
}

// testElsewhere has another loop check a server that was unused for long. It
// comes over when it has passed.
func (s *Shard) testElsewhere() {
	for i := range s.pool.lanes {
		l := &s.pool.lanes[i]
		if i == s.w.index || l.used.Load() == 0 {
			continue
		}
		if from := l.shard.Load(); from != nil {
			from.w.loop.Post(from.test)
			return
		}
	}
}

// help checks a server that was unused for long if somebody waits elsewhere and
// no other is being checked.
func (s *Shard) help() {
	if s.used.n == 0 || s.tested.n > 0 {
		return
	}
	if since, _ := s.pool.oldestElsewhere(s.w.index); since != 0 {
		s.test()
	}
}

// passOn has another server checked after one that may have been checked for a
// waiter elsewhere, and will not get there.
func (s *Shard) passOn() {
	s.help()
	if since, _ := s.pool.oldestElsewhere(s.w.index); since != 0 && s.tested.n == 0 {
		s.testElsewhere()
	}
}

// test checks the server that was unused for longest, for a waiter elsewhere.
func (s *Shard) test() {
	if s.used.n > 0 && !s.paused() {
		s.used.head.check()
	}
}

// reserve takes a slot for a waiter, and has an idle server of another pool
// closed for it if that is what stands in the way.
func (s *Shard) reserve(a *ask) WaitReason {
	h := s.w.p.reserve(s.pool, a)
	for {
		if h == WaitPlan {
			if s.claims == a.budget {
				s.seek(a.budget)
				return h
			}
			s.setHeld(h)
			s.w.p.stake(s, a.budget) // whoever frees a seat from here on sees it
			h = s.w.p.reserve(s.pool, a)
			continue
		}
		if !h.lifted() {
			return h
		}
		if s.held != h {
			// Whoever frees a slot from here on sees that s wants one; what
			// was freed until now, the next look finds.
			s.setHeld(h)
			h = s.w.p.reserve(s.pool, a)
			continue
		}
		if !h.evicts() {
			return h
		}
		l := s.w.p.victim(s.pool, h)
		if l == nil {
			return h
		}
		from := l.shard.Load()
		if from.w != s.w {
			limit := h
			from.w.loop.Post(func() {
				if !from.evict(limit) { // somebody was faster; another pool may have one
					s.w.loop.Post(s.provide)
				}
			})
			return h
		}
		if !from.evict(h) {
			return h
		}
		h = s.w.p.reserve(s.pool, a)
	}
}

// evict closes the server that was unused for longest, for a waiter of another
// pool that shares the limit h. It reports whether there was one.
func (s *Shard) evict(h WaitReason) bool {
	v := s.longestUnused()
	if v == nil {
		return false
	}
	v.close("evicted for "+h.String(), true)
	return true
}

// setHeld notes what keeps the waiters of s.
func (s *Shard) setHeld(h WaitReason) {
	was := s.held
	if was == h {
		return
	}
	s.held = h
	if s.claims != nil && h != WaitPlan {
		s.w.p.withdraw(s)
	}
	if was.lifted() != h.lifted() {
		n := int32(1)
		if was.lifted() {
			n = -1
			s.w.hungry = slices.DeleteFunc(s.w.hungry, func(o *Shard) bool { return o == s })
		} else {
			s.w.hungry = append(s.w.hungry, s)
		}
		s.w.starving.Add(n)
		s.w.p.wantSlot.Add(n)
	}
	if was.evicts() != h.evicts() {
		n := int32(1)
		if was.evicts() {
			n = -1
		}
		s.w.p.wantSpare.Add(n)
	}
}

// feedStarved lets the shards of w that wait for a slot try again.
func (w *Worker) feedStarved() {
	w.waking.Store(false)
	for _, s := range slices.Clone(w.hungry) {
		s.provide()
	}
}
