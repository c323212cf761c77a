package pool

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/wire"
)

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
	conf, old := q.db.conf.Load(), q.seat.all()
	if q.db.removed.Load() { // what is left of it counts for whoever comes by that name, and under what its plan is now
		left := *conf
		if left.Plan != nil {
			left.Plan = cmp.Or(p.Snapshot().Plans[left.Plan.Name], left.Plan)
		}
		conf = cmp.Or(p.Snapshot().Auto(q.db.Name), &left)
	}
	q.seat = q.seatAt(place(conf, &p.Snapshot().Main), conf.DBName)
	p.arrangeLocked(q.slots, conf, q.user.Name)
	p.leadLocked(q, old)
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

// bequeath marks the budgets that servers of s count in: the pool of these is
// gone.
func (s *slots) bequeath() {
	for _, t := range s.seats {
		for _, b := range t.all() {
			b.inherited = b.inherited || t.open > 0
		}
	}
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
// is not nil. It returns with whom s had a claim.
func (t *seat) take(s *Shard) (had budgets) {
	if s != nil {
		had = s.withdrawLocked()
	}
	t.count(1, 1, 0)
	return had
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
