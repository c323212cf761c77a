package pool

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/wire"
)

// fits reports whether the clients of d, one that was counted just now
// included, are no more than plan allows.
func (p *Pooler) fits(d *Database, plan *configs.Plan) bool {
	return plan.MaxClientConnections == 0 || p.planClients(d, plan) <= plan.MaxClientConnections
}

// planClients is how many clients count against plan, which is that of d: those
// of d if each entry counts by itself, else those of all entries that have the
// plan and lead to the same server. Strangers take no places from tenants: who
// has not proved yet who it is does not count.
func (p *Pooler) planClients(d *Database, plan *configs.Plan) (n int) {
	if plan.Scope == configs.ScopeDatabase {
		return int(d.inside.Load())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, o := range p.tenantsLocked(d.conf.Load(), plan) {
		n += int(o.inside.Load())
	}
	return n
}

// tenantsLocked are the databases with that plan on the server of conf.
func (p *Pooler) tenantsLocked(conf *configs.Database, plan *configs.Plan) []*Database {
	if p.tenants == nil {
		p.tenants = map[budgetKey][]*Database{}
		for _, d := range p.databases {
			if conf := d.conf.Load(); conf.Plan != nil {
				key := p.tenancy(conf, conf.Plan)
				p.tenants[key] = append(p.tenants[key], d)
			}
		}
	}
	return p.tenants[p.tenancy(conf, plan)]
}

func (p *Pooler) tenancy(conf *configs.Database, plan *configs.Plan) budgetKey {
	return budgetKey{plan: plan.Name, server: place(conf, &p.Snapshot().Main)}
}

// overPlan is what a client beyond plan is told.
func overPlan(plan *configs.Plan) wire.Fields {
	return wire.Fields{
		Severity: "FATAL", Code: "53300",
		Message: fmt.Sprintf("too many connections for plan %q (limit %d clients)", plan.Name, plan.MaxClientConnections),
	}
}

// PlanInfo is a row of SHOW PLANS: a limit of server connections, and who is
// under it.
type PlanInfo struct {
	Plan    string // "" where Postgres itself is the limit
	Scope   configs.PlanScope
	Name    string // of the server, role@server, database@server
	Limit   int    // of server connections, Reserve already off
	Source  string // preset, configured, live, role, database, refused
	Reserve int    // left to others

	Used    int    // servers that are not idle: in use, being opened, taking their leave
	Idle    int    // servers that nobody uses
	Waiting int    // clients that wait because the limit is reached
	Peak    int    // most servers at a time
	Refused uint64 // logins that Postgres refused because it was full

	Clients, MaxClients int // under the plan; 0: no limit
}

// Plans returns the limits that hold, of plans and of Postgres itself, in order
// of their servers. It may block.
func (p *Pooler) Plans() (all []PlanInfo) {
	idle, waiting := map[*budget]int{}, map[*budget]int{}
	p.gather(func(w *Worker) {
		for _, s := range w.all {
			if s.claims != nil {
				waiting[s.claims] += s.waiting.n
			}
			for _, l := range []*list[Server, *Server]{&s.idle, &s.used} {
				l.each(func(v *Server) {
					for _, b := range v.seat.all() {
						idle[b]++
					}
				})
			}
		}
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.budgets {
		if !b.limited() && b.refused == 0 && b.plan == nil {
			continue
		}
		i := PlanInfo{
			Plan: b.key.plan, Scope: b.key.scope, Name: b.key.server, Source: b.source(), Reserve: b.reserve,
			Used: max(0, b.open-idle[b]), Idle: idle[b], Waiting: waiting[b], Peak: b.peak, Refused: b.refused,
		}
		if b.key.of != "" {
			i.Name = b.key.of + "@" + b.key.server
		}
		if n := b.most(); n != noLimit {
			i.Limit = n
		}
		if b.plan != nil {
			i.MaxClients = b.plan.MaxClientConnections
			i.Clients = p.clientsLocked(b)
		}
		all = append(all, i)
	}
	slices.SortFunc(all, func(a, b PlanInfo) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(a.Scope, b.Scope), strings.Compare(a.Plan, b.Plan))
	})
	return all
}

// clientsLocked is how many clients the pools of b have.
func (p *Pooler) clientsLocked(b *budget) (n int) {
	for _, q := range b.pools {
		n += int(q.clients.Load())
	}
	return n
}

// spent is a part of a sentence that tells of b, which has no room.
func (p *Pooler) spent(b *budget) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if b.refusal != nil && b.refusal.most < b.limit {
		return fmt.Sprintf("Postgres lets in no more than %d connections of ours (%v)", b.refusal.most, b.key)
	}
	return fmt.Sprintf("all %d connections that %v may have are in use (%s)", b.limit, b.key, b.reason())
}
