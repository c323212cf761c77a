package pool

import (
	"maps"
	"time"

	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool/dial"
	"github.com/pgweir/pgweir/wire"
)

// A server of an entry with target_session_attrs is asked now and then whether
// it still is what the entry wants. One that is not takes all servers of its
// host with it: they finish what they do, and the pool looks for another host.

// roleEvery is how often each loop asks one server of each host.
const roleEvery = time.Second

// attrs is what the servers of v's pool must be.
func (v *Server) attrs() configs.SessionAttrs {
	return v.shard.pool.db.conf.Load().TargetSessionAttrs
}

// tickRoles asks the servers that are idle, one of each host.
func (s *Shard) tickRoles(now wire.Time) {
	if s.pool.db.conf.Load().TargetSessionAttrs == configs.SessionAny {
		return
	}
	maps.DeleteFunc(s.rolesAsked, func(_ string, at wire.Time) bool { return now.Sub(at) >= roleEvery })
	s.idle.each(func(v *Server) {
		if !v.obsolete() && v.roleDue() {
			v.askRole()
		}
	})
}

// roleDue reports whether v has to be asked. For one that is idle tickRoles
// sees to that, but on a busy loop no server may ever be.
func (v *Server) roleDue() bool {
	if v.attrs() == configs.SessionAny {
		return false
	}
	_, lately := v.shard.rolesAsked[v.host]
	return !lately
}

// roleKnown notes that v has just told what it is, or is about to.
func (v *Server) roleKnown() {
	s := v.shard
	if s.rolesAsked == nil {
		s.rolesAsked = map[string]wire.Time{}
	}
	s.rolesAsked[v.host] = s.w.now()
}

// askRole asks v what it is.
func (v *Server) askRole() {
	v.roleKnown()
	v.fits = false
	v.run(jobRole, dial.RoleQuery(v.attrs()))
}

// readRole takes in the answer. Where a standby is preferred, and none was found,
// what v was then will do.
func (v *Server) readRole(row []byte) {
	standby, readOnly, ok := dial.ParseRole(row)
	attrs := v.attrs()
	v.fits = ok && (attrs.Admit(standby, readOnly) || attrs == configs.SessionPreferStandby && !v.standby)
}

// roleTold goes on with v, which has answered.
func (v *Server) roleTold() {
	s := v.shard
	switch {
	case v.jobError != "" || v.status != wire.TxIdle:
		v.close("role query failed", true)
		s.provide()
	case !v.fits:
		s.w.p.retire(s.pool, v.host, dial.UnfitReason(v.attrs())+" any more")
		v.close(dial.UnfitReason(v.attrs()), true)
		s.provide()
	default:
		since := v.since
		s.w.offer(v)
		if v.state == ServerIdle && v.shard == s {
			v.since = since // to be asked is no use
			s.publishIdle()
		}
	}
}

// probed reports whether v is asked what every server answers at once.
func (v *Server) probed() bool { return v.job == jobCheck || v.job == jobRole }

// tickSilent gives up v, which is being tested, if it is probed and does not
// answer: the machine that it ran on is gone, without a word to anybody, or the
// network between. If there are other hosts the pool goes there.
func (s *Shard) tickSilent(v *Server, now wire.Time, main *configs.Main) {
	if !v.probed() || !late(now, v.asked, main.ServerConnectTimeout) {
		return
	}
	const reason = "server does not answer"
	p, q := s.w.p, s.pool
	if names := p.opts.Names; names != nil && v.name != v.host {
		names.Silent(v.name, v.host)
	}
	if q.several() {
		q.skip(p, &dial.LoginError{Kind: dial.Timeout, Reason: reason, Host: v.name}, main.ServerLoginRetry)
		p.retire(q, v.host, reason)
	}
	v.close(reason, false)
	s.w.loop.Post(s.provide)
}

// retire has all servers of q on host closed as soon as nobody uses them, and at
// once if they are probed. One that is on its way from loop to loop is met when
// it is asked itself.
func (p *Pooler) retire(q *Pool, host, why string) {
	p.log.Log(Warning, "S: "+q.name()+"@"+host, why+": its connections are closed")
	p.each(func(w *Worker) {
		s := w.shards[q.key()]
		if s == nil || s.pool != q {
			return
		}
		for _, l := range []*list[Server, *Server]{&s.busy, &s.canceled, &s.tested, &s.idle, &s.used} {
			l.each(func(v *Server) {
				if v.host != host {
					return
				}
				v.retired = true
				if v.state == ServerTested && v.probed() {
					v.close(why, false)
				}
			})
		}
		s.provide()
	})
}
