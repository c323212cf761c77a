package pool

import (
	"crypto/subtle"
	"slices"
	"sync/atomic"
	"time"

	"github.com/pgweir/pgweir/wire"
)

// cancel is a cancel request: a client connection that named the key of
// another, and wants that one's query stopped.
//
// A request passes through these hands: the loop that read it asks every loop
// for the client with that key, and if none has it passes the request on to the
// process that gave the key out; the loop that has it sees which server is at
// work for it and has a connection to that server made by a chore; when that
// stands, the loop looks again. Only if the same pair is still at the same
// work is the request sent, and from then on the server is kept from anybody
// else until the server has closed that connection, which is how Postgres says
// that the signal is out. So a cancel reaches the query it was meant for, or
// nothing. Whoever asks need not wait for that: many drivers hang up as soon as
// they have asked, and the request is carried out all the same.
//
// A request for a query that has only just been sent to the server waits a
// little before it takes that way: see underway.
type cancel struct {
	client *Client // who asks; nil once it is gone
	key    wire.CancelKey
	left   atomic.Int32 // loops that have not answered yet

	// Of the loop that has the target:
	shard   *Shard
	server  *Server
	target  *Client
	pairing wire.Time // since when target and server are at this work
}

// underway is how long after a query was sent to it a backend is sure to be at
// work on it, as far as can be known. A signal that comes earlier may find it
// still waiting for a query, and is forgotten. Only a pooler makes that likely:
// a client that has waited gives up at the moment when it is given a server.
const underway = 50 * time.Millisecond

// cancelRequest begins the request for key.
func (c *Client) cancelRequest(key wire.CancelKey) {
	r := &cancel{client: c, key: key}
	c.cancel = r
	c.move(ClientCancel)
	c.conn.Pause()
	c.w.carryOut(r)
}

// carryOut has r's client looked for, here first: a RELOAD may have changed the
// peer_id that the key carries.
func (w *Worker) carryOut(r *cancel) {
	r.left.Store(int32(len(w.p.workers)))
	for _, o := range w.p.workers {
		o.loop.Post(func() { o.findCancelled(r, w) })
	}
}

// finish ends the asking client, on its own loop. Nothing is ever answered.
func (r *cancel) finish(from *Worker, reason string) {
	from.loop.Post(func() {
		if c := r.client; c != nil {
			r.client = nil
			c.cancel = nil
			c.disconnect(false, reason)
		}
	})
}

// findCancelled looks for the request's client among those of w that have a
// query under way.
func (w *Worker) findCancelled(r *cancel, from *Worker) {
	t := w.clientByKey(r.key)
	if t != nil {
		r.finishOr(from, w.cancel(r, from, t))
		return
	}
	if r.left.Add(-1) == 0 {
		from.loop.Post(func() { from.passOn(r) })
	}
}

func (r *cancel) finishOr(from *Worker, reason string) {
	if reason != "" {
		r.finish(from, reason)
	}
}

// clientByKey finds a client that waits or is served, or a console; nil if none
// of w has that key. How often the request was passed on does not count.
func (w *Worker) clientByKey(key wire.CancelKey) (found *Client) {
	key[7] |= maxHops
	look := func(c *Client) {
		own := c.key
		own[7] |= maxHops
		if found == nil && c.login == nil && subtle.ConstantTimeCompare(own[:], key[:]) == 1 {
			found = c
		}
	}
	for _, s := range w.all {
		s.active.each(look)
		s.waiting.each(look)
	}
	w.consoles.each(look)
	return found
}

// cancel deals with a request for t. A reason says that it is over already.
func (w *Worker) cancel(r *cancel, from *Worker, t *Client) (reason string) {
	switch {
	case t.state == ClientConsole:
		t.admin.cancelled(w.p)
		return "cancel request for console client"
	case t.state == ClientWaiting:
		t.cancelWaiting()
		return "cancel request for waiting client"
	case t.server == nil || !t.busy:
		return "cancel request for idle client"
	case t.server.key == nil:
		return "failed cancel request"
	}
	r.shard, r.server, r.target, r.pairing = t.shard, t.server, t, t.queryStart
	s := t.shard
	if t.server.job == jobSets {
		if contains(s.cancelEarly, r) {
			return alreadyWaits
		}
		s.cancelEarly = append(s.cancelEarly, queuedCancel{r, from})
		return ""
	}
	// A query may come in pieces, and behind others: then its server has it only now.
	return s.cancelUnderway(r, from, max(t.queryStart, t.server.since, t.lastPacket))
}

// cancelUnderway has r sent as soon as the query, which the server was sent at
// the time sent, is under way there. A reason says that it is over already.
func (s *Shard) cancelUnderway(r *cancel, from *Worker, sent wire.Time) (reason string) {
	wait := underway - s.w.now().Sub(sent)
	if wait <= 0 {
		return s.cancelInTurn(r, from)
	}
	s.w.p.opts.After(wait, func() {
		s.w.loop.Post(func() { r.finishOr(from, s.cancelIfMeant(r, from)) })
	})
	return ""
}

// cancelIfMeant has r sent in its turn, if that is still of use. A reason says
// that it is over already.
func (s *Shard) cancelIfMeant(r *cancel, from *Worker) (reason string) {
	if !r.stillMeant() {
		return notMeant
	}
	return s.cancelInTurn(r, from)
}

// notMeant is the end of a request that came to nothing.
const notMeant = "not sending cancel request for client that is now idle"

// cancelInTurn has r sent, or has it wait until fewer others are under way. A
// reason says that it is over already.
func (s *Shard) cancelInTurn(r *cancel, from *Worker) (reason string) {
	if limit := s.pool.settings.Load().PoolSize; limit > 0 && s.cancelling >= 2*limit {
		if contains(s.cancelQueue, r) {
			return alreadyWaits
		}
		s.cancelQueue = append(s.cancelQueue, queuedCancel{r, from})
		return ""
	}
	s.sendCancel(r, from)
	return ""
}

// varsTold is called when v is told no parameters any more: the query that
// waited for that is on its way, or there is none any more. Its cancel requests
// may follow.
func (s *Shard) varsTold(v *Server) {
	if len(s.cancelEarly) == 0 {
		return
	}
	var ours []queuedCancel
	s.cancelEarly = slices.DeleteFunc(s.cancelEarly, func(q queuedCancel) bool {
		if q.r.server != v {
			return false
		}
		ours = append(ours, q)
		return true
	})
	for _, q := range ours {
		reason := notMeant
		if q.r.stillMeant() {
			reason = s.cancelUnderway(q.r, q.from, s.w.now())
		}
		q.r.finishOr(q.from, reason)
	}
}

// queuedCancel waits until its time has come.
type queuedCancel struct {
	r    *cancel
	from *Worker
}

// alreadyWaits is the end of a request for a query that another waits for. So
// there are never more in a queue than servers.
const alreadyWaits = "another cancel request for the same query waits"

// contains reports whether a request for the same query as r's is in list.
func contains(list []queuedCancel, r *cancel) bool {
	return slices.ContainsFunc(list, func(q queuedCancel) bool { return q.r.server == r.server && q.r.pairing == r.pairing })
}

// sendCancel has r's request sent.
func (s *Shard) sendCancel(r *cancel, from *Worker) {
	w, v := s.w, r.server
	s.cancelling++
	sent := false
	w.p.opts.Dialer.Cancel(v.cancelOrder(), v.host, v.key, w.p.Snapshot().Main.CancelWaitTimeout,
		func(send func(bool)) {
			ok := w.loop.Post(func() {
				sent = r.stillMeant()
				if sent {
					v.cancels++
				}
				send(sent)
			})
			if !ok {
				send(false)
			}
		},
		func(err error) {
			w.loop.Post(func() {
				s.cancelling--
				if sent {
					v.cancels--
					if err != nil && v.state != ServerClosed {
						// The signal may still be to come: nobody else may get it.
						v.close("cancel request of unknown outcome", false)
						s.provide()
					}
					if v.cancels == 0 && v.state == ServerBeingCanceled {
						v.move(ServerLoose)
						v.settle()
					}
				}
				switch {
				case err != nil:
					r.finish(from, "failed to send cancel request: "+err.Error())
				case sent:
					r.finish(from, "successfully sent cancel request")
				default:
					r.finish(from, notMeant)
				}
				s.nextCancel()
			})
		})
}

// stillMeant reports whether the query that r is about is still under way.
func (r *cancel) stillMeant() bool {
	return r.target.server == r.server && r.server.client == r.target && r.target.busy &&
		r.target.queryStart == r.pairing && r.server.job != jobSets
}

func (s *Shard) nextCancel() {
	for len(s.cancelQueue) > 0 {
		q := s.cancelQueue[0]
		s.cancelQueue = s.cancelQueue[1:]
		if q.r.stillMeant() {
			s.sendCancel(q.r, q.from)
			return
		}
		q.r.finish(q.from, notMeant)
	}
}

// cancelWaiting cancels a request that has not gone to any server: the client
// hears what Postgres would say, and may ask again.
func (c *Client) cancelWaiting() {
	if c.login != nil {
		return
	}
	limit := int(c.w.p.Snapshot().Main.MaxPacketSize)
	b, i := c.held, 0
	simple, ended := c.heldStartsSimple(), false
	for !ended {
		typ, size, ok, err := wire.Peek(b[i:], limit)
		if err != nil || !ok || size > len(b)-i {
			break
		}
		if typ == wire.Query || typ == wire.Parse && size > wire.HeaderLen && b[i+wire.HeaderLen] == 0 {
			c.forget("") // both begin with taking the old unnamed statement away
		}
		i += size
		ended = simple || typ == wire.Sync
	}
	if !ended && simple {
		return // a Query of which only a part is here: it can't be skipped without reading on
	}
	rest := c.w.hold(nil, b[i:])
	c.w.drop(c.held)
	c.held = rest
	out := wire.AppendError(c.w.scratch[:0], wire.Fields{
		Severity: "ERROR", Code: "57014", Message: "canceling statement due to user request",
	})
	if ended {
		out = wire.AppendReadyForQuery(out, wire.TxIdle)
	}
	c.discard = !ended
	c.w.scratch = out
	c.conn.Write(out)
	c.busy, c.inXact = false, false
	c.move(ClientIdle)
	c.shard.publishWaiters()
	c.w.loop.Post(c.proceed)
}

// heldStartsSimple reports whether what is held begins with a message that no
// Sync ends.
func (c *Client) heldStartsSimple() bool {
	return len(c.held) > 0 && (c.held[0] == wire.Query || c.held[0] == wire.FunctionCall)
}
