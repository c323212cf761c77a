package pool

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/pgweir/pgweir/wire"
)

// draining is a drain under way: everybody is to leave, each client between two
// of its transactions, and not all at once.
type draining struct {
	began  wire.Time
	spread time.Duration // each client's turn to leave lies within it
	grace  time.Duration // afterwards those who are left are cut

	cut, cutInXact atomic.Int32 // clients
	ending         atomic.Bool  // the last client has left
}

// goodbye is what Postgres, too, tells its clients when it is shut down: they
// know that nothing is wrong with them and connect again.
var goodbye = wire.Fields{Severity: "FATAL", Code: "57P01", Message: "terminating connection due to administrator command"}

// Drain shuts down as [Pooler.Shutdown] does with ShutdownDrain, and lets it
// take grace, with the clients' turns to leave spread over the first part of
// it, spread. It returns at once.
func (p *Pooler) Drain(grace, spread time.Duration) {
	d := &draining{began: p.opts.Now(), spread: min(spread, grace), grace: grace}
	if !p.drain.CompareAndSwap(nil, d) {
		return
	}
	if was := ShutdownMode(p.shutdown.Swap(uint32(ShutdownDrain))); was == Running {
		p.closeListeners() // only now: who finds nobody who listens can see why
	}
	p.each(func(w *Worker) { w.tickDrain(w.now()) })
	p.clientLeft()
}

// turn is when the client of that id has to leave. The turns of consecutive ids
// lie evenly over the spread, however many clients there are.
func (d *draining) turn(id uint64) wire.Time {
	const golden = 0x9e3779b9 // 2^32 divided by the golden ratio
	fraction := float64(uint32(id)*golden) / (1 << 32)
	return d.began.Add(time.Duration(fraction * float64(d.spread)))
}

// tickDrain ends the clients whose turn it is, and when the grace is over all
// of them. It does nothing unless there is a drain.
func (w *Worker) tickDrain(now wire.Time) {
	d := w.p.drain.Load()
	switch {
	case d == nil:
	case now.Sub(d.began) >= d.grace:
		w.cutAll(d)
	default:
		w.logins.each(func(c *Client) {
			if now >= d.turn(c.id) && !c.login.console {
				c.fail(goodbye)
			}
		})
		for _, s := range w.all {
			s.waiting.each(func(c *Client) {
				if c.login != nil && c.lookup() == nil && now >= d.turn(c.id) {
					c.fail(goodbye)
				}
			})
			s.idleClients.each((*Client).leave)
			s.active.each((*Client).leave)
		}
	}
}

// leave ends c if there is a drain, it is c's turn, and c is between two
// transactions. It is called when that may have become true.
func (c *Client) leave() {
	if d := c.w.p.drain.Load(); d != nil && c.betweenTransactions() && c.w.now() >= d.turn(c.id) {
		c.fail(goodbye)
	}
}

// betweenTransactions reports whether c has asked for nothing that is not over.
func (c *Client) betweenTransactions() bool {
	if c.held != nil || c.remain > 0 || c.lookup() != nil {
		return false
	}
	v := c.server
	return c.state == ClientIdle || c.state == ClientActive && v.status == wire.TxIdle && v.ledger.clear() &&
		v.job == jobNone && v.remain == 0 && v.part == nil
}

// cutAll ends all clients, whatever they do. Those who wait come first: they
// would only be given the servers of the others.
func (w *Worker) cutAll(d *draining) {
	cut := func(c *Client) {
		if c.lookup() == nil {
			d.cut.Add(1)
			if c.inXact {
				d.cutInXact.Add(1)
			}
		}
		c.fail(goodbye)
	}
	w.logins.each(cut)
	w.cancels.each(func(c *Client) { c.disconnect(false, reasonStopping) })
	for _, s := range w.all {
		s.waiting.each(cut)
	}
	for _, s := range w.all {
		s.active.each(cut)
		s.idleClients.each(cut)
	}
}

// drained ends the servers, and then the process. It is called when the last
// client has left.
func (p *Pooler) drained(d *draining) {
	if !d.ending.CompareAndSwap(false, true) {
		return
	}
	if n := d.cut.Load(); n > 0 {
		p.log.Log(Warning, "", fmt.Sprintf("the grace period of %v is over; clients cut: %d, of these in a transaction: %d", d.grace, n, d.cutInXact.Load()))
	}
	p.paused.Store(true) // no new servers
	var left atomic.Int32
	left.Store(int32(len(p.workers)))
	p.each(func(w *Worker) {
		w.dropLookups()
		for _, s := range w.all {
			for _, l := range []*list[Server, *Server]{&s.idle, &s.used, &s.tested, &s.busy, &s.canceled} {
				l.each(func(v *Server) { v.close(reasonStopping, true) })
			}
		}
		if left.Add(-1) == 0 {
			p.leave()
		}
	})
}
