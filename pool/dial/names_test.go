package dial_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool/dial"
)

// zoneFile is a Resolver that answers from memory.
type zoneFile struct {
	mu     sync.Mutex
	addrs  map[string][]netip.Addr
	err    error // of all lookups, if not nil
	serial uint32
	asked  int           // lookups
	slow   time.Duration // each takes so long
}

func (z *zoneFile) Addrs(_ context.Context, host string) ([]netip.Addr, error) {
	time.Sleep(z.slow)
	z.mu.Lock()
	defer z.mu.Unlock()
	z.asked++
	if z.err != nil {
		return nil, z.err
	}
	if len(z.addrs[host]) == 0 {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return slices.Clone(z.addrs[host]), nil
}

func (z *zoneFile) Serial(context.Context, string) (uint32, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.serial, nil
}

func (z *zoneFile) set(host string, addrs ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.err = nil
	z.addrs = map[string][]netip.Addr{host: nil}
	for _, a := range addrs {
		z.addrs[host] = append(z.addrs[host], netip.MustParseAddr(a))
	}
}

func (z *zoneFile) fail(err error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.err = err
}

// names is a cache over z, with the defaults of the settings.
func (z *zoneFile) names(zoneCheck time.Duration) *dial.Names {
	is := func(d time.Duration) func() time.Duration { return func() time.Duration { return d } }
	return dial.NewNames(dial.NamesOptions{
		Resolver: z, MaxTTL: is(15 * time.Second), NXDomainTTL: is(5 * time.Second), ZoneCheck: is(zoneCheck), Now: time.Now,
	})
}

// wantAddrs checks what Resolve says, "" for an error.
func wantAddrs(t *testing.T, n *dial.Names, host string, want ...string) {
	t.Helper()
	addrs, err := n.Resolve(t.Context(), host)
	if (err == nil) != (len(want) > 0) {
		t.Fatalf("%v, %v; want %v", addrs, err, want)
	}
	var got []string
	for _, a := range addrs {
		got = append(got, a.String())
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func (z *zoneFile) wantAsked(t *testing.T, want int) {
	t.Helper()
	synctest.Wait()
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.asked != want {
		t.Errorf("%d lookups, want %d", z.asked, want)
	}
}

// TestNamesCache: for how long answers and failures are used, and that all
// addresses have their turn.
func TestNamesCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var z zoneFile
		n := z.names(0)
		z.set("db", "10.0.0.2", "10.0.0.1")
		wantAddrs(t, n, "db", "10.0.0.1", "10.0.0.2")
		wantAddrs(t, n, "db", "10.0.0.2", "10.0.0.1")
		z.wantAsked(t, 1)

		z.set("db", "10.0.0.3")
		time.Sleep(14 * time.Second)
		wantAddrs(t, n, "db", "10.0.0.1", "10.0.0.2")
		time.Sleep(time.Second)
		wantAddrs(t, n, "db", "10.0.0.3")
		z.wantAsked(t, 2)

		z.fail(errors.New("no name server answers")) // which tells nothing of the name
		time.Sleep(15 * time.Second)
		wantAddrs(t, n, "db", "10.0.0.3")
		z.set("db")
		wantAddrs(t, n, "db", "10.0.0.3") // the failure is remembered
		time.Sleep(5 * time.Second)
		wantAddrs(t, n, "db", "10.0.0.3") // at once, as long as there is no answer
		synctest.Wait()
		wantAddrs(t, n, "db") // there is no such name
		z.set("db", "10.0.0.4")
		wantAddrs(t, n, "db")
		z.wantAsked(t, 4)
		time.Sleep(5 * time.Second)
		wantAddrs(t, n, "db", "10.0.0.4")
	})
}

// TestNamesOneLookup: those who want a name at the same time share one lookup,
// and who gives up does not end it for the others.
func TestNamesOneLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := zoneFile{slow: time.Second}
		n := z.names(0)
		z.set("db", "10.0.0.1")
		hasty, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := n.Resolve(hasty, "db"); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if q := n.Queries(); q != 1 {
			t.Errorf("%d lookups under way", q)
		}
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() { wantAddrs(t, n, "db", "10.0.0.1") })
		}
		all.Wait()
		z.wantAsked(t, 1)
		if q := n.Queries(); q != 0 {
			t.Errorf("%d lookups under way", q)
		}
	})
}

// TestNamesCurrent: a name in use is looked up again by itself, and an address
// that it has no longer is told.
func TestNamesCurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var z zoneFile
		n := z.names(0)
		z.set("db", "10.0.0.1", "2001:db8::1")
		current := func(addr string) bool {
			n.Current("db", addr)
			synctest.Wait()
			return n.Current("db", addr)
		}
		wantAddrs(t, n, "db", "10.0.0.1", "2001:db8::1")
		z.set("db", "2001:db8::1")
		if !current("10.0.0.1") {
			t.Error("gone before its time was over")
		}
		time.Sleep(15 * time.Second)
		if current("10.0.0.1") || !current("2001:db8::1") || !current("/unix") {
			t.Error("not what the answer says")
		}
		z.wantAsked(t, 2)
		z.set("db")
		time.Sleep(15 * time.Second)
		if !current("10.0.0.1") {
			t.Error("a name that is gone says nothing of its servers")
		}
	})
}

// TestNamesZones: when a zone's serial number goes up its names are looked up.
func TestNamesZones(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := zoneFile{serial: 4294967295}
		n := z.names(10 * time.Second)
		z.set("db.example.com", "10.0.0.1")
		wantAddrs(t, n, "db.example.com", "10.0.0.1")
		check := func(after time.Duration, serial uint32) {
			time.Sleep(after)
			z.mu.Lock()
			z.serial = serial
			z.mu.Unlock()
			n.CheckZones()
			synctest.Wait()
		}
		check(0, 4294967295)
		check(time.Second, 1) // too soon
		if zones := n.Zones(); len(zones) != 1 || zones[0] != (dial.ZoneInfo{Zone: "example.com", Serial: 4294967295, Names: 1}) {
			t.Errorf("%+v", zones)
		}
		z.wantAsked(t, 1)
		z.set("db.example.com", "10.0.0.2")
		check(9*time.Second, 1) // beyond the end of the numbers
		z.wantAsked(t, 2)
		wantAddrs(t, n, "db.example.com", "10.0.0.2")
		check(10*time.Second, 1)
		z.wantAsked(t, 2)
		hosts := n.Hosts()
		if len(hosts) != 1 || hosts[0].Host != "db.example.com" || hosts[0].TTL != 5*time.Second || len(hosts[0].Addrs) != 1 {
			t.Errorf("%+v", hosts)
		}
		time.Sleep(2 * time.Hour)
		z.set("other", "10.0.0.1")
		wantAddrs(t, n, "other", "10.0.0.1")
		check(0, 1)
		if zones, hosts := n.Zones(), n.Hosts(); len(zones) != 0 || len(hosts) != 1 {
			t.Errorf("what nobody used for long is still there: %+v, %+v", zones, hosts)
		}
	})
}

// TestNameWithSeveralAddresses: one that does not answer is followed by the
// next, and comes last from then on.
func TestNameWithSeveralAddresses(t *testing.T) {
	s := newScript(t, "tcp", "127.0.0.1:0", sends([]byte(authOK+ready)))
	r := s.request()
	var z zoneFile
	z.set("db", "127.0.0.1", "::1") // where nobody listens
	r.Names = z.names(0)
	wantAddrs(t, r.Names, "db", "127.0.0.1", "::1") // so ::1 is next
	r.Hosts = []string{"db"}
	session, err := dial.Connect(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	session.Close()
	if session.Name != "db" || session.Host != "127.0.0.1" {
		t.Errorf("%s at %s", session.Name, session.Host)
	}
	wantAddrs(t, r.Names, "db", "127.0.0.1", "::1")
	wantAddrs(t, r.Names, "db", "127.0.0.1", "::1")

	z.set("gone")
	r.Hosts = []string{"gone"}
	_, err = dial.Connect(t.Context(), r)
	wantError(t, err, dial.DNSFailed, "server DNS lookup failed")
}

// TestSilentAddress: an address that does not answer is left out while there are
// others, and one connection tries it after a second, then two, and so on.
func TestSilentAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var z zoneFile
		z.set("db", "10.0.0.1", "10.0.0.2")
		n := z.names(time.Hour)
		wantAddrs(t, n, "db", "10.0.0.1", "10.0.0.2")
		for i := range 8 {
			n.Silent("db", "10.0.0.2")
			for range 3 {
				wantAddrs(t, n, "db", "10.0.0.1")
			}
			time.Sleep(min(30*time.Second, time.Second<<i))
			addrs, err := n.Resolve(t.Context(), "db")
			if err != nil || len(addrs) != 2 {
				t.Errorf("after %d failures: %v, %v", i+1, addrs, err)
			}
			wantAddrs(t, n, "db", "10.0.0.1")
		}
		n.Silent("db", "10.0.0.2")
		n.Silent("db", "10.0.0.1")
		if addrs, err := n.Resolve(t.Context(), "db"); err != nil || len(addrs) != 2 { // there is no other
			t.Errorf("%v, %v", addrs, err)
		}
	})
}

// TestUnfitAddress: where no address of a name is what is preferred, what is
// there will do, whether it is looked at before one that is dead or behind it.
func TestUnfitAddress(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			readStartup(c)
			sends([]byte(authOK + msg('S', "in_hot_standby\x00off\x00") + msg('S', "default_transaction_read_only\x00off\x00") + ready))(c)
			defer c.Close()
		}
	}()
	var z zoneFile
	z.set("db", "127.0.0.1", "::1") // where nobody listens
	r := request()
	r.Hosts, r.Port, r.Names, r.Attrs = []string{"db"}, l.Addr().(*net.TCPAddr).Port, z.names(time.Hour), configs.SessionPreferStandby
	for range 4 { // in each order
		session, err := dial.Connect(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		session.Close()
	}
}
