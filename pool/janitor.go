package pool

import (
	"slices"
	"strings"
	"time"

	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/wire"
)

// Tick is the loop's maintenance, called every TickEvery: all that happens
// because time has passed.
func (w *Worker) Tick() {
	now := w.now()
	snap := w.p.Snapshot()
	w.tickLogins(now, &snap.Main)
	w.tickLookups(now, &snap.Main)
	w.tickFarewells(now)
	w.tickDrain(now)
	for _, s := range w.all {
		s.tickClients(now, snap)
		s.tickServers(now, &snap.Main)
	}
	if w.index == 0 {
		w.p.tick(now)
	}
}

// late reports whether since lies longer back than limit; a limit of 0 is none.
func late(now, since wire.Time, limit time.Duration) bool {
	return limit > 0 && now.Sub(since) > limit
}

func (w *Worker) tickLogins(now wire.Time, main *configs.Main) {
	w.logins.each(func(c *Client) {
		if late(now, c.connected, main.ClientLoginTimeout) && !c.login.trial.awaited() {
			c.disconnect(true, "client_login_timeout")
		}
	})
	w.cancels.each(func(c *Client) {
		if late(now, c.lastPacket, main.CancelWaitTimeout) {
			c.disconnect(false, "cancel_wait_timeout")
		}
	})
}

func (s *Shard) tickClients(now wire.Time, snap *configs.Snapshot) {
	main := &snap.Main
	set := s.pool.settings.Load()
	s.waiting.each(func(c *Client) {
		if c.login != nil && late(now, c.connected, main.ClientLoginTimeout) && !c.login.trial.awaited() {
			c.failWaiting(reasonServerDown)
			return
		}
		wait := snap.ForClient(s.pool.db.conf.Load(), c.user.Name).QueryWaitTimeout
		switch {
		case late(now, c.queryStart, wait):
			c.failWaiting(reasonQueryWait)
		case late(now, c.queryStart, set.QueryTimeout):
			c.failWaiting(reasonQueryTimeout)
		case s.w.p.shutdownMode() == ShutdownWaitForServers:
			c.disconnect(true, reasonServerStopping)
		case c.login == nil && !c.notified && main.QueryWaitNotify > 0 &&
			int(now.Sub(c.queryStart)/time.Second) > main.QueryWaitNotify:
			c.notified = true
			s.w.scratch = wire.AppendNotice(s.w.scratch[:0], wire.Fields{
				Severity: "NOTICE", Code: "00000",
				Message: "No server connection available in postgres backend, client being queued",
			})
			c.conn.Write(s.w.scratch)
		}
	})
	fastClose := main.ServerFastClose && set.PoolMode == configs.PoolSession
	if fastClose || set.QueryTimeout > 0 || set.TransactionTimeout > 0 || set.IdleTransactionTimeout > 0 {
		s.busy.each(func(v *Server) {
			c := v.client
			switch {
			case c == nil || v.replication != replicatesNot:
			case c.busy && late(now, c.queryStart, set.QueryTimeout):
				v.overdue("query timeout")
			case !c.busy && v.status != wire.TxIdle && late(now, v.since, set.IdleTransactionTimeout):
				v.close("idle transaction timeout", false)
			case c.inXact && late(now, c.xactStart, set.TransactionTimeout):
				v.overdue("transaction timeout")
			case fastClose && v.obsolete() && v.ledger.clear() && v.status == wire.TxIdle && c.remain == 0:
				v.close("database configuration changed", true)
			}
		})
	}
	if s.w.anyIdleTimeout(snap) {
		s.idleClients.each(func(c *Client) {
			if late(now, c.lastPacket, snap.ForClient(s.pool.db.conf.Load(), c.user.Name).ClientIdleTimeout) {
				c.disconnect(true, "client_idle_timeout")
			}
		})
	}
	if s.waiting.n > 0 {
		s.provide() // a back-off, or the patience before the reserve, may be over
	}
}

// anyIdleTimeout reports whether snap closes any idle client: if not, ten
// thousand of them need not be looked at.
func (w *Worker) anyIdleTimeout(snap *configs.Snapshot) bool {
	if w.idleTimeoutFor != snap {
		w.idleTimeoutFor = snap
		w.idleTimeout = snap.Main.ClientIdleTimeout > 0
		for _, u := range snap.Users {
			w.idleTimeout = w.idleTimeout || u.ClientIdleTimeout > 0
		}
	}
	return w.idleTimeout
}

func (s *Shard) tickServers(now wire.Time, main *configs.Main) {
	p := s.pool
	set := p.settings.Load()
	s.tickNames()
	s.tickReplication()
	s.used.each(func(v *Server) { s.tickUnused(v, now, main, set) })
	s.idle.each(func(v *Server) { s.tickUnused(v, now, main, set) })
	s.tested.each(func(v *Server) { s.tickSilent(v, now, main) })
	if s.paused() {
		return
	}
	s.tickRoles(now)
	if int(p.connected.Load()) < set.MinPoolSize && (s.clients() > 0 || p.db.conf.Load().User != "") &&
		s.opening.n == 0 {
		if a := (ask{now: now, fill: set.MinPoolSize}); s.w.p.reserve(p, &a) == WaitNone {
			s.connect(a.seat)
		}
	}
}

// clients is how many clients of the pool this loop has.
func (s *Shard) clients() int { return s.idleClients.n + s.active.n + s.waiting.n }

// tickUnused closes v, which nobody uses, if there is a reason, and puts it
// aside to be checked when it was idle for long.
func (s *Shard) tickUnused(v *Server, now wire.Time, main *configs.Main, set *configs.PoolSettings) {
	p := s.pool
	switch {
	case s.paused():
		v.close("pause mode", true)
	case v.obsolete():
		v.close("database configuration changed", true)
	case v.excess():
		v.close("too many servers in the pool", true)
	case v.seat.all().exceeded():
		v.close("too many servers for the plan", true)
	case late(now, v.since, main.ServerIdleTimeout) && int(p.connected.Load()) > set.MinPoolSize:
		v.close("server idle timeout", true)
	case v.overAge():
		p.lifeClose.Store(int64(now))
		v.close("server lifetime over", true)
	case v.state == ServerIdle && main.ServerCheckDelay > 0 && main.ServerCheckQuery != "" &&
		now.Sub(v.since) > main.ServerCheckDelay:
		since := v.since
		v.move(ServerUsed)
		v.since = since
		s.publishIdle()
	}
}

// excess reports whether v's pool has more servers than it may have any more.
func (v *Server) excess() bool {
	set := v.shard.pool.settings.Load()
	return set.PoolSize > 0 && int(v.shard.pool.connected.Load()) > set.PoolSize+set.ReservePoolSize
}

// tick is the maintenance of what the loops share.
func (p *Pooler) tick(now wire.Time) {
	main := &p.Snapshot().Main
	if names := p.opts.Names; names != nil {
		names.CheckZones()
	}
	var forced []*Database
	var gone []*Pool
	p.mu.Lock()
	for _, name := range sortedKeys(p.databases) { // in one order, or no run could be repeated
		d := p.databases[name]
		conf := d.conf.Load()
		if conf.User != "" && len(d.pools) == 0 && p.Snapshot().ForPool(conf, conf.User).MinPoolSize > 0 {
			forced = append(forced, d)
		}
		if d.auto {
			gone = append(gone, p.expireLocked(d, now, main.AutoDBIdleTimeout)...)
		}
	}
	if main.PoolIdleTimeout > 0 {
		gone = append(gone, p.idlePoolsLocked(now, main.PoolIdleTimeout)...)
	}
	p.mu.Unlock()
	for _, d := range forced { // keeps its servers ready before the first client comes
		p.workers[0].shard(p.pool(d, d.conf.Load().User, 0))
	}
	p.forgetShards(gone)
}

// expireLocked removes an automatic database that nobody has used for limit.
// It returns the pools that go with it.
func (p *Pooler) expireLocked(d *Database, now wire.Time, limit time.Duration) []*Pool {
	inUse := func(q *Pool) bool { return q.clients.Load() > 0 }
	if d.open > 0 || d.clients.Load() > 0 || d.paused.Load() || slices.ContainsFunc(d.pools, inUse) {
		d.idleSince = 0
		return nil
	}
	if d.idleSince == 0 {
		d.idleSince = now
	}
	if !late(now, d.idleSince, limit) {
		return nil
	}
	delete(p.databases, d.Name)
	p.tenants = nil
	d.removed.Store(true)
	gone := d.pools
	for _, q := range gone {
		p.forgetLocked(q)
	}
	return gone
}

// idlePoolsLocked removes, and returns, the pools without clients and servers for limit.
func (p *Pooler) idlePoolsLocked(now wire.Time, limit time.Duration) (gone []*Pool) {
	for _, q := range p.pools {
		if q.open > 0 || q.clients.Load() > 0 || q.db.conf.Load().User != "" && q.settings.Load().MinPoolSize > 0 {
			q.idleFor = 0
			continue
		}
		if q.idleFor == 0 {
			q.idleFor = now
		}
		if late(now, q.idleFor, limit) {
			gone = append(gone, q)
			p.forgetLocked(q)
		}
	}
	slices.SortFunc(gone, func(a, b *Pool) int { return strings.Compare(a.name(), b.name()) })
	return gone
}
