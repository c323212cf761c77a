package pool

import "github.com/pgweir/pgweir/wire"

// farewell is a server that was told to end, and keeps its slot until Postgres
// has closed the connection: only then there is room for another. Where no
// budget has a limit nobody takes that trouble.
type farewell struct {
	links[farewell]
	w     *Worker
	pool  *Pool
	seat  *seat
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
	limited := v.seat.all().limited()
	w.p.mu.Unlock()
	if !limited {
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
	q.count(0, 1)
	f.seat.count(0, 0, 1)
	q.seat.update() // another one, since a reload
	next := append(f.seat.all().nextLocked(w.now()), q.seat.all().nextLocked(w.now())...)
	w.p.mu.Unlock()
	wakeShards(next)
	return true
}

// Data implements wire.Handler: what comes is of no interest any more.
func (f *farewell) Data([]byte) {}

// Drained implements wire.Handler.
func (f *farewell) Drained() {}

// Closed implements wire.Handler.
func (f *farewell) Closed(error) { f.end() }

func (f *farewell) end() {
	f.w.farewells.remove(f)
	f.w.p.vacate(f.pool, f.seat, 1)
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
