package pool

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
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
	claims  []*Shard // those that the budget keeps waiting, in the order of their coming
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

// budgets are those that one server counts in.
type budgets []*budget

// seat is where the servers of a pool count that are logged in to one database
// of one place: a plan's budget, if there is a plan, and three of Postgres' own.
// A reload may give the pool another plan; then all its servers at the place
// change over to that, in the same moment.
type seat struct {
	place, dbname string
	budgets       atomic.Pointer[budgets] // written under Pooler.mu

	// Guarded by Pooler.mu, as the budgets count them:
	open, logins, leaving int
}

// all are the budgets of t; none if t is nil.
func (t *seat) all() budgets {
	if t == nil {
		return nil
	}
	return *t.budgets.Load()
}

// place is the host and port of conf's entry. Several hosts are one place: who
// wants to share names them alike.
func place(conf *configs.Database, main *configs.Main) string {
	host := strings.Join(conf.Hosts, ",")
	if host == "" {
		host = main.UnixSocketDir
	}
	return host + ":" + strconv.Itoa(conf.Port)
}

// planKey names the budget of plan for the pool of conf's entry and that user.
func planKey(conf *configs.Database, plan *configs.Plan, server, user string) budgetKey {
	key := budgetKey{plan: plan.Name, scope: plan.Scope, server: server}
	switch plan.Scope {
	case configs.ScopeRole:
		key.of = user
	case configs.ScopeDatabase:
		key.of = conf.Name
	}
	return key
}

// sitLocked gives q its seat, as the configuration in force says.
func (p *Pooler) sitLocked(q *Pool) {
	conf, old := q.db.conf.Load(), q.seat
	q.seat = q.seatAt(place(conf, &p.Snapshot().Main), conf.DBName)
	p.arrangeLocked(q.slots, conf, q.user.Name)
	p.leadLocked(q, old.all())
}

// arrangeLocked lets the servers that s counts, of conf's entry and that user,
// count in the budgets that conf says, as far as they are where it leads to.
func (p *Pooler) arrangeLocked(s *slots, conf *configs.Database, user string) {
	server := place(conf, &p.Snapshot().Main)
	var plan budgets
	if conf.Plan != nil {
		b := p.budgetLocked(planKey(conf, conf.Plan, server, user))
		b.plan = conf.Plan
		b.relimit()
		plan = budgets{b}
	}
	for _, t := range s.seats {
		if t.place == server {
			p.moveLocked(t, append(slices.Clone(plan),
				p.budgetLocked(budgetKey{scope: configs.ScopeServer, server: server}),
				p.budgetLocked(budgetKey{scope: configs.ScopeRole, server: server, of: user}),
				p.budgetLocked(budgetKey{scope: configs.ScopeDatabase, server: server, of: t.dbname}),
			))
		}
	}
}

// seatAt is the seat of servers that are logged in to that database there. Seats
// that nobody has any more are forgotten.
func (s *slots) seatAt(place, dbname string) *seat {
	s.seats = slices.DeleteFunc(s.seats, func(t *seat) bool { return t.open == 0 && t != s.seat })
	for _, t := range s.seats {
		if t.place == place && t.dbname == dbname {
			return t
		}
	}
	t := &seat{place: place, dbname: dbname}
	t.budgets.Store(&budgets{})
	s.seats = append(s.seats, t)
	return t
}

// moveLocked lets the servers of t count in the budgets of to.
func (p *Pooler) moveLocked(t *seat, to budgets) {
	from := t.all()
	for _, b := range to {
		if !slices.Contains(from, b) {
			b.count(t.open, t.logins, t.leaving)
			b.update()
		}
	}
	t.budgets.Store(&to)
	for _, b := range from {
		if !slices.Contains(to, b) {
			b.count(-t.open, -t.logins, -t.leaving)
			b.update()
			p.sweepLocked(b)
		}
	}
}

// leadLocked enters q in the budgets of its seat, and takes it out of those of
// old that are not among them.
func (p *Pooler) leadLocked(q *Pool, old budgets) {
	now := q.seat.all()
	for _, b := range now {
		if !slices.Contains(b.pools, q) {
			b.pools = append(b.pools, q)
		}
		b.relimit()
	}
	for _, b := range old {
		if slices.Contains(now, b) {
			continue
		}
		b.pools = slices.DeleteFunc(b.pools, func(o *Pool) bool { return o == q })
		b.inherited = b.inherited || b.open > 0
		b.relimit()
		p.sweepLocked(b)
	}
}

// pinLocked makes the budgets of the plans that the configuration gives to its
// entries, as far as it names them: they are there, with what they have counted,
// as long as it does.
func (p *Pooler) pinLocked(snap *configs.Snapshot) {
	for _, b := range p.budgets {
		b.pinned = false
	}
	pin := func(conf *configs.Database, auto bool) {
		plan := conf.Plan
		if plan == nil || plan.Scope == configs.ScopeRole && conf.User == "" || plan.Scope == configs.ScopeDatabase && auto {
			return
		}
		b := p.budgetLocked(planKey(conf, plan, place(conf, &snap.Main), conf.User))
		b.plan, b.pinned = plan, true
		b.relimit()
	}
	for _, conf := range snap.Databases {
		pin(conf, false)
	}
	if snap.AutoDB != nil {
		pin(snap.AutoDB, true)
	}
	for _, b := range p.budgets {
		p.sweepLocked(b)
	}
}

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
					b.limit = 1 // whoever comes first asks
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
// one that has got a server longest ago, and of the same pool in the order of
// their coming, in which b.claims is.
func before(s, o *Shard) int {
	return cmp.Or(cmp.Compare(s.pool.size.Load(), o.pool.size.Load()), cmp.Compare(s.pool.gained.Load(), o.pool.gained.Load()))
}

// rank is how many claims come before one of s, which need not have one yet.
func (b *budget) rank(s *Shard) (n int) {
	behind := false // the claims that came after that of s
	for _, o := range b.claims {
		switch d := before(o, s); {
		case o == s:
			behind = true
		case d < 0 || d == 0 && !behind:
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
// all have.
func (l budgets) refuses(a *ask) *budget {
	for _, b := range l {
		if !b.admits(a) {
			return b
		}
	}
	return nil
}

// count counts servers of t in and out. The caller holds mu.
func (t *seat) count(open, logins, leaving int) {
	t.open += open
	t.logins += logins
	t.leaving += leaving
	for _, b := range t.all() {
		b.count(open, logins, leaving)
	}
	t.update()
}

// take counts a server in that begins to be opened, for the waiters of s if it
// is not nil.
func (t *seat) take(s *Shard) {
	if s != nil {
		s.withdrawLocked()
	}
	t.count(1, 1, 0)
}

// loggedIn counts a server that is no longer being opened.
func (t *seat) loggedIn(now wire.Time, ok bool) {
	t.count(0, -1, 0)
	for _, b := range t.all() {
		b.refusal = b.refusal.over(b, now, ok)
	}
	t.update()
}

func (t *seat) update() {
	for _, b := range t.all() {
		b.update()
	}
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

// wakeShards lets them try again to open servers.
func wakeShards(shards []*Shard) {
	for _, s := range shards {
		s.w.loop.Post(s.provide)
	}
}

// stake enters s among those that b keeps waiting.
func (p *Pooler) stake(s *Shard, b *budget) {
	p.mu.Lock()
	next := s.withdrawLocked().nextLocked(s.w.now())
	s.claims = b
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
	s.claims = nil
	b.claims = slices.DeleteFunc(b.claims, func(o *Shard) bool { return o == s })
	if len(b.claims) == 0 {
		b.claims = nil
	}
	b.update()
	return budgets{b}
}
