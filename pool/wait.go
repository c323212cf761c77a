package pool

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgweir/pgweir/pool/latency"
	"github.com/pgweir/pgweir/wire"
)

// WaitReason is why a client waits for a server: what would have to change for
// it to be served.
type WaitReason uint8

const (
	WaitNone     WaitReason = iota // nothing is in the way
	WaitOpening                    // a server is being opened for it
	WaitCheck                      // a server is being reset or checked for it
	WaitMove                       // an idle server comes over from another loop
	WaitLogins                     // as many servers are being opened as may be at once: max_login_concurrency
	WaitBackoff                    // the last attempt to open a server failed, and the next one comes: server_login_retry
	WaitPool                       // all servers that the pool may have are in use: pool_size
	WaitReserve                    // the same, and the reserve opens after reserve_pool_timeout
	WaitDatabase                   // max_db_connections
	WaitUser                       // max_user_connections
	WaitPlan                       // all connections that the plan, or Postgres itself, allows are in use: SHOW PLANS
	WaitPause                      // PAUSE
	waitReasons                    // how many there are
)

// String is the reason's name: that of the setting, if it is one that is in
// the way. SHOW CLIENTS, SHOW WAITS and the metrics show it.
func (r WaitReason) String() string {
	return [waitReasons]string{
		"", "server_login", "server_check", "server_move", "max_login_concurrency", "server_login_retry",
		"pool_size", "reserve_pool_timeout", "max_db_connections", "max_user_connections", "plan", "pause",
	}[r]
}

// lifted reports whether a slot that is freed may lift r.
func (r WaitReason) lifted() bool {
	switch r {
	case WaitLogins, WaitPool, WaitReserve, WaitDatabase, WaitUser:
		return true
	}
	return false
}

// evicts reports whether closing an idle server of another pool may lift r.
func (r WaitReason) evicts() bool { return r == WaitDatabase || r == WaitUser }

// reason is why the waiters of s wait.
func (s *Shard) reason() WaitReason {
	switch {
	case s.paused():
		return WaitPause
	case s.asked:
		return WaitMove
	case s.held == WaitPool && s.pool.connected.Load() == 0 && s.pool.size.Load() > 0:
		return WaitOpening // of all that pool_size allows, none is there yet
	case s.held != WaitNone:
		return s.held
	case s.tested.n > 0:
		return WaitCheck
	}
	return WaitOpening
}

// waits are the waits of a shard: since when for which reason, and their sums.
// All waiters of a shard wait for the same reason, so that it costs nothing to
// note a change, however many they are.
type waits struct {
	changes [16]change // the last ones, in a ring
	n       uint64     // of all changes
	sums    [waitReasons]waitSum
}

// change is a moment from which on there was another reason to wait.
type change struct {
	at  wire.Time
	why WaitReason
}

// waitSum sums up what waits that are over spent for one reason.
type waitSum struct {
	count          uint64
	total, longest time.Duration
}

// noteReason notes why the waiters of s wait from now on.
func (s *Shard) noteReason() {
	if s.waiting.n == 0 {
		return
	}
	if s.waits == nil {
		s.waits = &waits{}
	}
	w, why := s.waits, s.reason()
	if w.n > 0 && w.changes[(w.n-1)%uint64(len(w.changes))].why == why {
		return
	}
	w.changes[w.n%uint64(len(w.changes))] = change{s.w.now(), why}
	w.n++
}

// split tells a wait apart: how much of it was for which reason. What lies
// before the oldest change that is remembered counts for that one's reason.
func (w *waits) split(since, until wire.Time) (by [waitReasons]time.Duration) {
	oldest := w.n - min(w.n, uint64(len(w.changes)))
	for i := w.n; i > oldest && until > since; i-- {
		c := w.changes[(i-1)%uint64(len(w.changes))]
		from := max(c.at, since)
		if i-1 == oldest {
			from = since
		}
		if from < until {
			by[c.why] += until.Sub(from)
			until = from
		}
	}
	return by
}

// endWait counts the wait of c, which ends.
func (s *Shard) endWait(c *Client) {
	if c.login == nil { // the wait of one that logs in is part of its login
		s.latencies[latency.Wait].Record(s.w.now().Sub(c.queryStart))
	}
	if s.waits == nil {
		return
	}
	for why, d := range s.waits.split(c.queryStart, s.w.now()) {
		if d > 0 {
			sum := &s.waits.sums[why]
			sum.count++
			sum.total += d
			sum.longest = max(sum.longest, d)
		}
	}
}

// failWaiting ends a client that has waited for too long, for reason. It is
// told what it waited for most of the time.
func (c *Client) failWaiting(reason string) {
	c.fail(wire.Fields{Severity: "FATAL", Code: codeProtocol, Message: reason, Detail: c.shard.explain(c)})
}

// explain is a sentence about what c waited for most of the time.
func (s *Shard) explain(c *Client) string {
	now, why := s.w.now(), s.reason()
	if s.waits != nil {
		by := s.waits.split(c.queryStart, now)
		for r, d := range by {
			if d > by[why] {
				why = WaitReason(r)
			}
		}
	}
	return fmt.Sprintf("Waited %.1f s for a server connection of pool %q: %s.", now.Sub(c.queryStart).Seconds(), s.pool.name(), s.sentence(why))
}

// sentence says what r is, with the limit in force.
func (s *Shard) sentence(r WaitReason) string {
	set := s.pool.settings.Load()
	switch r {
	case WaitCheck:
		return "one is being reset or checked"
	case WaitMove:
		return "one is being handed over by another event loop"
	case WaitLogins:
		return fmt.Sprintf("others are being opened (max_login_concurrency = %d)", max(1, s.w.p.Snapshot().Main.MaxLoginConcurrency))
	case WaitBackoff:
		if f := s.pool.failure.Load(); f != nil {
			return "the last attempt to open one failed (" + f.reason + ")"
		}
		return "the last attempt to open one failed"
	case WaitPool:
		return fmt.Sprintf("all that the pool may have are in use (pool_size = %d)", set.PoolSize)
	case WaitReserve:
		return fmt.Sprintf("all that the pool may have are in use (pool_size = %d), and its reserve opens after reserve_pool_timeout", set.PoolSize)
	case WaitDatabase:
		return fmt.Sprintf("all that the database may have are in use (max_db_connections = %d)", set.MaxDBConnections)
	case WaitUser:
		return fmt.Sprintf("all that the user may have are in use (max_user_connections = %d)", set.MaxUserConnections)
	case WaitPlan:
		if b := s.claims; b != nil {
			return s.w.p.spent(b)
		}
		return "all connections that the plan allows are in use"
	case WaitPause:
		return "the database is paused"
	}
	return "one is being opened"
}

// Waits returns the waits of all pools that have had any, in order of database,
// user and reason. It may block.
func (p *Pooler) Waits() []WaitInfo {
	type key struct {
		pool poolKey
		why  WaitReason
	}
	rows := map[key]*WaitInfo{}
	p.gather(func(w *Worker) {
		for _, s := range w.all {
			if s.waits == nil {
				continue
			}
			now := s.reason()
			for r := range waitReasons {
				sum := s.waits.sums[r]
				if sum.count == 0 && (r != now || s.waiting.n == 0) {
					continue
				}
				k := key{s.pool.key(), r}
				row := rows[k]
				if row == nil {
					row = &WaitInfo{Database: k.pool.database, User: k.pool.user, Reason: r}
					rows[k] = row
				}
				row.Count += sum.count
				row.Total += sum.total
				row.Max = max(row.Max, sum.longest)
				if c := s.waiting.head; c != nil && r == now {
					row.Waiting += s.waiting.n
					row.Longest = max(row.Longest, w.now().Sub(c.queryStart))
				}
			}
		}
	})
	all := make([]WaitInfo, 0, len(rows))
	for _, row := range rows {
		all = append(all, *row)
	}
	slices.SortFunc(all, func(a, b WaitInfo) int {
		return cmp.Or(strings.Compare(a.Database, b.Database), strings.Compare(a.User, b.User), cmp.Compare(a.Reason, b.Reason))
	})
	return all
}

// WaitInfo is a row of SHOW WAITS: the waits in one pool for one reason. A wait
// for several reasons counts for each, with the time that it spent for it.
type WaitInfo struct {
	Database, User string
	Reason         WaitReason
	Waiting        int           // clients that wait for it now
	Longest        time.Duration // that one of them has waited, for whatever reason

	// Of the waits that are over, however they ended:
	Count      uint64
	Total, Max time.Duration
}
