package pool_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/pool/dial"
	"github.com/pgweir/pgweir/wire"
)

// sharing is a world of tenants, pools that share the connections of one plan,
// whose clients ask again as soon as they were answered. Postgres takes its time
// for logins, queries and goodbyes. A step is a millisecond.
type sharing struct {
	*world
	rng      *rand.Rand
	limit    int   // of the plan
	held     []int // servers of each tenant, but for those that take their leave
	room     int   // connections that Postgres allows
	servers  []*sharedServer
	clients  []*tenantClient
	timers   []timer
	open     int // servers, those being logged in to and those that take their leave included
	known    int // of loop.conns
	most     int
	refusals int
}

// sharedServer is a connection to Postgres, or the rest of one.
type sharedServer struct {
	*fakeConn
	tenant int
	due    time.Duration // of the answer; 0: nothing was asked
}

// tenantClient is a client that asks without end.
type tenantClient struct {
	*client
	tenant  int
	silent  bool          // it asks no more
	think   time.Duration // at most, before it asks again; 0: none
	ready   bool          // it was answered
	asked   wire.Time     // 0: it thinks
	served  int
	longest time.Duration // that it waited for an answer, without the time of logging in
}

// timer is something that is due.
type timer struct {
	at wire.Time
	fn func()
}

// newSharing has so many clients for each tenant.
func newSharing(t *testing.T, limit int, clients ...int) *sharing {
	s := &sharing{rng: rand.New(rand.NewPCG(1, 2)), limit: limit, room: limit, held: make([]int, len(clients))}
	var databases strings.Builder
	for i := range clients {
		fmt.Fprintf(&databases, "t%d = host=db\n", i)
	}
	plan := fmt.Sprintf("plan = gold\nauth_type = trust\npool_mode = transaction\n[plans]\ngold = max_server_connections=%d", limit)
	s.world = newWorldWith(t, plan, databases.String(), func(o *pool.Options) {
		o.After = s.after
	})
	for i, n := range clients {
		for range n {
			c := &tenantClient{client: s.connect(), tenant: i}
			s.clients = append(s.clients, c)
			c.in = startup(3<<16, "user", "alice", "database", fmt.Sprintf("t%d", i))
		}
	}
	s.known = len(s.loop.conns)
	return s
}

func (s *sharing) after(d time.Duration, fn func()) {
	s.timers = append(s.timers, timer{s.loop.now.Add(d), fn})
}

// run lets that time pass.
func (s *sharing) run(d time.Duration) {
	s.t.Helper()
	for until := s.loop.now.Add(d); s.loop.now < until; {
		s.step()
	}
}

func (s *sharing) step() {
	s.loop.now = s.loop.now.Add(time.Millisecond)
	for _, tm := range s.timers {
		if tm.at <= s.loop.now {
			tm.fn()
		}
	}
	s.timers = slices.DeleteFunc(s.timers, func(tm timer) bool { return tm.at <= s.loop.now })
	if int(s.loop.now/wire.Time(time.Millisecond))%int(pool.TickEvery/time.Millisecond) == 0 {
		s.p.Worker(0).Tick()
	}
	s.world.loop.run()
	s.leavings()
	for _, v := range s.servers {
		v.answer(s)
	}
	for _, c := range s.clients {
		c.ask(s)
	}
	s.world.loop.run()
	s.leavings()
	s.servers = slices.DeleteFunc(s.servers, func(v *sharedServer) bool {
		if v.closed {
			s.held[v.tenant]--
		}
		return v.closed
	})
	for i, done := range s.dialer.done {
		s.login(s.tenantOf(&s.dialer.asked[i]), done)
	}
	s.dialer.asked, s.dialer.done = nil, nil
	s.loop.conns = slices.DeleteFunc(s.loop.conns, func(c *fakeConn) bool { return c.closed })
	s.known = len(s.loop.conns)
	if s.rng.IntN(50) == 0 {
		s.p.Check(false)
	}
}

// leavings finds those servers that were told to end: the pooler listens for
// their end on a connection of its own.
func (s *sharing) leavings() {
	for _, c := range s.loop.conns[s.known:] {
		s.after(time.Millisecond, func() {
			s.open--
			c.closed = true
			c.handler.Closed(io.EOF)
		})
	}
	s.known = len(s.loop.conns)
}

// tenantOf is whose server r asks for.
func (s *sharing) tenantOf(r *dial.Request) (i int) {
	for _, param := range r.Params {
		if param[0] == "database" {
			fmt.Sscanf(param[1], "t%d", &i)
		}
	}
	return i
}

// login deals with a login to Postgres, which counts from now on. It must not be
// for a tenant that has a server while a client of another, which has none, has
// waited for longer than a connection takes from one to the other.
func (s *sharing) login(tenant int, done func(*dial.Session, error)) {
	for _, c := range s.clients {
		if c.asked != 0 && s.loop.now.Sub(c.asked) > 10*time.Millisecond && s.held[c.tenant] == 0 && s.held[tenant] > 0 {
			s.t.Fatalf("tenant %d gets server %d, and tenant %d has waited for %v", tenant, s.held[tenant]+1, c.tenant, s.loop.now.Sub(c.asked))
		}
	}
	s.open++
	s.held[tenant]++
	s.most = max(s.most, s.open)
	if s.open > s.limit {
		s.t.Fatalf("%d connections at %v, and the plan has %d", s.open, time.Duration(s.loop.now), s.limit)
	}
	s.after(3*time.Millisecond, func() {
		if s.open > s.room {
			s.open--
			s.held[tenant]--
			s.refusals++
			done(nil, &dial.LoginError{Kind: dial.Refused, Reason: "full", Server: wire.Fields{
				Severity: "FATAL", Code: "53300", Message: "sorry, too many clients already", Routine: "InitProcess",
			}})
			return
		}
		n := len(s.loop.conns)
		done(&dial.Session{Params: reported, Key: make([]byte, 8)}, nil)
		s.loop.run()
		s.servers = append(s.servers, &sharedServer{fakeConn: s.loop.conns[n], tenant: tenant})
		s.loop.conns[n], s.loop.conns[s.known] = s.loop.conns[s.known], s.loop.conns[n]
		s.known++
	})
}

// answer answers what was asked, when it is due.
func (v *sharedServer) answer(s *sharing) {
	now := time.Duration(s.loop.now)
	switch {
	case v.closed || len(v.out) == 0:
		return
	case v.due == 0:
		v.due = now + time.Duration(3+s.rng.IntN(5))*time.Millisecond
	case v.due <= now:
		if bytes.Contains(v.out, []byte("max_connections")) {
			row := binary.BigEndian.AppendUint32([]byte{0, 1}, 9)
			out, at := wire.Begin(nil, wire.DataRow)
			v.in = wire.End(append(append(out, row...), "100 -1 -1"...), at)
		}
		v.in = wire.AppendReadyForQuery(wire.AppendCommandComplete(v.in, "SELECT 1"), wire.TxIdle)
		v.out, v.due = nil, 0
	}
}

// ask takes the answer, and asks again.
func (c *tenantClient) ask(s *sharing) {
	if c.closed {
		s.t.Fatalf("a client of tenant %d was sent away: %q", c.tenant, c.out)
	}
	if c.asked != 0 {
		c.longest = max(c.longest, s.loop.now.Sub(c.asked))
	}
	if bytes.HasSuffix(c.out, []byte("Z\x00\x00\x00\x05I")) {
		if c.asked != 0 {
			c.served++
		}
		c.out, c.asked, c.ready = nil, 0, true
	}
	if c.silent || !c.ready {
		return
	}
	c.ready = false
	if c.think > 0 {
		s.after(time.Duration(s.rng.Int64N(int64(c.think))), func() { c.request(s) })
		return
	}
	c.request(s)
}

func (c *tenantClient) request(s *sharing) {
	c.asked = s.loop.now
	c.in = wire.AppendQuery(nil, "select 1")
}

// forget begins to measure anew.
func (s *sharing) forget() {
	for _, c := range s.clients {
		c.served, c.longest = 0, 0
	}
}

// jain is Jain's index of what the tenants were served: 1 is equal.
func (s *sharing) jain() float64 {
	served := map[int]float64{}
	for _, c := range s.clients {
		served[c.tenant] += float64(c.served)
	}
	var sum, squares float64
	for _, n := range served {
		sum += n
		squares += n * n
	}
	return sum * sum / (float64(len(served)) * squares)
}

// longest is the longest wait of a tenant's clients.
func (s *sharing) longest(tenants ...int) (d time.Duration) {
	for _, c := range s.clients {
		if slices.Contains(tenants, c.tenant) {
			d = max(d, c.longest)
		}
	}
	return d
}

// TestShare: pools that want more than there is get as much as each other, and
// none waits for longer than it takes to come round.
func TestShare(t *testing.T) {
	for _, c := range []struct {
		name    string
		limit   int
		clients []int
		wait    time.Duration // at most
	}{
		{"more pools than connections", 6, slices.Repeat([]int{3}, 12), time.Second},
		{"many more", 3, slices.Repeat([]int{2}, 12), 2 * time.Second},
		{"one connection", 1, slices.Repeat([]int{2}, 4), 2 * time.Second},
		{"fewer pools than connections", 7, []int{4, 4, 4}, time.Second},
		{"tenants of unequal size", 4, []int{40, 4, 4, 4}, time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSharing(t, c.limit, c.clients...)
			s.run(2 * time.Second)
			s.forget()
			s.run(20 * time.Second)
			if j := s.jain(); j < 0.97 {
				t.Errorf("Jain's index is %.3f", j)
			}
			all := make([]int, len(c.clients))
			for i := range all {
				all[i] = i
			}
			if d := s.longest(all...); d > c.wait {
				t.Errorf("a client waited for %v", d)
			}
			if s.most != c.limit {
				t.Errorf("at most %d connections were open", s.most)
			}
			t.Logf("Jain's index %.3f, longest wait %v", s.jain(), s.longest(all...))
		})
	}
}

// TestShareIdle: connections of tenants that went idle are for those who come.
func TestShareIdle(t *testing.T) {
	s := newSharing(t, 4, 2, 2, 2, 2)
	for _, c := range s.clients {
		c.silent = c.tenant >= 2
	}
	s.run(time.Second)
	for _, c := range s.clients {
		c.silent = !c.silent
	}
	s.run(20 * time.Millisecond) // what was asked is answered
	s.forget()
	s.run(time.Second)
	if d := s.longest(2, 3); d > 100*time.Millisecond {
		t.Errorf("a client waited for %v, and all others are idle", d)
	}
	if j := s.jain(); j < 0.48 { // of the two that work: half of four
		t.Errorf("Jain's index is %.3f", j)
	}
}

// TestShareNowAndThen: tenants that have little to do don't wait for a
// connection as long as others are idle.
func TestShareNowAndThen(t *testing.T) {
	s := newSharing(t, 6, slices.Repeat([]int{1}, 16)...)
	for _, c := range s.clients {
		c.think = 100 * time.Millisecond // two of 16 are at work, on average
	}
	s.run(2 * time.Second)
	s.forget()
	s.run(20 * time.Second)
	for i := range 16 {
		if d := s.longest(i); d > 60*time.Millisecond {
			t.Errorf("a client of tenant %d waited for %v", i, d)
		}
	}
}

// TestShareRefused: while Postgres lets in fewer than the plan says everybody is
// served by those, and when there is room again all of the plan is used.
func TestShareRefused(t *testing.T) {
	s := newSharing(t, 6, slices.Repeat([]int{2}, 9)...)
	s.room = 3
	s.run(10 * time.Second)
	s.forget()
	s.run(20 * time.Second)
	if j := s.jain(); j < 0.95 || s.refusals == 0 {
		t.Errorf("with %d refusals Jain's index is %.3f", s.refusals, j)
	}
	if s.refusals > 20 {
		t.Errorf("%d logins were refused in half a minute", s.refusals)
	}
	s.room = 6
	s.run(30 * time.Second)
	if s.open < 5 { // one may be on its way from one tenant to another
		t.Errorf("there is room for 6 again, and %d are open", s.open)
	}
	s.forget()
	was := s.refusals
	s.run(10 * time.Second)
	if j := s.jain(); j < 0.95 || s.refusals != was {
		t.Errorf("with %d more refusals Jain's index is %.3f", s.refusals-was, j)
	}
}
