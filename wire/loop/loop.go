package loop

import (
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/pgweir/pgweir/wire"
)

// ErrStopped is the error of Attach and Listen on a loop that has stopped.
var ErrStopped = errors.New("the loop has stopped")

// ErrPanicked is what Closed tells a Handler that panicked.
var ErrPanicked = errors.New("the connection's handler panicked")

// Defaults of Options. A read buffer of 256 KiB passes results of megabytes on
// for a fifth to a quarter less CPU than one of 64 KiB; results of 33 KB cost
// the same with both, and nearly twice that with 16 KiB.
const (
	DefaultReadBuffer = 256 << 10
	DefaultMaxEvents  = 256
	DefaultSpin       = 5 * time.Millisecond
)

// readRounds bounds how many full buffers one socket may read in one turn.
const readRounds = 2

// maxIO bounds one system call that copies. A call that the scheduler does not
// know about holds up a stop of the world for as long as it copies.
const maxIO = 256 << 10

// Options set up a Loop. The zero value of each field means its default.
type Options struct {
	// Name names the loop in errors. Default: "loop".
	Name string

	// ReadBuffer is the size in bytes of the one buffer that all sockets of
	// the loop read into, and so the longest slice that Data gets (Early bytes
	// aside). At most 256 KiB. Default: DefaultReadBuffer.
	ReadBuffer int

	// MaxEvents is the number of events taken from the kernel at once.
	// Default: DefaultMaxEvents.
	MaxEvents int

	// Tick is the time between two calls of OnTick. Default: none.
	Tick time.Duration

	// OnTick is called on the loop every Tick. A late call is not made up for.
	OnTick func()

	// OnPanic is told when a function that the loop called panicked. h is the
	// Handler of the connection whose event was being told; nil when the panic
	// came from a posted function, a timer or an accept. It runs on the loop,
	// which then goes on: later in the turn the connection is closed, and h is
	// told Closed with ErrPanicked, so that what it holds is released, unless
	// it had closed the connection itself or was being told Closed. Default:
	// panics are not contained.
	OnPanic func(h wire.Handler, value any, stack []byte)

	// OnError is told what went wrong that concerns no connection, such as an
	// accept without a free descriptor. It runs on the loop. Default: nobody
	// is told.
	OnError func(error)

	// Spin is how long the loop waits for the next event in a way that the
	// scheduler does not know about, after a turn that had some; only then in
	// one that it does. It is cheaper, and it keeps one P busy meanwhile, so
	// GOMAXPROCS should be one above the number of loops. Negative: never.
	// Default: DefaultSpin.
	Spin time.Duration
}

// Loop is an event loop. It must come from New, and all its methods but Post,
// Stop, Conns and String run on the loop, that is within a function it called,
// or before Run.
type Loop struct {
	o    Options
	now  wire.Time
	poll poller
	mail mailbox

	stopping atomic.Bool
	conns    atomic.Int32
	stats    Stats

	buf       []byte // what all sockets read into
	plain     []byte // what TLS sessions open into
	sealed    []byte // what they seal into
	slots     []*conn
	freeSlots []int32 // may be given away
	freed     []int32 // may be given away after this turn
	gen       uint32  // of the socket attached last
	listeners []*Listener
	timers    timers
	chunks    freeList

	// What this turn still has to do. Each step takes its item off before it
	// calls anybody, so that after a panic the step goes on behind it.
	batch, next int       // events of this turn: number, next to look at
	earlies     []*conn   // have early bytes, unless closed meanwhile
	posted      []func()  // taken out of the mailbox
	ran         int       // number of posted that were run
	failures    []failure // not yet told
	closing     []*conn   // closed by the rules, to be looked at
	current     *conn     // whose Handler is being called
	hot         bool      // the last turn had something to do
	dead        bool      // Run has returned
}

var _ wire.Loop = (*Loop)(nil)

// New makes a loop that is ready for Attach, Listen and Post. Whoever calls
// New must call Run, also after Stop: it releases what New took.
func New(o Options) (*Loop, error) {
	if o.Name == "" {
		o.Name = "loop"
	}
	if o.ReadBuffer <= 0 {
		o.ReadBuffer = DefaultReadBuffer
	}
	if o.MaxEvents <= 0 {
		o.MaxEvents = DefaultMaxEvents
	}
	if o.Spin == 0 {
		o.Spin = DefaultSpin
	}
	o.Spin = max(o.Spin, 0)
	l := &Loop{o: o, buf: make([]byte, min(o.ReadBuffer, maxIO)), now: clock()}
	if err := l.poll.open(o.MaxEvents); err != nil {
		return nil, fmt.Errorf("%s: %w", o.Name, err)
	}
	if o.Tick > 0 && o.OnTick != nil {
		l.After(o.Tick, l.tick)
	}
	return l, nil
}

// String returns the loop's name.
func (l *Loop) String() string { return l.o.Name }

// Now implements [wire.Loop]. It is read from the clock once a turn, right
// after the wait.
func (l *Loop) Now() wire.Time { return l.now }

// Post implements [wire.Loop]. Every fn for which it reported true is run,
// also when Stop comes in between.
func (l *Loop) Post(fn func()) bool { return l.mail.put(fn, &l.poll) }

// Stop makes Run return soon. It may be called from any goroutine, more than
// once, and does not wait.
func (l *Loop) Stop() {
	l.stopping.Store(true)
	l.mail.put(nil, &l.poll)
}

// Run turns the loop until Stop. Then it runs what was posted before, closes
// all sockets without telling their Handlers, drops all timers, and returns.
func (l *Loop) Run() {
	for !l.stopping.Load() {
		l.turn()
	}
	l.posted, l.ran = l.mail.close(), 0
	l.guard((*Loop).runPosted)
	l.dead = true
	for _, c := range l.slots {
		if c != nil {
			c.Abort()
		}
	}
	for _, ln := range l.listeners {
		if ln != nil {
			ln.Close()
		}
	}
	l.timers, l.chunks = timers{}, freeList{}
	l.poll.close()
}

// Attach implements [wire.Loop]. Its error is ErrStopped or the kernel's
// refusal to watch the descriptor.
func (l *Loop) Attach(s wire.Socket, h wire.Handler) (wire.Conn, error) {
	if l.dead {
		rawClose(s.FD)
		return nil, ErrStopped
	}
	l.gen++
	c := &conn{loop: l, h: h, fd: int32(s.FD), slot: l.takeSlot(), gen: l.gen}
	if err := l.poll.add(s.FD, c.key(), readable|hangup); err != nil {
		l.freeSlots = append(l.freeSlots, c.slot)
		rawClose(s.FD)
		return nil, err
	}
	l.slots[c.slot] = c
	l.conns.Add(1)
	if len(s.Early) > 0 || s.TLS != nil {
		c.extra = &extra{early: s.Early, stream: s.TLS, fresh: true}
		l.earlies = append(l.earlies, c)
	}
	return c, nil
}

// takeSlot returns the index of an empty slot.
func (l *Loop) takeSlot() int32 {
	if n := len(l.freeSlots); n > 0 {
		slot := l.freeSlots[n-1]
		l.freeSlots = l.freeSlots[:n-1]
		return slot
	}
	l.slots = append(l.slots, nil)
	return int32(len(l.slots) - 1)
}

// turn waits for something to do and does it.
func (l *Loop) turn() {
	l.mail.asleep.Store(true)
	l.batch, l.next = l.poll.wait(l.timeout(), l.spin()), 0
	l.mail.asleep.Store(false)
	l.now = clock()
	l.stats.Turns++
	l.stats.Events += uint64(l.batch)
	l.hot = l.batch > 0

	if len(l.earlies) > 0 {
		l.guard((*Loop).deliverEarly)
	}
	if l.batch > 0 {
		l.guard((*Loop).dispatch)
	}
	if l.mail.n.Load() > 0 {
		l.hot = true
		l.posted, l.ran = l.mail.take(l.posted), 0
		l.guard((*Loop).runPosted)
	}
	if l.timers.due(l.now) {
		l.guard((*Loop).runTimers)
	}
	if len(l.failures) > 0 || len(l.closing) > 0 {
		l.guard((*Loop).settle)
	}
	if len(l.freed) > 0 {
		l.freeSlots = append(l.freeSlots, l.freed...)
		l.freed = l.freed[:0]
	}
}

// timeout is how long the next wait may last; negative means for ever.
func (l *Loop) timeout() time.Duration {
	switch {
	case len(l.earlies) > 0, l.mail.n.Load() > 0, l.stopping.Load():
		return 0
	case l.timers.len() > 0:
		return max(0, l.timers.next().Sub(l.now))
	}
	return -1
}

// spin is how long the next wait may hide from the scheduler.
func (l *Loop) spin() time.Duration {
	if l.hot {
		return l.o.Spin
	}
	return 0
}

// tick calls OnTick and sets the next tick.
func (l *Loop) tick() {
	l.After(l.o.Tick, l.tick)
	l.o.OnTick()
}

// guard runs step to its end, across panics. step must have taken what it
// works on off its list before it calls anybody.
func (l *Loop) guard(step func(*Loop)) {
	for !l.try(step) {
	}
}

// try runs step and reports whether it came to its end.
func (l *Loop) try(step func(*Loop)) (done bool) {
	if l.o.OnPanic != nil {
		defer func() {
			if !done {
				l.panicked(recover())
			}
		}()
	}
	step(l)
	return true
}

// panicked reports a panic and gives up the connection at fault, if any.
func (l *Loop) panicked(value any) {
	stack := debug.Stack()
	var h wire.Handler
	if c := l.current; c != nil {
		h, l.current = c.h, nil
		c.flags |= paused // no more Data
		c.giveUp(ErrPanicked)
	}
	l.o.OnPanic(h, value, stack)
}

// report tells OnError, if anybody listens.
func (l *Loop) report(err error) {
	if l.o.OnError != nil {
		l.o.OnError(fmt.Errorf("%s: %w", l.o.Name, err))
	}
}

// deliverEarly hands over bytes that came with a Socket.
func (l *Loop) deliverEarly() {
	for len(l.earlies) > 0 {
		c := l.earlies[0]
		l.earlies = l.earlies[1:]
		if c.state != open || !c.fresh() || c.flags&paused != 0 {
			continue // Resume brings it back
		}
		l.current = c
		c.deliverEarly()
		l.current = nil
	}
	l.earlies = nil
}

// dispatch tells the events of this turn to those they are for.
func (l *Loop) dispatch() {
	for l.next < l.batch {
		k, ready := l.poll.event(l.next)
		l.next++
		switch {
		case k.slot == wakeSlot:
		case k.slot < 0:
			if ln := l.listeners[^k.slot]; ln != nil && ln.gen == k.gen {
				ln.ready()
			}
		default:
			if c := l.slots[k.slot]; c != nil && c.gen == k.gen {
				l.current = c
				c.ready(ready)
				l.current = nil
			}
		}
	}
}

// runPosted runs what was taken out of the mailbox.
func (l *Loop) runPosted() {
	for l.ran < len(l.posted) {
		fn := l.posted[l.ran]
		l.posted[l.ran] = nil
		l.ran++
		l.stats.Posts++
		fn()
	}
}

// runTimers runs the timers that are due. One set meanwhile waits for the next
// turn.
func (l *Loop) runTimers() {
	for l.timers.due(l.now) {
		l.timers.pop()()
	}
}

// key names a registered descriptor in an event: slot s >= 0 is a connection,
// s < 0 the listener ^s.
type key struct {
	slot int32
	gen  uint32
}

// wakeSlot is the slot of the poller's own wake-up descriptor.
const wakeSlot = math.MinInt32

// readiness is what a descriptor is watched for, and what it is ready for.
type readiness uint8

const (
	readable  readiness = 1 << iota
	writable            // watched only while bytes are queued
	hangup              // the peer closed, or the socket is broken
	broken              // with hangup: nothing can be sent any more, or an error waits; always watched
	exclusive           // a listener that several loops share; one of them is woken
)

// millis rounds a wait up to milliseconds; negative stays for ever.
func millis(d time.Duration) int {
	if d < 0 {
		return -1
	}
	return int(min((d+time.Millisecond-1)/time.Millisecond, math.MaxInt32))
}

// epoch is the zero of every loop's clock.
var epoch = time.Now()

// Epoch is the wall-clock time at which every loop's clock was zero:
// Epoch().Add(time.Duration(t)) prints a [wire.Time].
func Epoch() time.Time { return epoch }

// clock reads the monotonic clock.
func clock() wire.Time { return wire.Time(time.Since(epoch)) }
