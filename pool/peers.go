package pool

import (
	"maps"
	"slices"

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

// passOn passes r, whose key no client here has, on to the process that gave the
// key out.
func (w *Worker) passOn(r *cancel) {
	snap := w.p.Snapshot()
	own, to := snap.Main.PeerID, snap.Peer(keyOf(r.key))
	switch {
	case own == 0 || keyOf(r.key) == own:
		r.finish(w, "failed cancel request")
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
}

// forward sends f, or has it wait until fewer are under way to its peer. It
// reports false if too many wait: the clients that have asked may be gone, so
// max_client_conn bounds nothing by itself.
func (p *Pooler) forward(f *forward) bool {
	p.mu.Lock()
	to := p.peers[f.to.ID]
	if to == nil {
		to = &peer{}
		p.peers[f.to.ID] = to
	}
	if len(to.waiting) > 0 && len(to.waiting) >= p.Snapshot().Main.MaxClientConn {
		p.mu.Unlock()
		return false
	}
	to.waiting = append(to.waiting, f)
	p.mu.Unlock()
	p.nextForwards(f.to.ID, 0)
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
			p.nextForwards(f.to.ID, 1)
		})
}

// nextForwards notes that so many requests to the peer with that id are done,
// and has the oldest of those that wait sent, as many as may be. If there is no
// such peer any more it ends all that wait.
func (p *Pooler) nextForwards(id, done int) {
	snap := p.Snapshot()
	conf := snap.Peer(id)
	p.mu.Lock()
	to := p.peers[id]
	to.sending -= done
	n := len(to.waiting)
	if conf != nil {
		if limit := snap.PeerPoolSize(conf); limit > 0 {
			n = min(n, max(0, limit-to.sending))
		}
		to.sending += n
	}
	next := slices.Clone(to.waiting[:n])
	to.waiting = slices.Delete(to.waiting, 0, n)
	p.mu.Unlock()
	for _, f := range next {
		if f.to = conf; conf == nil {
			f.finish(f.from, "peer removed")
		} else {
			p.sendForward(f)
		}
	}
}

// turnForwards brings the requests that wait for their turn in line with the
// peers of a new configuration.
func (p *Pooler) turnForwards() {
	p.mu.Lock()
	ids := slices.Sorted(maps.Keys(p.peers))
	p.mu.Unlock()
	for _, id := range ids {
		p.nextForwards(id, 0)
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
