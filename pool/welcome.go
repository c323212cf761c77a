package pool

import (
	"slices"
	"strconv"

	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool/dial"
	"github.com/pgweir/pgweir/pool/latency"
	"github.com/pgweir/pgweir/pool/params"
	"github.com/pgweir/pgweir/wire"
)

// welcomeWaiters welcomes those who waited for a server to say how.
func (s *Shard) welcomeWaiters() {
	wel := s.pool.welcomed()
	if wel == nil {
		return
	}
	s.waiting.each(func(c *Client) {
		if c.awaitsWelcome() {
			c.welcome(wel)
		}
	})
	s.publishWaiters()
}

// wakeWaiters lets each loop look at its waiters of q again.
func (p *Pooler) wakeWaiters(q *Pool) {
	for i := range q.lanes {
		if s := q.lanes[i].shard.Load(); s != nil {
			s.w.loop.Post(s.provide)
		}
	}
}

// greeting is what a client is told at the end of its login, but for its key.
// Those who come next mostly are of the same application, and are told the
// same.
type greeting struct {
	wel      *welcome
	settings *configs.PoolSettings
	snap     *configs.Snapshot
	want     []params.Value
	extra    []params.Extra
	vars     params.Values
	extras   params.Extras
	text     []byte
}

// greet is the greeting for clients that ask for want and extra. What of want
// the server does not report is one of the extras too.
func (s *Shard) greet(wel *welcome, want []params.Value, extra []params.Extra) *greeting {
	p := s.w.p
	snap, settings := p.Snapshot(), s.pool.settings.Load()
	if g := s.greeting; g != nil && g.wel == wel && g.settings == settings && g.snap == snap && slices.Equal(g.want, want) && slices.Equal(g.extra, extra) {
		return g
	}
	t := p.tracked
	values := wel.vars.List(t)
	var unreported []params.Extra
	for i, v := range want {
		switch {
		case v.Known && values[i].Known:
			values[i] = v
		case v.Known:
			unreported = append(unreported, params.Extra{Name: t.Names[i], Value: v.Text})
		}
	}
	b := wire.AppendAuthOk(nil)
	b = append(b, wel.params...)
	for i, v := range values {
		if v.Known {
			b = wire.AppendParameterStatus(b, t.Names[i], v.Text)
		}
	}
	b = wire.AppendParameterStatus(b, "pgbouncer.version", Compatible)
	b = wire.AppendParameterStatus(b, "pgbouncer.pool_mode", settings.PoolMode.String())
	b = wire.AppendParameterStatus(b, "pgbouncer.max_prepared_statements", strconv.Itoa(settings.MaxPreparedStatements))
	s.greeting = &greeting{
		wel, settings, snap, slices.Clone(want), slices.Clone(extra), params.MakeValues(values), params.MakeExtras(append(unreported, extra...)), b,
	}
	return s.greeting
}

// welcome ends the login: the client learns what it needs to know of the
// server, and may ask.
func (c *Client) welcome(wel *welcome) {
	w := c.w
	g := c.shard.greet(wel, c.login.want, c.login.extra)
	c.vars, c.extras = g.vars, g.extras
	b := c.appendKey(append(w.scratch[:0], g.text...))
	w.scratch = b
	waited := c.state == ClientWaiting
	if waited {
		c.shard.endWait(c)
	}
	c.endLogin()
	c.shard.stats.ClientLogins++
	c.shard.latencies[latency.Login].Record(w.now().Sub(c.connected))
	c.conn.Write(b)
	c.move(ClientIdle)
	if waited {
		c.shard.logins--
		w.loop.Post(c.proceed) // its input may have to wait again: not from within the queue
	}
}

// appendKey appends the end of a welcome: a new key for cancel requests, and
// that c may ask.
func (c *Client) appendKey(b []byte) []byte {
	c.newKey()
	b = wire.AppendBackendKeyData(b, c.key)
	if m := c.w.p.Snapshot().Main.LoginNotifyMessage; m != "" {
		b = wire.AppendNotice(b, wire.Fields{Severity: "NOTICE", Code: "00000", Message: m})
	}
	return wire.AppendReadyForQuery(b, wire.TxIdle)
}

// newKey makes the key for cancel requests: random, positive as a process id.
func (c *Client) newKey() {
	if _, err := c.w.p.opts.Random.Read(c.key[:]); err != nil {
		panic("no randomness: " + err.Error())
	}
	c.key[0] &= 0x7f
	stampKey(&c.key, c.w.p.Snapshot().Main.PeerID)
}

// readParams sorts what a server reported at login: messages for what is not
// tracked, and the values of what is.
func (p *Pooler) readParams(said []dial.Param) (untracked []byte, v params.Values) {
	values := make([]params.Value, len(p.tracked.Names))
	for _, s := range said {
		if i, ok := p.tracked.Lookup(s.Name); ok {
			values[i] = params.Value{Text: s.Value, Known: true}
		} else {
			untracked = wire.AppendParameterStatus(untracked, s.Name, s.Value)
		}
	}
	return slices.Clip(untracked), params.MakeValues(values)
}
