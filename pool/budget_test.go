package pool

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/pgweir/pgweir/wire"
)

// tenant is a pool on one loop, with so many servers, the last of which came at
// gained.
func tenant(name string, servers int, gained time.Duration) *Shard {
	q := &Pool{db: &Database{Name: name}, user: &User{Name: "u"}, slots: &slots{}, lanes: make([]lane, 1)}
	q.count(servers, 0)
	q.gained.Store(int64(gained))
	s := &Shard{pool: q, lane: &q.lanes[0]}
	q.lanes[0].shard.Store(s)
	return s
}

// claim has b keep those waiting, in that order.
func claim(b *budget, shards ...*Shard) {
	for i, s := range shards {
		s.claims, s.ticket = b, uint64(i)+1
		b.pools = append(b.pools, s.pool)
	}
	b.claims = shards
	b.update()
}

// TestRank: the pool with the fewest servers comes first, then the one that has
// got one longest ago, then the shard that came first.
func TestRank(t *testing.T) {
	rich, poor := tenant("rich", 2, time.Second), tenant("poor", 0, 5*time.Second)
	late, early := tenant("late", 1, 3*time.Second), tenant("early", 1, 2*time.Second)
	twin := &Shard{pool: late.pool}
	b := &budget{limit: 10}
	claim(b, rich, late, twin, early, poor)
	for want, s := range []*Shard{poor, early, late, twin, rich} {
		if got := b.rank(s); got != want {
			t.Errorf("%s has rank %d, want %d", s.pool.name(), got, want)
		}
	}
	for _, s := range []struct {
		who  *Shard
		want int
	}{
		{tenant("new", 0, 0), 0}, // before poor, which has just got one and lost it
		{tenant("one", 1, 4*time.Second), 4},
		{tenant("many", 9, 0), 5},
	} {
		if got := b.rank(s.who); got != s.want {
			t.Errorf("%s, without a claim, would have rank %d, want %d", s.who.pool.name(), got, s.want)
		}
	}
}

// TestAdmits: a seat goes to whom it is for, and not beyond the limit.
func TestAdmits(t *testing.T) {
	const now = wire.Time(time.Minute)
	first, second := tenant("first", 0, 0), tenant("second", 1, 0)
	newcomer, richer := tenant("newcomer", 0, -time.Second), tenant("richer", 4, 0)
	for _, c := range []struct {
		name        string
		open, limit int
		refusal     *refusal
		claims      []*Shard
		who         *Shard
		want        bool
	}{
		{"room", 1, 2, nil, nil, nil, true},
		{"full", 2, 2, nil, nil, nil, false},
		{"shrunk", 3, 2, nil, nil, nil, false},
		{"no limit", 1000, noLimit, nil, nil, nil, true},
		{"the first claim", 1, 2, nil, []*Shard{second, first}, first, true},
		{"the second claim, one seat", 1, 2, nil, []*Shard{second, first}, second, false},
		{"the second claim, two seats", 0, 2, nil, []*Shard{second, first}, second, true},
		{"a poorer newcomer", 1, 2, nil, []*Shard{second}, newcomer, true},
		{"a richer newcomer", 1, 2, nil, []*Shard{second}, richer, false},
		{"nobody waits for it, others do", 1, 2, nil, []*Shard{second}, nil, false},
		{"nobody waits for it, and it is full", 2, 2, nil, []*Shard{second}, nil, false},
		{"refused", 2, 5, &refusal{most: 2, until: now + 1}, []*Shard{first}, first, false},
		{"refused, and the back-off is over", 2, 5, &refusal{most: 2, until: now}, []*Shard{first}, first, true},
		{"refused, the back-off is over, another tries", 3, 5, &refusal{most: 2, until: now}, []*Shard{first}, first, false},
		{"refused, but fewer are open", 1, 5, &refusal{most: 2, until: now + 1}, nil, nil, true},
		{"refused beyond the limit", 5, 5, &refusal{most: 9, until: now}, nil, nil, false},
	} {
		b := &budget{open: c.open, limit: c.limit, refusal: c.refusal}
		claim(b, c.claims...)
		if got := b.admits(&ask{now: now, shard: c.who}); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}

// TestSeeker: who is told to look for a server to be closed is the first whom
// nothing on its way will serve, and hears of it once.
func TestSeeker(t *testing.T) {
	first, second, third := tenant("first", 0, 0), tenant("second", 1, 0), tenant("third", 2, 0)
	b := &budget{open: 4, limit: 4}
	expect := func(when string, who *Shard, claim int32, news ...*Shard) {
		t.Helper()
		b.update()
		if b.seeker != who || b.claim.Load() != claim {
			t.Errorf("%s: the seeker is %v, and the claim %d; want %v, %d", when, b.seeker, b.claim.Load(), who, claim)
		}
		if next := (budgets{b}).nextLocked(0); !slices.Equal(next, news) {
			t.Errorf("%s: %d are woken, want %d", when, len(next), len(news))
		}
	}
	expect("nobody waits", nil, claimNone)
	claim(b, third, second, first)
	expect("all wait", first, 0, first)
	expect("nothing changes", first, 0)
	b.leaving = 1
	expect("one leaves", second, 1, second)
	b.leaving = 2
	expect("another leaves", third, 2, third)
	b.leaving = 3
	expect("all will be served", nil, claimNone)
	b.leaving = 2
	expect("all but one", third, 2, third)
	b.leaving, b.open = 0, 3
	expect("one has left", second, 1, second, first)
	b.open = 5
	expect("the limit was lowered", first, claimAll, first)
}

// TestVictim: what is closed for others is what was unused for longest; a pool
// that waits itself gives what is beyond its share only; and a moment's idleness
// is no reason.
func TestVictim(t *testing.T) {
	const now = wire.Time(time.Minute)
	ago := func(d time.Duration) wire.Time { return now.Add(-d) }
	type other struct {
		servers int
		gained  wire.Time
		spare   wire.Time // 0: none
		oldest  wire.Time // of its waiters, 0: none
	}
	long := ago(time.Second)
	for _, c := range []struct {
		name   string
		mine   int // servers of the pool that waits
		coming int // seats that are on their way
		others []other
		want   int // index of others, -1: nobody
		later  bool
	}{
		{"nobody is idle", 0, 0, []other{{1, long, 0, 0}}, -1, false},
		{"the longest unused", 0, 0, []other{{1, long, ago(time.Second), 0}, {1, long, ago(2 * time.Second), 0}}, 1, false},
		{"a seat comes", 0, 1, []other{{1, long, ago(time.Second), 0}}, -1, false},
		{"idle for a moment, in its turn", 0, 0, []other{{1, ago(time.Millisecond), ago(time.Millisecond), 0}}, -1, true},
		{"idle for a moment, after its turn", 0, 0, []other{{1, ago(turn), ago(time.Millisecond), 0}}, 0, false},
		{"idle for a moment, with two more", 0, 0, []other{{2, now, now, 0}}, 0, false},
		{"it waits itself", 0, 0, []other{{1, long, ago(time.Second), long}}, -1, true},
		{"it waits itself, with two more", 1, 0, []other{{3, long, ago(time.Second), long}}, 0, false},
		{"it has less, and does not wait", 3, 0, []other{{1, long, ago(time.Second), 0}}, 0, false},
	} {
		s := tenant("mine", c.mine, 0)
		b := &budget{open: 4, limit: 4 + c.coming}
		claim(b, s)
		for _, o := range c.others {
			x := tenant("other", o.servers, time.Duration(o.gained))
			x.lane.spare.Store(int64(o.spare))
			x.lane.oldest.Store(int64(o.oldest))
			b.pools = append(b.pools, x.pool)
		}
		l, later := b.victim(s, now)
		found := slices.IndexFunc(b.pools[1:], func(q *Pool) bool { return &q.lanes[0] == l })
		if found != c.want || later != c.later {
			t.Errorf("%s: the victim is %d (later: %t), want %d (%t)", c.name, found, later, c.want, c.later)
		}
	}
}

// TestRicher: who has two more gives one up at once, who has one more after its
// turn, and nobody below that.
func TestRicher(t *testing.T) {
	const now = wire.Time(time.Minute)
	for _, c := range []struct {
		size   int
		gained wire.Time
		claim  int
		want   bool
	}{
		{1, now, 1, false},
		{2, now, 1, false},
		{2, now.Add(-turn), 1, true},
		{2, now.Add(-turn + 1), 1, false},
		{3, now, 1, true},
		{1, 0, 1, false},
		{1, now, claimAll, true},
	} {
		s := tenant("q", c.size, time.Duration(c.gained))
		if got := s.pool.richer(c.claim, now); got != c.want {
			t.Errorf("with %d servers since %v, for one with %d: %t", c.size, time.Duration(now-c.gained), c.claim, got)
		}
	}
}

// TestRefusal is the life of one: it shrinks the budget to what was let in, lets
// one login at a time find out after each back-off, grows with each that
// succeeds, and ends when the limit is reached again.
func TestRefusal(t *testing.T) {
	backoff := func(n int) time.Duration { return time.Duration(n) * time.Second }
	b := &budget{open: 3, logins: 1, limit: 5}
	at := wire.Time(time.Minute)
	s := seat{}
	s.budgets.Store(&budgets{b})
	login := func(ok bool) { // one more: until it is let in, or refused
		s.take(nil)
		s.loggedIn(at, ok)
		if !ok {
			s.count(-1, 0, 0)
			b.refuse(at, backoff)
		}
	}
	if !b.refuse(at, backoff) {
		t.Error("the first refusal is no news")
	}
	if b.most() != 2 || b.refusal.lets(b, at) || b.admits(&ask{now: at}) {
		t.Errorf("refused with 2 let in and one on its way: %d may be in", b.most())
	}
	s.loggedIn(at, false) // the other one
	s.count(-1, 0, 0)
	if b.refuse(at, backoff) || b.refusal.count != 1 || b.most() != 2 {
		t.Errorf("a refusal of what was under way counts as number %d, and %d may be in", b.refusal.count, b.most())
	}
	at = at.Add(time.Second)
	if !b.refusal.lets(b, at) || !b.admits(&ask{now: at}) {
		t.Fatal("nobody may try after the back-off")
	}
	s.take(nil)
	if b.admits(&ask{now: at}) {
		t.Error("two may try at a time")
	}
	s.loggedIn(at, false)
	s.count(-1, 0, 0)
	b.refuse(at, backoff)
	if b.admits(&ask{now: at.Add(time.Second)}) || !b.admits(&ask{now: at.Add(2 * time.Second)}) {
		t.Error("the back-off does not grow")
	}
	at = at.Add(2 * time.Second)
	login(true)
	if b.most() != 3 || b.refusal.count != 0 {
		t.Errorf("after a login that was let in %d may be in, and %d refusals count", b.most(), b.refusal.count)
	}
	login(true)
	login(true)
	if b.refusal != nil || b.open != 5 || b.refused != 3 || b.admits(&ask{now: at}) {
		t.Errorf("with %d of 5 open the refusal is %v", b.open, b.refusal)
	}

	// Without a limit nothing tells when there is room for all: time does.
	b = &budget{open: 2, logins: 1, limit: noLimit}
	s.budgets.Store(&budgets{b})
	b.refuse(at, backoff)
	at = at.Add(memory)
	login(true)
	if b.refusal == nil {
		t.Error("a refusal is forgotten too early")
	}
	at = at.Add(1)
	login(true)
	if b.refusal != nil {
		t.Error("a refusal without a limit is never forgotten")
	}
}

// TestParseLive reads answers of a server, and what is none.
func TestParseLive(t *testing.T) {
	row := func(columns int, text string) []byte {
		b := binary.BigEndian.AppendUint16(nil, uint16(columns))
		b = binary.BigEndian.AppendUint32(b, uint32(len(text)))
		return append(b, text...)
	}
	for _, c := range []struct {
		body []byte
		want liveLimits
		ok   bool
	}{
		{row(1, "97 -1 -1"), liveLimits{97, -1, -1}, true},
		{row(1, "97 20 5"), liveLimits{97, 20, 5}, true},
		{row(1, "97 20"), liveLimits{}, false}, // a NULL between
		{row(1, "many 1 1"), liveLimits{}, false},
		{row(2, "97 20 5"), liveLimits{}, false},
		{row(1, "97 20 5")[:8], liveLimits{}, false},
		{[]byte{0, 1, 0xff, 0xff, 0xff, 0xff}, liveLimits{}, false}, // NULL
		{nil, liveLimits{}, false},
	} {
		got, ok := parseLive(c.body)
		if ok != c.ok || ok && got != c.want {
			t.Errorf("%q: %v, %t", c.body, got, ok)
		}
	}
}
