package pool

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/pgweir/pgweir/wire"
)

// guesses remember wrong passwords, so that nobody tries many of them on a
// database. They are counted by where they come from: who guesses elsewhere
// keeps nobody out here. All loops may use it.
type guesses struct {
	mu     sync.Mutex // held over a few operations on maps
	lately *lru.Cache[tried, wire.Time]
	debts  *lru.Cache[debtor, wire.Time]
	trials map[origin]*crowd
}

// crowd is the trials that come from one origin.
type crowd struct {
	underway int
	queue    []*trial // those that wait, in their order
}

// origin is where a guess comes from: an address, or over a unix socket a
// system user.
type origin struct {
	network netip.Prefix
	uid     int
}

// debtor is who has guessed wrong: from one origin, one user's password, or (an
// empty user) anybody's.
type debtor struct {
	from origin
	user string
}

// The bounds of guesses.
const (
	maxGuesses = 4096 // remembered, of each kind

	// refusedFor is how long a password that a server did not take is refused
	// without asking again.
	refusedFor = 10 * time.Second

	// An origin may guess one user's password userBurst times at once, and then
	// once in userEvery; anybody's originBurst times, and then once in
	// originEvery.
	userBurst, userEvery     = 5, 5 * time.Second
	originBurst, originEvery = 50, time.Second

	// maxTrials bounds the trials under way from one origin: no more may turn out
	// to be guesses than it may guess at once.
	maxTrials = originBurst
)

func newGuesses() guesses {
	lately, err := lru.New[tried, wire.Time](maxGuesses)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	debts, err := lru.New[debtor, wire.Time](maxGuesses)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return guesses{lately: lately, debts: debts, trials: map[origin]*crowd{}}
}

// enter reports whether k may begin now. If not it begins when others have left
// that come from where it does.
func (g *guesses) enter(k *trial) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.trials[k.from]
	if c == nil {
		c = &crowd{}
		g.trials[k.from] = c
	}
	if c.underway == maxTrials {
		c.queue = append(c.queue, k)
		return false
	}
	c.underway++
	return true
}

// leave is told that a trial from there that had begun counts no more.
func (g *guesses) leave(from origin) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.trials[from]
	switch {
	case len(c.queue) > 0:
		next := c.queue[0]
		c.queue = slices.Delete(c.queue, 0, 1)
		next.w.loop.Post(next.begin)
	case c.underway > 1:
		c.underway--
	default:
		delete(g.trials, from)
	}
}

// abandon takes k, which has not begun, out of the queue, unless its turn has
// come.
func (g *guesses) abandon(k *trial) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c := g.trials[k.from]; c != nil {
		c.queue = slices.DeleteFunc(c.queue, func(o *trial) bool { return o == k })
	}
}

// refused reports whether a server has refused t lately.
func (g *guesses) refused(t tried, now wire.Time) bool {
	at, known := g.lately.Get(t)
	return known && now.Sub(at) < refusedFor
}

// allowed reports whether from may guess user's password now.
func (g *guesses) allowed(from origin, user string, now wire.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.within(debtor{from, user}, userBurst, userEvery, now) && g.within(debtor{from, ""}, originBurst, originEvery, now)
}

// within reports whether d, whose every wrong guess is paid off in the time of
// every, owes for less than burst.
func (g *guesses) within(d debtor, burst int, every time.Duration, now wire.Time) bool {
	until, _ := g.debts.Get(d)
	return until.Sub(now) <= time.Duration(burst-1)*every
}

// wrong notes that a server has refused t, which came from there.
func (g *guesses) wrong(t tried, from origin, now wire.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lately.Add(t, now)
	for d, every := range map[debtor]time.Duration{{from, t.user}: userEvery, {from, ""}: originEvery} {
		until, _ := g.debts.Get(d)
		g.debts.Add(d, max(until, now).Add(every))
	}
}

// forget forgets which passwords were refused lately.
func (g *guesses) forget() { g.lately.Purge() }
