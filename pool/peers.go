package pool

import (
	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool/dial"
	"github.com/pgweir/pgweir/wire"
)

// Several processes may stand behind one address, and a cancel request comes to
// whichever the kernel or a balancer picks. So the keys that a process with a
// peer_id gives out carry it, as PgBouncer's do: the second and third byte are
// the id, the low byte first, and the two low bits of the last byte say how
// often a request may still be passed on.

// maxHops are the bits that say so, all set: as in a key that is given out.
const maxHops = 3

// stampKey makes key one of the peer with that id; 0 is none.
func stampKey(key *wire.CancelKey, id int) {
	if id > 0 {
		key[1], key[2] = byte(id), byte(id>>8)
		key[7] |= maxHops
	}
}

// keyOf returns the peer that gave key out.
func keyOf(key wire.CancelKey) (id int) { return int(key[1]) | int(key[2])<<8 }

// peer is what runs of an entry of section [peers]. Guarded by Pooler.mu.
type peer struct {
	sending int        // requests under way to it
	waiting []*forward // those that wait for their turn
}

// forward is a cancel request to be passed on.
type forward struct {
	*cancel
	from *Worker
	to   *configs.Peer
	key  wire.CancelKey // as it is passed on
}

// passOn passes r on if another process gave its key out. It reports whether
// that is so.
func (w *Worker) passOn(r *cancel) bool {
	snap := w.p.Snapshot()
	if own := snap.Main.PeerID; own == 0 || keyOf(r.key) == own {
		return false
	}
	to := snap.Peer(keyOf(r.key))
	switch {
	case r.key[7]&maxHops == 0:
		r.finish(w, "failed to forward cancel request because its TTL was exhausted")
	case to == nil:
		r.finish(w, "could not find peer to forward request to")
	default:
		f := &forward{r, w, to, r.key}
		f.key[7]-- // the hops alone, which are not 0
		if !w.p.forward(f) {
			r.finish(w, "failed to forward cancel request: too many wait")
		}
	}
	return true
}

// forward sends f, or has it wait until fewer are under way to its peer. It
// reports false if too many wait: the clients that have asked may be gone, so
// max_client_conn bounds nothing by itself.
func (p *Pooler) forward(f *forward) bool {
	snap := p.Snapshot()
	limit := snap.PeerPoolSize(f.to)
	p.mu.Lock()
	to := p.peers[f.to.ID]
	if to == nil {
		to = &peer{}
		p.peers[f.to.ID] = to
	}
	full := limit > 0 && to.sending >= limit
	switch {
	case !full:
		to.sending++
	case len(to.waiting) < snap.Main.MaxClientConn:
		to.waiting = append(to.waiting, f)
	default:
		p.mu.Unlock()
		return false
	}
	p.mu.Unlock()
	if !full {
		p.sendForward(f)
	}
	return true
}

func (p *Pooler) sendForward(f *forward) {
	r := dial.Request{Port: f.to.Port, Options: p.socketOptions(), Names: p.opts.Names}
	p.opts.Dialer.Cancel(r, f.to.Host, f.key[:], p.Snapshot().Main.CancelWaitTimeout,
		func(send func(bool)) { send(true) },
		func(err error) {
			if err != nil {
				f.finish(f.from, "failed to send cancel request: "+err.Error())
			} else {
				f.finish(f.from, "successfully sent cancel request")
			}
			p.nextForward(f.to.ID)
		})
}

// nextForward has the oldest request that waits take the place of one to the peer
// with that id that is done. If a RELOAD has removed the peer, none is sent.
func (p *Pooler) nextForward(id int) {
	conf := p.Snapshot().Peer(id)
	p.mu.Lock()
	to := p.peers[id]
	next := to.waiting
	switch {
	case conf == nil || len(next) == 0:
		to.waiting = nil
		to.sending--
	default:
		next, to.waiting = next[:1], next[1:]
	}
	p.mu.Unlock()
	for _, f := range next {
		if f.to = conf; conf == nil {
			f.finish(f.from, "peer removed")
		} else {
			p.sendForward(f)
		}
	}
}

// PeerInfo is a row of SHOW PEERS and of SHOW PEER_POOLS.
type PeerInfo struct {
	ID       int
	Host     string
	Port     int
	PoolSize int
	Sending  int // cancel requests under way to it
	Waiting  int // those that wait for their turn
}

// Peers returns the entries of section [peers], in the order of the file.
func (p *Pooler) Peers() (all []PeerInfo) {
	snap := p.Snapshot()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range snap.Peers {
		i := PeerInfo{ID: c.ID, Host: c.Host, Port: c.Port, PoolSize: snap.PeerPoolSize(c)}
		if to := p.peers[c.ID]; to != nil {
			i.Sending, i.Waiting = to.sending, len(to.waiting)
		}
		all = append(all, i)
	}
	return all
}
