package pool

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool/dial"
	"github.com/pgweir/pgweir/wire"
)

// hosts is what a pool knows of the hosts of its entry: whose turn it is, and
// which of them fail. It may be used from anywhere.
type hosts struct {
	mu   sync.Mutex // held for a walk over a list of hosts
	next int
	down map[string]*outage
}

// outage is a host that did not take us, because it is down or because it is
// not what the entry asks for.
type outage struct {
	count  int       // in a row
	until  wire.Time // skipped before
	silent bool      // to try it takes server_connect_timeout
	reason string
}

// order is the order in which a new connection tries the hosts of list. Those
// that work come first: from the next one on and round, or from the one that
// served last. Those that fail come last, so they are tried only if no other
// takes us; but each time its back-off is over, one connection tries it in its
// place, and sees whether it works again. Those that don't even answer are left
// out until then, so that nobody who looks for the new primary waits for them.
func (h *hosts) order(list []string, turn configs.LoadBalanceHosts, now wire.Time, longest time.Duration) []string {
	if len(list) < 2 {
		return list
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	var up, down, silent []string
	for i := range list {
		host := list[(h.next+i)%len(list)]
		o := h.down[host]
		switch {
		case o == nil:
			up = append(up, host)
		case now >= o.until && turn == configs.HostsRoundRobin:
			o.until = now.Add(o.patience(longest))
			up = append(up, host)
		case now < o.until && o.silent:
			silent = append(silent, host)
		default:
			if o.silent {
				o.until = now.Add(o.patience(longest))
			}
			down = append(down, host)
		}
	}
	if turn == configs.HostsRoundRobin {
		h.next = (h.next + 1) % len(list)
	}
	if len(up)+len(down) == 0 {
		return silent
	}
	return append(up, down...)
}

// patience is how long the host is skipped: a second, doubling up to longest
// while it goes on to fail.
func (o *outage) patience(longest time.Duration) time.Duration {
	return min(longest, time.Second<<min(o.count-1, 16))
}

// failed notes that err.Host did not take us. It reports whether that is news.
func (h *hosts) failed(err *dial.LoginError, now wire.Time, longest time.Duration) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	o := h.down[err.Host]
	if o == nil {
		if h.down == nil {
			h.down = map[string]*outage{}
		}
		o = &outage{}
		h.down[err.Host] = o
	}
	o.count++
	o.reason = err.Error()
	o.silent = err.Kind == dial.Timeout
	o.until = now.Add(o.patience(longest))
	return o.count == 1
}

// keep forgets what is known of hosts that are not in list.
func (h *hosts) keep(list []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.DeleteFunc(h.down, func(host string, _ *outage) bool { return !slices.Contains(list, host) })
}

// works notes that host took us. Without turns it serves from now on.
func (h *hosts) works(host string, list []string, turn configs.LoadBalanceHosts) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.down, host)
	if turn == configs.HostsDisable {
		for i := range list {
			if list[i] == host {
				h.next = i
			}
		}
	}
}

// choose says which hosts r tries, and in which order.
func (q *Pool) choose(p *Pooler, r *dial.Request, now wire.Time) {
	conf, main := q.db.conf.Load(), &p.Snapshot().Main
	r.Names = p.opts.Names
	r.Hosts, r.Attrs = conf.Hosts, conf.TargetSessionAttrs
	if len(r.Hosts) == 0 {
		r.Hosts = []string{main.UnixSocketDir}
	}
	if len(r.Hosts) < 2 {
		return
	}
	r.Hosts = q.hosts.order(r.Hosts, conf.LoadBalanceHosts, now, main.ServerLoginRetry)
	r.Failed = func(err *dial.LoginError) { q.skip(p, err, main.ServerLoginRetry) }
}

// skip has err.Host skipped for a while, longest at most.
func (q *Pool) skip(p *Pooler, err *dial.LoginError, longest time.Duration) {
	if q.hosts.failed(err, p.Now(), longest) {
		p.log.Log(Warning, "S: "+q.name()+"@"+err.Host, "host is skipped for now: "+err.Error())
	}
}

// several reports whether the entry of q has hosts to choose from: then there
// is hope as long as anybody waits.
func (q *Pool) several() bool {
	conf := q.db.conf.Load()
	return len(conf.Hosts) > 1 || conf.TargetSessionAttrs != configs.SessionAny
}

// tickNames marks the servers whose address is no longer one of their host's
// name.
func (s *Shard) tickNames() {
	names := s.w.p.opts.Names
	if names == nil {
		return
	}
	for _, l := range []*list[Server, *Server]{&s.busy, &s.canceled, &s.tested, &s.idle, &s.used} {
		l.each(func(v *Server) {
			if v.name != v.host && !v.retired && !names.Current(v.name, v.host) {
				v.retired = true
				v.log(Info, "the name "+v.name+" has other addresses now")
			}
		})
	}
}

// HostInfo is a row of SHOW HOSTS: a host of a pool's entry.
type HostInfo struct {
	Database, User, Host string
	Port                 int
	Servers              int           // logged in to there
	Failures             int           // in a row
	Skipped              time.Duration // for so long yet, 0 if it is not
	Reason               string        // of the last failure
}

// Hosts returns the hosts of all pools, in order of database and user, and as
// the entry has them.
func (p *Pooler) Hosts() (all []HostInfo) {
	type place struct {
		pool *Pool
		host string
	}
	servers := map[place]int{}
	p.gather(func(w *Worker) {
		w.eachServer(func(v *Server) { servers[place{v.shard.pool, v.name}]++ })
	})
	local := []string{p.Snapshot().Main.UnixSocketDir}
	now := p.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range sortedKeys(p.databases) {
		d := p.databases[name]
		conf := d.conf.Load()
		list := conf.Hosts
		if len(list) == 0 {
			list = local
		}
		pools := slices.Clone(d.pools)
		slices.SortFunc(pools, func(a, b *Pool) int { return strings.Compare(a.user.Name, b.user.Name) })
		for _, q := range pools {
			for _, host := range list {
				i := HostInfo{Database: name, User: q.user.Name, Host: host, Port: conf.Port, Servers: servers[place{q, host}]}
				i.Failures, i.Skipped, i.Reason = q.hosts.trouble(host, now)
				all = append(all, i)
			}
		}
	}
	return all
}

// trouble is what is wrong with host, nothing if it works.
func (h *hosts) trouble(host string, now wire.Time) (failures int, skipped time.Duration, reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	o := h.down[host]
	if o == nil {
		return 0, 0, ""
	}
	return o.count, max(0, o.until.Sub(now)), o.reason
}
