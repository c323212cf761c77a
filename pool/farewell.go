package pool

import "github.com/pgweir/pgweir/wire"

// farewell is a server that was told to end, and keeps its slot until Postgres
// has closed the connection: only then there is room for another. Where no
// budget has a limit nobody takes that trouble.
type farewell struct {
	links[farewell]
	w     *Worker
	pool  *Pool
	seat  seat
	conn  wire.Conn
	until wire.Time
}

func (f *farewell) at() *links[farewell] { return &f.links }

// farewellFor bounds how long a farewell may take.
const farewellFor = wire.Linger

// leave closes the connection of v, which was told to end. It reports whether v
// keeps its slot until the farewell is over; if not, free follows.
func (v *Server) leave() bool {
	w, q := v.shard.w, v.shard.pool
	w.p.mu.Lock()
	limited := v.seat.limited()
	w.p.mu.Unlock()
	if !limited || v.swapped {
		v.conn.Close()
		return false
	}
	socket, ok := v.conn.Detach()
	if !ok {
		v.conn.Close()
		return false
	}
	f := &farewell{w: w, pool: q, seat: v.seat, until: w.now().Add(farewellFor)}
	conn, err := w.loop.Attach(socket, f)
	if err != nil {
		return false // it is closed
	}
	f.conn = conn
	w.farewells.pushBack(f)
	w.p.mu.Lock()
	f.count(1)
	w.p.mu.Unlock()
	return true
}

// count counts f among those that take their leave, or out again. The caller
// holds mu.
func (f *farewell) count(n int) {
	f.pool.leaving += n
	f.pool.size.Store(int32(f.pool.open - f.pool.leaving))
	for _, b := range f.seat {
		b.leaving += n
	}
	f.seat.update()
	f.pool.seat.update() // another one, since a reload
}

// Data implements wire.Handler: what comes is of no interest any more.
func (f *farewell) Data([]byte) {}

// Drained implements wire.Handler.
func (f *farewell) Drained() {}

// Closed implements wire.Handler.
func (f *farewell) Closed(error) { f.end() }

func (f *farewell) end() {
	p := f.w.p
	f.w.farewells.remove(f)
	p.mu.Lock()
	f.count(-1)
	p.mu.Unlock()
	p.free(f.pool, f.seat)
}

// tickFarewells ends those that take too long.
func (w *Worker) tickFarewells(now wire.Time) {
	w.farewells.each(func(f *farewell) {
		if now >= f.until {
			f.conn.Abort()
			f.end()
		}
	})
}
