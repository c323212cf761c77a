package loop

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// keepPosted bounds the list that a mailbox keeps after a storm of posts.
const keepPosted = 1 << 10

// mailbox holds the functions posted to a loop. The loop's own posts go
// through it like everyone's; a post wakes the loop only if it sleeps, and of
// all posts to a sleeping loop only one does.
type mailbox struct {
	mu     sync.Mutex
	fns    []func()
	closed bool

	n      atomic.Int32 // len(fns)
	asleep atomic.Bool  // the loop waits, or is about to look at n a last time
	waking atomic.Int32 // posters that may still touch the poller
}

// put adds fn, unless it is nil, and wakes the loop if it sleeps. It reports
// false after close.
func (m *mailbox) put(fn func(), p *poller) bool {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return false
	}
	if fn != nil {
		m.fns = append(m.fns, fn)
		m.n.Store(int32(len(m.fns)))
	}
	m.waking.Add(1)
	m.mu.Unlock()

	if m.asleep.CompareAndSwap(true, false) {
		p.wake()
	}
	m.waking.Add(-1)
	return true
}

// take returns what was posted, oldest first. spare is a list that take
// returned earlier, all of whose functions were run: it is used again.
func (m *mailbox) take(spare []func()) []func() {
	if cap(spare) > keepPosted {
		spare = nil
	}
	m.mu.Lock()
	fns := m.fns
	m.fns = spare[:0]
	m.n.Store(0)
	m.mu.Unlock()
	return fns
}

// close refuses further posts and returns what is left. When it returns, no
// poster touches the poller any more.
func (m *mailbox) close() []func() {
	m.mu.Lock()
	m.closed = true
	fns := m.fns
	m.fns = nil
	m.n.Store(0)
	m.mu.Unlock()
	for m.waking.Load() > 0 {
		runtime.Gosched()
	}
	return fns
}
