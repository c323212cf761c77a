package configs

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
)

// Claim is what the entries that share a plan's connections may make of it.
type Claim struct {
	Plan    *Plan
	On      string   // host:port, user@host:port, or the entry, as the plan's scope is
	Entries []string // their names, in the order of the file, "*" last

	// Most is how many server connections their pools may add up to in one
	// process, by pool sizes, reserve pools and the limits of databases and
	// users, whatever the plan says; Unbounded where nothing limits that.
	Most int
}

// Unbounded is more than any number of connections.
const Unbounded = math.MaxInt

// Each returns how many server connections one process may open.
func (c *Claim) Each() int {
	if budget := c.Plan.Budget(); budget > 0 {
		return min(c.Most, budget)
	}
	return c.Most
}

// Room returns how many server connections all processes together may open;
// 0 when only the server knows.
func (c *Claim) Room() int {
	if c.Plan.MaxServerConnections == 0 {
		return 0
	}
	return c.Plan.MaxServerConnections - c.Plan.Reserve
}

// anyUser stands for users that no file names.
const anyUser = ""

// Claims returns what the entries under a plan may ask of it, in the order of
// the file. Several hosts count as one server: entries that share it name them alike.
func (s *Snapshot) Claims() []*Claim {
	type key struct{ plan, on string }
	found := make(map[key]*tally)
	var order []*tally
	for d := range s.entries() {
		if d.Plan == nil {
			continue
		}
		for _, user := range s.poolUsers(d) {
			k := key{d.Plan.Name, claimName(d, user)}
			t := found[k]
			if t == nil {
				t = &tally{claim: &Claim{Plan: d.Plan, On: k.on}, entries: make(map[string]*part), users: make(map[string]*part)}
				found[k] = t
				order = append(order, t)
			}
			t.add(s, d, user)
		}
	}
	claims := make([]*Claim, 0, len(order))
	for _, t := range order {
		t.claim.Most = min(sum(t.entries), sum(t.users))
		claims = append(claims, t.claim)
	}
	return claims
}

// claimName says on what the pool of d and user claims connections.
func claimName(d *Database, user string) string {
	if d.Plan.Scope == ScopeDatabase {
		if d.Name == "*" {
			return "each entry made from *"
		}
		return d.Name
	}
	on := net.JoinHostPort(strings.Join(d.Hosts, ","), strconv.Itoa(d.Port))
	if d.Plan.Scope == ScopeRole {
		on = cmp.Or(user, "any other user") + "@" + on
	}
	return on
}

// tally adds up a Claim, by entries and by users: either sum is a bound.
type tally struct {
	claim          *Claim
	entries, users map[string]*part
}

// part is what pools may open that have an entry or a user in common.
type part struct{ pools, limit int }

func (t *tally) add(s *Snapshot, d *Database, user string) {
	if !slices.Contains(t.claim.Entries, d.Name) {
		t.claim.Entries = append(t.claim.Entries, d.Name)
	}
	set := s.ForPool(d, user)
	size := limited(set.PoolSize)
	if size != Unbounded {
		size += set.ReservePoolSize
	}
	entryLimit, userLimit := limited(set.MaxDBConnections), limited(set.MaxUserConnections)
	role, template := t.claim.Plan.Scope == ScopeRole, d.Name == "*" && t.claim.Plan.Scope != ScopeDatabase
	if template { // there may be any number of such entries
		entryLimit = Unbounded
	}
	if user == anyUser && !role { // there may be any number of such users
		userLimit = Unbounded
	}
	if template || user == anyUser && !role {
		size = Unbounded
	}
	grow(t.entries, d.Name, size, entryLimit)
	grow(t.users, user, size, userLimit)
}

func grow(parts map[string]*part, name string, size, limit int) {
	p := parts[name]
	if p == nil {
		p = &part{limit: limit}
		parts[name] = p
	}
	p.pools = plus(p.pools, size)
}

func sum(parts map[string]*part) (total int) {
	for _, p := range parts {
		total = plus(total, min(p.pools, p.limit))
	}
	return total
}

// plus adds numbers of connections.
func plus(a, b int) int {
	if a > Unbounded-b {
		return Unbounded
	}
	return a + b
}

// limited turns a limit whose 0 means none into a number.
func limited(n int) int {
	if n == 0 {
		return Unbounded
	}
	return n
}

// poolUsers returns as whom servers of d may be logged in to, anyUser among them
// when nobody can tell.
func (s *Snapshot) poolUsers(d *Database) []string {
	users := make(map[string]bool)
	m := &s.Main
	if d.User != "" {
		users[d.User] = true
	} else {
		for name := range s.Auth.Names() {
			users[name] = true
		}
		switch m.AuthType {
		case AuthHBA, AuthLDAP, AuthPAM, AuthPassthrough:
			users[anyUser] = true
		}
		if cmp.Or(d.AuthUser, m.AuthUser) != "" || len(users) == 0 {
			users[anyUser] = true
		}
	}
	for e := range s.entries() { // auth_query has a pool of its own
		asks := cmp.Or(e.AuthUser, m.AuthUser)
		if asks != "" && cmp.Or(e.AuthDBName, m.AuthDBName, e.Name) == d.Name {
			users[asks] = true
		}
	}
	return slices.Sorted(maps.Keys(users))
}

// Fits reports whether so many processes together stay within the plan. advice,
// when they don't, says what to write where.
func (c *Claim) Fits(processes int) (ok bool, advice string) {
	room, each := c.Room(), c.Each()
	if room == 0 || each <= room/processes {
		return true, ""
	}
	advice = fmt.Sprintf("plan %s on %s: %d processes with up to %d server connections each make %d, and the plan has room for %d",
		c.Plan.Name, c.On, processes, each, each*processes, room)
	share := room / processes
	if share == 0 {
		return false, advice + fmt.Sprintf("; that is not even one for each: run at most %d%s", room, c.larger(processes))
	}
	advice += fmt.Sprintf("; write plan_processes = %d into [pgbouncer], and each opens at most %d", processes, share)
	if limit := share / len(c.Entries); limit > 0 && !slices.Contains(c.Entries, "*") {
		on := "entry " + c.Entries[0]
		if n := len(c.Entries); n > 1 {
			on = fmt.Sprintf("each of the %d entries", n)
		}
		advice += fmt.Sprintf(", or max_db_connections=%d on %s", limit, on)
	}
	return false, advice + c.larger(processes)
}

// larger advises the smallest plan that is large enough, if there is one: of the
// same kind, such as standard or db.t4g, or else of the same provider.
func (c *Claim) larger(processes int) string {
	kind, _, _ := strings.Cut(c.Plan.Name, ":")
	if !c.Plan.Preset() || c.Most == Unbounded {
		return ""
	}
	kinds := []string{kind + ":"}
	if i := strings.LastIndexAny(c.Plan.Name, "-."); i > 0 {
		kinds = []string{c.Plan.Name[:i], kind + ":"}
	}
	for _, kind := range kinds {
		best := &Plan{MaxServerConnections: Unbounded}
		for _, p := range Presets() {
			if strings.HasPrefix(p.Name, kind) && p.MaxServerConnections < best.MaxServerConnections && p.Budget()/processes >= c.Most {
				best = p
			}
		}
		if best.Name != "" {
			return ", or take a larger plan, such as " + best.Name
		}
	}
	return ""
}

// checkClaims warns of plans that can't be meant so.
func (l *loader) checkClaims() {
	servers := make(map[string]*Claim) // the first preset on each server
	for _, c := range l.snap.Claims() {
		at := l.databaseAt[c.Entries[0]]
		if room, n := c.Room(), l.snap.Main.PlanProcesses; room > 0 && room < n {
			l.warnAt(at, fmt.Sprintf("plan %s on %s has room for %d connections, and plan_processes is %d; each process opens one all the same",
				c.Plan.Name, c.On, room, n))
		}
		if !c.Plan.Preset() || c.Plan.Scope != ScopeServer {
			continue
		}
		if first := servers[c.On]; first != nil {
			l.warnAt(at, fmt.Sprintf("plan %s on %s: database %s has plan %s there; a server has one plan, and these two are counted apart",
				c.Plan.Name, c.On, first.Entries[0], first.Plan.Name))
			continue
		}
		servers[c.On] = c
	}
}
