package pool

import (
	"time"

	"github.com/pgweir/pgweir/pool/certs"
	"github.com/pgweir/pgweir/pool/dial"
)

// recallFor bounds a recall, and so what a shutdown waits for.
const recallFor = 2 * time.Second

// recall has Postgres cancel what v still does for an auth_query that is given
// up, and v is closed: Postgres notices the end of a connection only when it has
// something to send, and a query that hangs has nothing. The request names the
// session's own key, and nobody else is given the session, so it can't meet
// anybody's query. v's client must still be known.
func (v *Server) recall() {
	c := v.client
	if c == nil || c.lookup() == nil || v.ledger.clear() || v.key == nil {
		return
	}
	w, p := v.shard.w, v.shard.w.p
	v.recalled = true
	p.recalls.Add(1)
	prefix, order := v.prefix(), v.cancelOrder()
	send := func() {
		p.opts.Dialer.Cancel(order, v.host, v.key, recallFor, func(send func(bool)) { send(true) }, func(err error) {
			if err != nil {
				p.log.Log(Warning, prefix, "failed to cancel an auth_query that was given up: "+err.Error())
			}
			if p.recalls.Add(-1) == 0 && p.leaving.Load() {
				p.stop()
			}
		})
	}
	if wait := underway - w.now().Sub(max(c.queryStart, v.since)); wait > 0 {
		p.opts.After(wait, send)
		return
	}
	send()
}

// cancelOrder says how a cancel request gets to v's server: the way of the
// session.
func (v *Server) cancelOrder() dial.Request {
	r, _ := v.shard.w.p.order(v.shard.pool)
	r.Hosts, r.Port = []string{v.name}, v.port // a RELOAD may have changed the entry
	if v.tls() == "" {
		r.TLS = certs.Settings{}
	}
	return r
}

// overdue ends v because its client's time is over.
func (v *Server) overdue(reason string) {
	v.recall()
	v.close(reason, false)
}

// leave ends the process once no recall is under way.
func (p *Pooler) leave() {
	p.leaving.Store(true)
	if p.recalls.Load() == 0 {
		p.stop()
	}
}
