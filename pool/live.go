package pool

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/wire"
)

// liveQuery asks a server how many connections it allows: max_connections less
// what it keeps for others, to the role, to the database; -1 is no limit. A
// superuser's role has none. It is one column, so that there is little to read.
const liveQuery = "SELECT pg_catalog.concat_ws(' '," +
	" pg_catalog.current_setting('max_connections')::int4" +
	" - pg_catalog.current_setting('superuser_reserved_connections')::int4" +
	" - coalesce((SELECT setting FROM pg_catalog.pg_settings WHERE name = 'reserved_connections'), '0')::int4," +
	" (SELECT CASE WHEN rolsuper THEN -1 ELSE rolconnlimit END FROM pg_catalog.pg_roles WHERE rolname = session_user)," +
	" (SELECT datconnlimit FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))"

// liveEvery is how old an answer may be when another server of the pool logs in.
const liveEvery = time.Minute

// liveLimits are the answer to liveQuery: connections to the server, of the
// role, to the database; below 1 there is no limit.
type liveLimits [3]int

// parseLive reads the DataRow, without its header, that answers liveQuery.
func parseLive(body []byte) (l liveLimits, ok bool) {
	if len(body) < 6 || binary.BigEndian.Uint16(body) != 1 || int64(binary.BigEndian.Uint32(body[2:])) != int64(len(body)-6) {
		return l, false
	}
	n, err := fmt.Sscanf(string(body[6:]), "%d %d %d", &l[0], &l[1], &l[2])
	return l, err == nil && n == len(l)
}

// liveDue reports whether v, just logged in, is to be asked for the limits.
// Only pools with a plan heed them: an entry without one may lead to a pooler,
// or to several servers of one name, that take more than each of them allows.
func (v *Server) liveDue() bool {
	s := v.shard
	if s.pool.db.conf.Load().Plan == nil {
		return false
	}
	p, q, now := s.w.p, s.pool, s.w.now()
	p.mu.Lock()
	defer p.mu.Unlock()
	unknown := slices.ContainsFunc(v.seat.all(), func(b *budget) bool { return b.plan == nil && b.live < 0 })
	if !unknown && q.liveFor != 0 && q.liveOf == v.generation && now.Sub(q.liveFor) < liveEvery {
		return false
	}
	q.liveFor, q.liveOf = now, v.generation // others that log in meanwhile need not ask
	return true
}

// readLive takes in the answer.
func (v *Server) readLive(row []byte) {
	l, ok := parseLive(row)
	if !ok {
		v.jobError = "an answer that is none"
		return
	}
	v.setLive(l)
}

// setLive takes over what the server of v allows.
func (v *Server) setLive(l liveLimits) {
	p, q := v.shard.w.p, v.shard.pool
	p.mu.Lock()
	changed := false
	for _, b := range v.seat.all() {
		if b.plan != nil {
			continue
		}
		n := max(0, l[b.key.scope])
		changed = changed || n != b.live
		b.live = n
		b.relimit()
	}
	holds := v.seat.all().tightest()
	limit := holds.limit
	next := v.seat.all().nextLocked(v.shard.w.now())
	p.mu.Unlock()
	wakeShards(next)
	switch {
	case !changed:
	case limit == noLimit:
		p.log.Log(Info, "S: "+q.name(), "neither plan nor server limit the connections")
	default:
		p.log.Log(Info, "S: "+q.name(), fmt.Sprintf("at most %d server connections, shared by all pools of %v: %s", limit, holds.key, holds.reason()))
	}
}

// liveTold goes on with v, which has answered.
func (v *Server) liveTold() {
	if v.jobError != "" || v.status != wire.TxIdle {
		v.log(Warning, "cannot read how many connections the server allows: "+v.jobError)
		v.setLive(liveLimits{}) // then the plan alone counts
	}
	if v.status != wire.TxIdle {
		v.close("limits query failed", true)
		v.shard.provide()
		return
	}
	v.begin()
}

// tightest is the budget of l with the lowest limit.
func (l budgets) tightest() *budget {
	least := l[0]
	for _, b := range l {
		if b.limit < least.limit {
			least = b
		}
	}
	return least
}

// source says where b's limit comes from.
func (b *budget) source() string {
	switch {
	case b.refusal != nil && b.refusal.most < b.limit:
		return "refused"
	case b.plan != nil && b.plan.Preset():
		return "preset"
	case b.plan != nil:
		return "configured"
	case b.key.scope == configs.ScopeRole:
		return "role"
	case b.key.scope == configs.ScopeDatabase:
		return "database"
	}
	return "live"
}

// reason says the same in a sentence's end.
func (b *budget) reason() string {
	var text string
	switch b.source() {
	case "preset", "configured":
		text = "plan " + b.plan.Name
	case "role":
		text = "the role's CONNECTION LIMIT"
	case "database":
		text = "the database's CONNECTION LIMIT"
	default:
		text = "max_connections, less what the server reserves"
	}
	if b.reserve > 0 {
		text += fmt.Sprintf(", and %d are left to others", b.reserve)
	}
	return text
}
