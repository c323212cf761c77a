package sim

import (
	"strings"

	"github.com/pgweir/pgweir/configs"
)

// books are what the simulator counts by itself.
type books struct {
	open      map[[2]string]int // servers by database and user, those being opened included
	planned   map[string]int    // servers by plan and whose they are in it, the same
	crashes   int               // sessions that ended without being asked to
	kills     int               // KILLs and removed databases
	swallowed map[tag]int       // Syncs that a COPY has ignored
	refused   map[string]int    // clients, by what they were told at the end
	grown     []*Conn           // whose queue has grown in this step
}

func newBooks() books {
	return books{open: map[[2]string]int{}, planned: map[string]int{}, swallowed: map[tag]int{}, refused: map[string]int{}}
}

// opening counts a server that the pooler begins to open, and fails if there
// was no room for it. closed counts it out again when it is gone, or was not let
// in.
func (b *books) opening(w *World, database, user string) (closed func()) {
	snap := w.pooler.Snapshot()
	conf := snap.Database(database)
	if conf == nil {
		conf = snap.Auto(database)
	}
	inPool, inDB, ofUser := 0, 0, 0
	for key, n := range b.open {
		if key[0] == database {
			inDB += n
		}
		if key[1] == user {
			ofUser += n
		}
		if key == [2]string{database, user} {
			inPool = n
		}
	}
	b.open[[2]string{database, user}]++
	closed = func() { b.open[[2]string{database, user}]-- }
	if conf == nil {
		return closed // removed by a reload, and not yet by every loop
	}
	if plan := conf.Plan; plan != nil && plan.Budget() > 0 {
		whose := plan.Name + " at " + strings.Join(conf.Hosts, ",")
		switch plan.Scope {
		case configs.ScopeRole:
			whose += " role " + user
		case configs.ScopeDatabase:
			whose += " database " + database
		}
		if n := b.planned[whose]; n >= plan.Budget() {
			w.failf("server %d opened for plan %s, whose limit is %d", n+1, whose, plan.Budget())
		}
		b.planned[whose]++
		closed = func() {
			b.open[[2]string{database, user}]--
			b.planned[whose]--
		}
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
	return closed
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
	most := w.set.buffer + 2*maxRead
	for _, c := range b.grown {
		if len(c.queue) > most {
			w.failf("%v: %d bytes are queued, and at most %d may be", c.s, len(c.queue), most)
		}
	}
	b.grown = b.grown[:0]
}
