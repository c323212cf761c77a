package dial

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Names is a cache of host names and their addresses. However many connections
// want a name at once, it is looked up once. Names that are in use are looked
// up anew when their time is over, so that a change is noticed also while no
// new connection is made. Its methods may be called from any goroutine; only
// those that take a context may block.
type Names struct {
	opts NamesOptions

	mu      sync.Mutex
	names   map[string]*name
	zones   map[string]*zone
	checked time.Time // when the zones were last checked
	queries int       // lookups under way
}

// NamesOptions are what Names need of the world around them.
type NamesOptions struct {
	Resolver Resolver

	// MaxTTL is how long an answer is used, NXDomainTTL how long a failure, and
	// ZoneCheck is the time between two looks at the zones' serial numbers, 0
	// for none (dns_max_ttl, dns_nxdomain_ttl, dns_zone_check_period).
	MaxTTL, NXDomainTTL, ZoneCheck func() time.Duration

	// Now is time.Now, outside of tests.
	Now func() time.Time
}

// Resolver asks the domain name system. Its methods block.
type Resolver interface {
	// Addrs returns the addresses of a host, at least one if err is nil. An
	// error that says so, as *net.DNSError does, means that there is no such
	// name; any other that it could not be asked.
	Addrs(ctx context.Context, host string) ([]netip.Addr, error)

	// Serial returns the serial number of a zone.
	Serial(ctx context.Context, zone string) (uint32, error)
}

// name is a host name that is known. Guarded by Names.mu.
type name struct {
	addrs  []netip.Addr // of the last good answer, in their order
	err    error        // of the last lookup
	until  time.Time    // the answer is used before
	looked time.Time    // when the last lookup ended
	used   time.Time    // when somebody last wanted it
	next   int          // the address that is next to be the first
	asking chan struct{}
	avoid  map[netip.Addr]avoided // those that did not take us
}

// avoided is an address where nobody was.
type avoided struct {
	count  int       // in a row
	until  time.Time // it is not tried in its turn before
	silent bool      // to try it takes server_connect_timeout
}

// from is a with its time beginning now: a second, doubling up to avoidFor while
// the address goes on to fail.
func (a avoided) from(now time.Time) avoided {
	a.until = now.Add(min(avoidFor, time.Second<<min(a.count-1, 16)))
	return a
}

// zone is where some of the names are. Guarded by Names.mu.
type zone struct {
	serial uint32
	known  bool // serial was seen
}

const (
	lookupTimeout = 10 * time.Second

	// avoidFor is how long at most an address that did not take us comes last.
	avoidFor = 30 * time.Second

	// refreshEvery bounds the lookups of a name that nobody waits for.
	refreshEvery = time.Second

	// forgetAfter is after how long without use a name is dropped.
	forgetAfter = time.Hour
)

// NewNames returns an empty cache.
func NewNames(o NamesOptions) *Names {
	return &Names{opts: o, names: map[string]*name{}, zones: map[string]*zone{}}
}

// Resolve returns the addresses of host, another one first each time. While the
// name servers don't answer, those that were known last are returned at once.
func (n *Names) Resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.nameLocked(host)
	if h.asking != nil || !n.opts.Now().Before(h.until) {
		asking := n.lookupLocked(host, h)
		if h.err == nil || len(h.addrs) == 0 {
			n.mu.Unlock()
			select {
			case <-asking:
			case <-ctx.Done():
			}
			n.mu.Lock()
			if err := ctx.Err(); err != nil {
				return nil, err
			}
		}
	}
	if len(h.addrs) == 0 {
		return nil, h.err
	}
	return h.turnLocked(n.opts.Now()), nil
}

// turnLocked is the addresses of h, from the next one on and round, and behind
// these the ones that did not take us lately. Those that did not even answer are
// left out as long as there are others: whoever looks for the new primary is not
// to wait for the old one. When their time is over one connection tries them.
func (h *name) turnLocked(now time.Time) []netip.Addr {
	var up, down, silent []netip.Addr
	for i := range h.addrs {
		addr := h.addrs[(h.next+i)%len(h.addrs)]
		switch a, known := h.avoid[addr]; {
		case !known:
			up = append(up, addr)
		case !now.Before(a.until):
			h.avoid[addr] = a.from(now)
			up = append(up, addr)
		case a.silent:
			silent = append(silent, addr)
		default:
			down = append(down, addr)
		}
	}
	h.next = (h.next + 1) % len(h.addrs)
	if len(up)+len(down) == 0 {
		return silent
	}
	return append(up, down...)
}

// answered notes how host took us at addr: 0 for a login, else what failed.
func (n *Names) answered(host string, addr netip.Addr, failed Kind) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.names[host]
	switch {
	case h == nil || failed == Canceled:
	case failed != ConnectFailed && failed != Timeout:
		delete(h.avoid, addr)
	case slices.Contains(h.addrs, addr):
		if h.avoid == nil {
			h.avoid = map[netip.Addr]avoided{}
		}
		h.avoid[addr] = avoided{count: h.avoid[addr].count + 1, silent: failed == Timeout}.from(n.opts.Now())
	}
}

// Silent tells that host does not answer any more at addr, where it was.
func (n *Names) Silent(host, addr string) {
	if at, err := netip.ParseAddr(addr); err == nil {
		n.answered(host, at.Unmap(), Timeout)
	}
}

// Current tells that there are connections to host at addr. It reports false
// if the last answer does not have that address any more. If the answer is old
// a lookup begins.
func (n *Names) Current(host, addr string) bool {
	at, err := netip.ParseAddr(addr)
	if err != nil {
		return true
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.nameLocked(host)
	if now := n.opts.Now(); !now.Before(h.until) && now.Sub(h.looked) >= refreshEvery {
		n.lookupLocked(host, h)
	}
	return len(h.addrs) == 0 || slices.Contains(h.addrs, at.Unmap())
}

// nameLocked returns what is known of host, for somebody who wants it.
func (n *Names) nameLocked(host string) *name {
	now := n.opts.Now()
	h := n.names[host]
	if h == nil {
		for other, h := range n.names {
			if h.asking == nil && now.Sub(h.used) > forgetAfter {
				delete(n.names, other)
			}
		}
		h = &name{}
		n.names[host] = h
	}
	h.used = now
	return h
}

// lookupLocked begins to look host up, unless somebody does already. The
// channel is closed when that is done.
func (n *Names) lookupLocked(host string, h *name) chan struct{} {
	if h.asking == nil {
		h.asking = make(chan struct{})
		n.queries++
		go n.lookup(host, h)
	}
	return h.asking
}

func (n *Names) lookup(host string, h *name) {
	ctx, cancel := context.WithTimeout(context.Background(), lookupTimeout)
	defer cancel()
	addrs, err := n.opts.Resolver.Addrs(ctx, host)
	n.mu.Lock()
	defer n.mu.Unlock()
	ttl := n.opts.MaxTTL()
	if err == nil {
		slices.SortFunc(addrs, netip.Addr.Compare) // or turns would be lost when an answer is in another order
		h.addrs = slices.Compact(addrs)
		maps.DeleteFunc(h.avoid, func(a netip.Addr, _ avoided) bool { return !slices.Contains(h.addrs, a) })
	} else {
		ttl = n.opts.NXDomainTTL()
		if missing(err) {
			h.addrs = nil
		}
	}
	h.err = err
	h.looked = n.opts.Now()
	h.until = h.looked.Add(ttl)
	close(h.asking)
	h.asking = nil
	n.queries--
}

// missing reports whether err says that there is no such name. All other
// failures tell nothing of the name, and what was known of it stays.
func missing(err error) bool {
	var e *net.DNSError
	return errors.As(err, &e) && e.IsNotFound
}

// zoneOf is the zone that host is in: what comes behind its first dot.
func zoneOf(host string) string {
	_, zone, _ := strings.Cut(strings.TrimSuffix(host, "."), ".")
	return zone
}

// CheckZones begins to look at the zones of all names, if it is time to. When a
// zone's serial number has gone up its names are looked up anew.
func (n *Names) CheckZones() {
	n.mu.Lock()
	defer n.mu.Unlock()
	period, now := n.opts.ZoneCheck(), n.opts.Now()
	if period <= 0 || now.Sub(n.checked) < period {
		return
	}
	n.checked = now
	inUse := map[string]bool{}
	for host := range n.names {
		if zone := zoneOf(host); zone != "" {
			inUse[zone] = true
		}
	}
	for name := range n.zones {
		if !inUse[name] {
			delete(n.zones, name)
		}
	}
	for name := range inUse {
		if n.zones[name] == nil {
			n.zones[name] = &zone{}
		}
		n.queries++
		go n.checkZone(name, n.zones[name])
	}
}

func (n *Names) checkZone(name string, z *zone) {
	ctx, cancel := context.WithTimeout(context.Background(), lookupTimeout)
	defer cancel()
	serial, err := n.opts.Resolver.Serial(ctx, name)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.queries--
	if err != nil {
		return // what is known of the zone stays
	}
	newer := z.known && int32(serial-z.serial) > 0 // RFC 1982
	if z.serial, z.known = serial, true; !newer {
		return
	}
	for host, h := range n.names {
		if zoneOf(host) == name {
			n.lookupLocked(host, h)
		}
	}
}

// NameInfo is a row of SHOW DNS_HOSTS.
type NameInfo struct {
	Host  string
	TTL   time.Duration // until it is looked up again
	Addrs []netip.Addr
}

// ZoneInfo is a row of SHOW DNS_ZONES.
type ZoneInfo struct {
	Zone   string
	Serial uint32
	Names  int
}

// Hosts returns the names that are known, in their order.
func (n *Names) Hosts() (all []NameInfo) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.opts.Now()
	for host, h := range n.names {
		all = append(all, NameInfo{host, max(0, h.until.Sub(now)), slices.Clone(h.addrs)})
	}
	slices.SortFunc(all, func(a, b NameInfo) int { return strings.Compare(a.Host, b.Host) })
	return all
}

// Zones returns the zones that are watched, in the order of their names.
func (n *Names) Zones() (all []ZoneInfo) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for name, z := range n.zones {
		i := ZoneInfo{Zone: name, Serial: z.serial}
		for host := range n.names {
			if zoneOf(host) == name {
				i.Names++
			}
		}
		all = append(all, i)
	}
	slices.SortFunc(all, func(a, b ZoneInfo) int { return strings.Compare(a.Zone, b.Zone) })
	return all
}

// Queries is how many lookups are under way.
func (n *Names) Queries() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.queries
}
