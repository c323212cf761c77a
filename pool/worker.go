package pool

import (
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/wire"
)

// Worker is the half of an event loop that knows the rules: the clients and
// servers whose sockets stand on the loop. Everything in it runs on that loop,
// but what is said to be atomic.
type Worker struct {
	p     *Pooler
	index int
	loop  wire.Loop
	rng   *rand.Rand

	shards   map[poolKey]*Shard
	all      []*Shard              // the same, in the order in which they were made
	logins   list[Client, *Client] // ClientLogin
	consoles list[Client, *Client] // ClientConsole
	cancels  list[Client, *Client] // ClientCancel

	farewells list[farewell, *farewell] // longest first

	scratch []byte   // for messages of pgweir's own; never kept over a call
	gather  []byte   // for messages to a server that are not as they came
	joined  []byte   // a partial message and what came behind it
	buffers [][]byte // free buffers of bufferSize

	freeLogins []*login
	lookups    map[question]*lookup // the auth_queries under way here
	trials     map[tried]*trial     // the passwords under trial here

	// released are servers on their way to whoever needs them next. They stay
	// there while a server is being read, for that may be one of them, and
	// while somebody works the queue off: a release inside a release must not
	// recurse.
	released []*Server
	reading  bool
	serving  bool

	hungry   []*Shard     // those whose waiters wait for a slot
	starving atomic.Int32 // len(hungry), for other loops
	waking   atomic.Bool  // feedStarved is posted

	idleTimeout    bool // see anyIdleTimeout
	idleTimeoutFor *configs.Snapshot
}

// bufferSize is the size of the buffers for what a connection must hold back:
// a request that waits for a server, a message that came in parts. What does
// not fit gets a buffer of its own.
const bufferSize = 2 << 10

// maxFreeBuffers bounds the free list to 1 MiB.
const maxFreeBuffers = 512

func newWorker(p *Pooler, index int, loop wire.Loop, seed uint64) *Worker {
	return &Worker{
		p:       p,
		index:   index,
		loop:    loop,
		rng:     rand.New(rand.NewPCG(seed, uint64(index))),
		shards:  map[poolKey]*Shard{},
		lookups: map[question]*lookup{},
		trials:  map[tried]*trial{},
	}
}

func (w *Worker) now() wire.Time { return w.loop.Now() }

// shard is the part of q on this loop.
func (w *Worker) shard(q *Pool) *Shard {
	key := q.key()
	if s := w.shards[key]; s != nil && s.pool == q {
		return s
	}
	s := &Shard{pool: q, w: w, lane: &q.lanes[w.index]}
	w.shards[key] = s
	w.all = append(w.all, s)
	s.lane.shard.Store(s)
	return s
}

// forget drops the part of q on this loop, unless it is in use again.
func (w *Worker) forget(q *Pool) {
	s := q.lanes[w.index].shard.Load()
	if s == nil || s.clients() > 0 {
		return
	}
	s.setHeld(WaitNone)
	if w.shards[q.key()] == s {
		delete(w.shards, q.key())
	}
	w.all = slices.DeleteFunc(w.all, func(o *Shard) bool { return o == s })
}

// hold copies b behind what buf holds already; buf nil means nothing. The
// buffer is given back with drop.
func (w *Worker) hold(buf, b []byte) []byte {
	if buf == nil {
		if n := len(w.buffers); n > 0 && len(b) <= bufferSize {
			buf, w.buffers = w.buffers[n-1], w.buffers[:n-1]
		} else {
			buf = make([]byte, 0, max(bufferSize, len(b)))
		}
	}
	return append(buf, b...)
}

// drop gives back a buffer of hold's.
func (w *Worker) drop(buf []byte) {
	if w.p.opts.Poison {
		poison(buf)
	}
	if cap(buf) == bufferSize && len(w.buffers) < maxFreeBuffers {
		w.buffers = append(w.buffers, buf[:0])
	}
}

// join makes one piece of a held part and what came behind it, and gives the
// part's buffer back. The piece is valid until the next join.
func (w *Worker) join(part, b []byte) []byte {
	w.joined = append(append(w.joined[:0], part...), b...)
	w.drop(part)
	if cap(w.joined) > 1<<20 { // a rare giant must not stay
		out := w.joined
		w.joined = nil
		return out
	}
	return w.joined
}

// offer gives v, which is free, to whoever needs a server of its pool next, as
// soon as nothing is read from a server.
func (w *Worker) offer(v *Server) {
	w.released = append(w.released, v)
	if !w.reading {
		w.serve()
	}
}

// serve gives away the servers that were offered.
func (w *Worker) serve() {
	if w.serving || len(w.released) == 0 {
		return
	}
	w.serving = true
	for i := 0; i < len(w.released); i++ { // grows meanwhile
		if v := w.released[i]; v.state != ServerClosed {
			v.shard.take(v)
		} else {
			v.shard.provide() // for those who counted on v
		}
	}
	w.released = w.released[:0]
	w.serving = false
}

// TickEvery is how often a loop calls Tick: PgBouncer's maintenance runs three
// times a second.
const TickEvery = time.Second / 3
