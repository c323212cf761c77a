package configs

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Plan is what a Postgres plan allows, or what an operator grants a tenant: the
// plan= of a database entry or of section [pgbouncer]. Fields that are zero say
// nothing.
type Plan struct {
	// Name is provider:plan for a preset, a name of section [plans], or AutoPlan.
	Name string

	// Scope says who shares the plan's connections.
	Scope PlanScope

	// MaxServerConnections is how many connections the server grants, those
	// that it or its provider keeps back already off. Reserve of them are left
	// to people and migrations, and Processes share the rest, 0 counting as 1:
	// Budget is what is left for each.
	MaxServerConnections int
	Reserve              int
	Processes            int

	// MaxClientConnections is how many clients may be connected under the plan.
	MaxClientConnections int

	// These apply where neither the user nor the database entry says anything,
	// in place of the global settings.
	PoolSize              *int // 0: without limit
	PoolMode              PoolMode
	QueryWaitTimeout      *time.Duration // 0: without limit
	MaxPreparedStatements *int           // 0: prepared statements are not tracked

	// Source is where MaxServerConnections was read, and Date when that was
	// said, as YYYY, YYYY-MM or YYYY-MM-DD. For a plan of section [plans]
	// Source is file:line, and Date is empty. Note is what else to know, a
	// sentence without a full stop.
	Source, Date, Note string
}

// The plans that name no figures.
const (
	// AutoPlan has no limit of its own: what the server says is the limit.
	AutoPlan = "auto"
	// NoPlan, on a database entry, is no plan, though [pgbouncer] has one.
	NoPlan = "none"
)

var autoPlan = &Plan{Name: AutoPlan}

// PlanScope says who shares the connections of a plan.
type PlanScope uint8

const (
	ScopeServer   PlanScope = iota // all entries with the plan on the same host and port
	ScopeRole                      // those that log in to it as the same user
	ScopeDatabase                  // each database entry has its own
)

var planScopes = names{ScopeServer: "server", ScopeRole: "role", ScopeDatabase: "database"}

// String returns the name in the configuration.
func (s PlanScope) String() string { return planScopes.name(uint8(s)) }

func (s *PlanScope) parse(text string) bool { return planScopes.parse(text, (*uint8)(s)) }
func (s *PlanScope) names() names           { return planScopes }

// Preset reports whether the plan is one of a provider, see Presets.
func (p *Plan) Preset() bool { return strings.Contains(p.Name, ":") }

// Budget returns how many server connections this process may open under the
// plan; 0 when the plan says nothing about it. It is at least 1 otherwise.
func (p *Plan) Budget() int {
	if p.MaxServerConnections == 0 {
		return 0
	}
	return p.Share(p.MaxServerConnections)
}

// Share returns this process' part, at least 1, of limit server connections:
// less the reserve, and divided among the processes.
func (p *Plan) Share(limit int) int {
	return max(1, (limit-p.Reserve)/max(1, p.Processes))
}

// shared returns the plan as it is for one of several processes.
func (p *Plan) shared(processes int) *Plan {
	if p == nil || p.Processes == processes {
		return p
	}
	part := *p
	part.Processes = processes
	return &part
}

// maxPlanConnections is the most that max_connections of Postgres can be.
const maxPlanConnections = 262143

var planParams = []param[Plan]{
	planFigure("max_server_connections", "what the server says", "Server connections that the plan allows.", 1, func(p *Plan) *int { return &p.MaxServerConnections }),
	planFigure("reserve", "0", "Those of them that are left to people and migrations.", 0, func(p *Plan) *int { return &p.Reserve }),
	planFigure("max_client_connections", "without limit", "Client connections under the plan.", 1, func(p *Plan) *int { return &p.MaxClientConnections }),
	choice("scope", "server", "Who shares these: `server`, all entries with the plan on the same host and port; `role`, those that log in to it as the same user; `database`, each entry by itself.", func(p *Plan) enum { return &p.Scope }),
	planFigure("pool_size", "", "Stands in for `default_pool_size`; 0: without limit.", 0, func(p *Plan) *int { return lend(&p.PoolSize) }),
	choice("pool_mode", "", "Stands in for the global one.", func(p *Plan) enum { return &p.PoolMode }),
	{
		name: "query_wait_timeout", meaning: "Stands in for the global one, in whole seconds; 0: without limit.",
		set: func(p *Plan, v string) (string, error) {
			sec, err := planNumber("query_wait_timeout", v, 0, int(Never/time.Second))
			*lend(&p.QueryWaitTimeout) = time.Duration(sec) * time.Second
			return "", err
		},
	},
	planFigure("max_prepared_statements", "", "Stands in for the global one; 0: they are not tracked.", 0, func(p *Plan) *int { return lend(&p.MaxPreparedStatements) }),
}

// lend makes room for an optional value and returns its address.
func lend[T any](field **T) *T {
	*field = new(T)
	return *field
}

// planFigure is a number of at least low. There is no PgBouncer to be lenient
// like: what is no number is an error.
func planFigure(name, def, meaning string, low int, field func(*Plan) *int) param[Plan] {
	return param[Plan]{name: name, def: def, meaning: meaning, set: func(p *Plan, v string) (_ string, err error) {
		*field(p), err = planNumber(name, v, low, maxPlanConnections)
		return "", err
	}}
}

func planNumber(name, v string, low, high int) (int, error) {
	n, err := strconv.Atoi(v)
	if err != nil || n < low || n > high {
		return 0, fmt.Errorf("%s=%s: must be a whole number from %d to %d", name, v, low, high)
	}
	return n, nil
}

// plan takes one line of section [plans].
func (l *loader) plan(at pos, name, val string) {
	p := &Plan{Name: name, Source: fmt.Sprintf("%s:%d", at.file, at.line)}
	switch {
	case p.Preset():
		l.errorAt(at, fmt.Sprintf("plan %s: names with a colon are those of presets; choose another", name))
		return
	case name == AutoPlan, name == NoPlan:
		l.errorAt(at, fmt.Sprintf("plan %s: the name is reserved", name))
		return
	}
	l.twice(at, l.planAt, "plan", name)
	notes, err := parseParams(p, planParams, val)
	switch {
	case err != nil:
	case strings.TrimSpace(val) == "":
		err = errors.New("says nothing; it needs max_server_connections or another limit")
	case p.Reserve > 0 && p.MaxServerConnections == 0:
		err = errors.New("reserve is a part of max_server_connections, which is missing")
	case p.Reserve > 0 && p.Reserve >= p.MaxServerConnections:
		err = fmt.Errorf("reserve=%d leaves nothing of max_server_connections=%d", p.Reserve, p.MaxServerConnections)
	}
	l.tell(at, "plan "+name, notes, err)
	l.snap.Plans[name] = p // with an error too, so that nobody complains that it is unknown
}

// plans finds the plan of each entry: plans may be defined below their use.
func (l *loader) plans() {
	for name, p := range l.snap.Plans {
		l.snap.Plans[name] = p.shared(l.snap.Main.PlanProcesses)
	}
	if _, err := l.snap.FindPlan(l.snap.Main.Plan); err != nil {
		l.errorAt(l.settingAt("plan"), "plan: "+err.Error())
		return
	}
	found := make(map[string]*Plan) // so that entries with the same plan point to the same one
	for d := range l.snap.entries() {
		name := cmp.Or(d.plan, l.snap.Main.Plan)
		plan, ok := found[name]
		if !ok {
			var err error
			if plan, err = l.snap.FindPlan(name); err != nil {
				l.errorAt(l.databaseAt[d.Name], "database "+d.Name+": plan: "+err.Error())
				continue
			}
			found[name] = plan
		}
		d.Plan = plan
	}
}

// replan finds all plans anew, once a setting has changed that they depend on.
// It is called only on a Snapshot that nobody else has yet.
func (s *Snapshot) replan() error {
	l := loader{snap: s}
	s.Plans, s.byName, s.Databases = maps.Clone(s.Plans), maps.Clone(s.byName), slices.Clone(s.Databases)
	for i, d := range s.Databases {
		next := *d
		s.Databases[i], s.byName[d.Name] = &next, &next
	}
	if s.AutoDB != nil {
		next := *s.AutoDB
		s.AutoDB = &next
	}
	l.plans()
	if len(l.problems) > 0 {
		return errors.New(l.problems[0].Text)
	}
	return nil
}

// FindPlan returns the plan of that name: one of section [plans], a preset, or
// AutoPlan; nil for NoPlan and for "". The error suggests a name that is like
// it.
func (s *Snapshot) FindPlan(name string) (*Plan, error) {
	if p := s.Plans[name]; p != nil {
		return p, nil
	}
	switch name {
	case "", NoPlan:
		return nil, nil
	case AutoPlan:
		return autoPlan.shared(s.Main.PlanProcesses), nil
	}
	known := slices.Sorted(maps.Keys(s.Plans))
	if !strings.Contains(name, ":") {
		known = append(known, AutoPlan, NoPlan)
		hint := fmt.Sprintf("it is not in section [plans]; define it there: %s = max_server_connections=…", name)
		if like, ok := Closest(name, known); ok {
			hint = "perhaps you meant " + like
		}
		return nil, fmt.Errorf("there is no plan %q: %s", name, hint)
	}
	p, err := Preset(name)
	return p.shared(s.Main.PlanProcesses), err
}
