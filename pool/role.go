package pool

import (
	"slices"
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
	if s.pool.db.conf.Load().TargetSessionAttrs == configs.SessionAny || now.Sub(s.rolesAsked) < roleEvery {
		return
	}
	var asked []string
	s.idle.each(func(v *Server) {
		if !v.obsolete() && !slices.Contains(asked, v.host) {
			asked = append(asked, v.host)
			v.askRole()
		}
	})
}

// roleDue reports whether v, which was released, has to be asked, because on a
// busy loop no server is ever idle.
func (v *Server) roleDue() bool {
	s := v.shard
	return v.attrs() != configs.SessionAny && s.w.now().Sub(s.rolesAsked) >= roleEvery
}

// askRole asks v what it is.
func (v *Server) askRole() {
	v.shard.rolesAsked = v.shard.w.now()
	v.fits = false
	v.run(jobRole, dial.RoleQuery(v.attrs()))
}

// readRole takes in the answer.
func (v *Server) readRole(row []byte) {
	standby, readOnly, ok := dial.ParseRole(row)
	v.fits = ok && v.attrs().Admit(standby, readOnly)
}

// roleTold goes on with v, which has answered.
func (v *Server) roleTold() {
	s := v.shard
	switch {
	case v.jobError != "" || v.status != wire.TxIdle:
		v.close("role query failed", true)
		s.provide()
	case !v.fits:
		s.w.p.retire(s.pool, v.host)
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

// retire has all servers of q on host closed as soon as nobody uses them. One
// that is on its way from loop to loop is met when it is asked itself.
func (p *Pooler) retire(q *Pool, host string) {
	p.log.Log(Warning, "S: "+q.name()+"@"+host, dial.UnfitReason(q.db.conf.Load().TargetSessionAttrs)+" any more: its connections are closed")
	p.each(func(w *Worker) {
		s := w.shards[q.key()]
		if s == nil || s.pool != q {
			return
		}
		for _, l := range []*list[Server, *Server]{&s.busy, &s.canceled, &s.tested, &s.idle, &s.used} {
			l.each(func(v *Server) {
				v.retired = v.retired || v.host == host
			})
		}
		s.provide()
	})
}
