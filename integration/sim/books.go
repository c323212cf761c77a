package sim

import (
	"cmp"
	"slices"
	"strings"

	"github.com/pgweir/pgweir/configs"
)

// books are what the simulator counts by itself.
type books struct {
	open      []*opened      // servers, those being opened included
	crashes   int            // sessions that ended without being asked to
	kills     int            // KILLs and removed databases
	unheard   int            // cancel requests that the pooler may not have heard, and need not
	lost      int            // those that did not come through, these included
	swallowed map[tag]int    // Syncs that a COPY has ignored
	refused   map[string]int // clients, by what they were told at the end
	grown     []*Conn        // whose queue has grown in this step
}

// opened is a server: of which database and user, and where.
type opened struct{ database, user, place string }

func newBooks() books {
	return books{swallowed: map[tag]int{}, refused: map[string]int{}}
}

// placeOf names hosts, in whatever order they are tried.
func placeOf(hosts []string) string { return strings.Join(slices.Sorted(slices.Values(hosts)), ",") }

// opening counts a server that the pooler begins to open, and fails if there
// was no room for it. closed counts it out again when it is gone, or was not let
// in.
func (b *books) opening(w *World, database, user string, hosts []string) (o *opened, closed func()) {
	snap := w.pooler.Snapshot()
	entry := func(name string) *configs.Database { return cmp.Or(snap.Database(name), snap.Auto(name)) }
	conf := entry(database)
	o = &opened{database, user, placeOf(hosts)}
	inPool, inDB, ofUser, ofPlan := 0, 0, 0, 0
	for _, other := range b.open {
		if other.database == database {
			inDB++
		}
		if other.user == user {
			ofUser++
		}
		if other.database == database && other.user == user {
			inPool++
		}
		if conf != nil && o.shares(conf, other, entry(other.database)) {
			ofPlan++
		}
	}
	b.open = append(b.open, o)
	closed = func() { b.open = slices.DeleteFunc(b.open, func(other *opened) bool { return other == o }) }
	if conf == nil {
		return o, closed // removed by a reload, and not yet by every loop
	}
	if plan := conf.Plan; plan != nil && plan.Budget() > 0 && ofPlan >= plan.Budget() {
		w.failf("server %d opened for plan %s at %s as %s, whose limit is %d", ofPlan+1, plan.Name, o.place, user, plan.Budget())
	}
	set := snap.ForPool(conf, user)
	switch {
	case set.PoolSize > 0 && inPool >= set.PoolSize+set.ReservePoolSize:
		w.failf("server %d opened for %s/%s, whose limit is %d and %d in reserve", inPool+1, database, user, set.PoolSize, set.ReservePoolSize)
	case set.MaxDBConnections > 0 && inDB >= set.MaxDBConnections:
		w.failf("server %d opened for database %s, whose limit is %d", inDB+1, database, set.MaxDBConnections)
	case set.MaxUserConnections > 0 && ofUser >= set.MaxUserConnections:
		w.failf("server %d opened for user %s, whose limit is %d", ofUser+1, user, set.MaxUserConnections)
	}
	return o, closed
}

// keeps reports whether o, which the pooler has told to end, has to be counted
// until Postgres has ended it: its entry has a plan with a limit, and leads there.
func (o *opened) keeps(w *World) bool {
	snap := w.pooler.Snapshot()
	conf := cmp.Or(snap.Database(o.database), snap.Auto(o.database))
	return conf != nil && conf.Plan != nil && conf.Plan.Budget() > 0 && placeOf(conf.Hosts) == o.place
}

// shares reports whether other, of an entry that is theirs by now (nil: it is
// gone), counts under the plan of o, whose entry is conf. When it was opened does
// not matter, nor which plan held then.
func (o *opened) shares(conf *configs.Database, other *opened, theirs *configs.Database) bool {
	if theirs == nil || conf.Plan == nil || theirs.Plan == nil || conf.Plan.Name != theirs.Plan.Name || other.place != o.place || placeOf(theirs.Hosts) != o.place {
		return false
	}
	switch conf.Plan.Scope {
	case configs.ScopeRole:
		return other.user == o.user
	case configs.ScopeDatabase:
		return other.database == o.database
	}
	return true
}

// cancelled is told that a cancel request has reached a statement.
func (b *books) cancelled(w *World, t tag) {
	for _, c := range w.clients {
		if c.id == t.client {
			if c.cancels == 0 {
				w.failf("a cancel request stopped %v, whose client did not ask for it", t)
			}
			return
		}
	}
	w.failf("a cancel request stopped a query of the pooler's own")
}

// check is what must hold after each step: what waits to be sent is bounded by
// the settings, whatever clients send or don't read.
func (b *books) check(w *World) {
	most := w.set.buffer + 2*maxRead + longestText // a Parse is sent on whole
	for _, c := range b.grown {
		if len(c.queue) > most {
			w.failf("%v: %d bytes are queued, and at most %d may be", c.s, len(c.queue), most)
		}
	}
	b.grown = b.grown[:0]
}
