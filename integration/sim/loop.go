package sim

import (
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/wire"
)

// Loop is a wire.Loop.
type Loop struct {
	w     *World
	index int
	now   wire.Time

	mail      []func()
	scheduled bool // an event that runs some of mail is under way

	mu   sync.Mutex
	late []posted // what chores have posted in this step
}

// posted is a function that a chore has posted.
type posted struct {
	chore int
	fn    func()
}

var _ wire.Loop = (*Loop)(nil)

// enter begins something that runs on l. Several such things may belong to one
// turn, and then have the same time.
func (l *Loop) enter() {
	w := l.w
	if w.current != nil {
		w.failf("BUG in sim: loop %d runs within loop %d", l.index, w.current.index)
	}
	w.current = l
	if w.now.Sub(l.now) > 2*time.Millisecond || !w.chance(3) {
		l.now = w.now
	}
}

// on fails unless l's own step runs.
func (l *Loop) on(what string) {
	if l.w.current != l {
		l.w.failf("%s of loop %d called from outside of it", what, l.index)
	}
}

// Now implements wire.Loop.
func (l *Loop) Now() wire.Time { return l.now }

// Post implements wire.Loop. What chores post within a step comes in the order
// of the chores, behind what the step itself posts: which of them is faster in
// truth must not matter.
func (l *Loop) Post(fn func()) bool {
	chore := l.w.chores.caller()
	if chore == 0 {
		l.mail = append(l.mail, fn)
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.late = append(l.late, posted{chore, fn})
	return true
}

// collect takes in what chores have posted, all of which wait now.
func (l *Loop) collect() {
	slices.SortStableFunc(l.late, func(a, b posted) int { return a.chore - b.chore })
	for _, p := range l.late {
		l.mail = append(l.mail, p.fn)
	}
	l.late = l.late[:0]
}

// schedule sees to it that what was posted is run.
func (l *Loop) schedule() {
	if len(l.mail) > 0 && !l.scheduled {
		l.scheduled = true
		w := l.w
		d := time.Duration(0)
		switch w.rng.IntN(4) {
		case 0:
			d = w.between(0, 100*time.Microsecond)
		case 1:
			d = w.between(0, 5*time.Millisecond)
		}
		w.after(d, l.runMail)
	}
}

// runMail runs some of what was posted, mostly one function.
func (l *Loop) runMail() {
	l.scheduled = false
	l.enter()
	n := 1
	if l.w.chance(3) {
		n = 1 + l.w.rng.IntN(len(l.mail))
	}
	l.w.tracef("loop %d: %d of %d posted functions", l.index, n, len(l.mail))
	for range n {
		fn := l.mail[0]
		l.mail = l.mail[1:]
		fn()
		l.w.settle()
	}
}

// tick calls the pooler's Tick for ever.
func (l *Loop) tick() {
	w := l.w
	l.enter()
	w.pooler.Worker(l.index).Tick()
	w.after(w.between(pool.TickEvery-10*time.Millisecond, pool.TickEvery+30*time.Millisecond), l.tick)
}

var errNoDescriptor = errors.New("no descriptor is left")

// Attach implements wire.Loop.
func (l *Loop) Attach(s wire.Socket, h wire.Handler) (wire.Conn, error) {
	l.on("Attach")
	w := l.w
	k := w.sockets[s.FD]
	switch {
	case k == nil:
		w.failf("Attach of descriptor %d, which is not open", s.FD)
	case k.conn != nil:
		w.failf("Attach of %v, which a loop has", k)
	}
	if !w.calm && w.set.attachFails && w.chance(100) {
		w.tracef("%v: attach fails", k)
		k.lost = true
		w.books.unheard++ // it may have been a cancel request
		w.books.lost++
		k.closeByPooler(false)
		return nil, errNoDescriptor
	}
	c := &Conn{w: w, loop: l, h: h, s: k, stream: s.TLS}
	k.conn = c
	if s.TLS != nil {
		c.early, c.fresh = append([]byte(nil), s.Early...), true
	} else {
		k.in = append(append([]byte(nil), s.Early...), k.in...)
	}
	k.kickIn()
	return c, nil
}

// socketFor is what the pool sees of k.
func socketFor(k *socket, port uint16) wire.Socket {
	addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, 1}), port)
	s := wire.Socket{FD: k.fd, Remote: addr, Local: addr, PeerUID: -1, PeerPID: -1}
	if _, ok := k.peer.(*client); ok && k.w.set.passthrough() {
		s.Unix, s.Remote, s.Local = true, netip.AddrPort{}, netip.AddrPort{}
	}
	return s
}
