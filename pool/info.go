package pool

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool/dial"
	"github.com/pgweir/pgweir/pool/params"
	"github.com/pgweir/pgweir/wire"
)

// The functions of this file look at everything from outside, for the console.
// They gather from all loops, one after the other, so what they return is no
// moment's truth; and they may block.

// PoolInfo is a row of SHOW POOLS.
type PoolInfo struct {
	Database, User                                                               string
	ClActive, ClWaiting, ClActiveCancelReq, ClWaitingCancelReq                   int
	SvActive, SvActiveCancel, SvBeingCanceled, SvIdle, SvUsed, SvTested, SvLogin int
	MaxWait                                                                      time.Duration // of the client that waits longest
	PoolMode, LoadBalanceHosts                                                   string
}

// SocketInfo is a row of SHOW CLIENTS, SHOW SERVERS and SHOW SOCKETS.
type SocketInfo struct {
	User, Database           string
	Replication              string // none, logical, physical
	State                    string
	Addr                     string
	Port                     int
	LocalAddr                string
	LocalPort                int
	ConnectTime, RequestTime time.Time
	Wait                     time.Duration // since the current query began
	CloseNeeded              bool
	LinkID                   uint64 // ID of the other half of the pair, 0 if none
	RemotePID                int
	TLS, ApplicationName     string
	PreparedStatements       int
	ID                       uint64
	WaitReason               WaitReason // clients only
}

// ClientInfo is a row of SHOW CLIENTS. State is also "login".
type ClientInfo = SocketInfo

// ServerInfo is a row of SHOW SERVERS.
type ServerInfo = SocketInfo

// DatabaseInfo is a row of SHOW DATABASES.
type DatabaseInfo struct {
	Name, Host                                     string
	Port                                           int
	Database, ForceUser                            string
	PoolSize, MinPoolSize, ReservePoolSize         int
	ServerLifetime                                 time.Duration
	PoolMode, LoadBalanceHosts                     string // empty: inherited, or not of interest
	MaxConnections, CurrentConnections             int
	MaxClientConnections, CurrentClientConnections int
	Paused, Disabled                               bool
}

// UserInfo is a row of SHOW USERS.
type UserInfo struct {
	Name                                           string
	PoolSize, ReservePoolSize                      int    // configs.Inherit: not set
	PoolMode                                       string // empty: not set
	MaxConnections, CurrentConnections             int
	MaxClientConnections, CurrentClientConnections int
}

// ListsInfo is SHOW LISTS.
type ListsInfo struct {
	Databases, Users, Pools                             int
	FreeClients, UsedClients, LoginClients, CancelCount int
	FreeServers, UsedServers                            int
}

// MemInfo is a row of SHOW MEM. The sizes are bytes.
type MemInfo struct {
	Name             string
	Size, Used, Free int
}

// LoopInfo tells of one event loop.
type LoopInfo struct {
	Conns int // sockets on it
}

// StatementInfo is a row of SHOW PREPARED_STATEMENTS.
type StatementInfo struct {
	Number  uint64
	Name    string // on servers
	Query   string
	Types   []uint32 // OIDs of the parameters as far as clients gave them, 0: not given
	Clients int      // clients that have a name for it
	Servers int      // servers that have it
}

// Statements returns the named prepared statements that any client or server
// has, in order of their numbers.
func (p *Pooler) Statements() []StatementInfo {
	clients, servers := map[*statement]int{}, map[*statement]int{}
	p.gather(func(w *Worker) {
		w.eachClient(func(c *Client) {
			for name, st := range c.names {
				if name != "" {
					clients[st]++
				}
			}
		})
		w.eachServer(func(v *Server) {
			for st := range v.prepared.of {
				servers[st]++
			}
		})
	})
	var all []StatementInfo
	p.statements.mu.Lock()
	defer p.statements.mu.Unlock()
	for _, st := range p.statements.byKey {
		i := StatementInfo{Number: st.number, Name: st.name, Clients: clients[st], Servers: servers[st]}
		i.Query, i.Types = st.text()
		all = append(all, i)
	}
	slices.SortFunc(all, func(a, b StatementInfo) int { return cmp.Compare(a.Number, b.Number) })
	return all
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// Now is the time on the loops' clock.
func (p *Pooler) Now() wire.Time { return p.opts.Now() }

func (p *Pooler) wall(t wire.Time) time.Time { return p.opts.Wall.Add(time.Duration(t)) }

// Pools returns all pools, in order of database and user.
func (p *Pooler) Pools() []PoolInfo {
	byKey := map[poolKey]*PoolInfo{}
	p.gather(func(w *Worker) {
		for _, s := range w.all {
			r := byKey[s.pool.key()]
			if r == nil {
				r = &PoolInfo{Database: s.pool.db.Name, User: s.pool.user.Name}
				r.PoolMode = s.pool.settings.Load().PoolMode.String()
				r.LoadBalanceHosts = hostOrder(s.pool.db.conf.Load())
				byKey[s.pool.key()] = r
			}
			r.ClActive += s.idleClients.n + s.active.n
			r.ClWaiting += s.waiting.n
			r.ClActiveCancelReq += s.cancelling
			r.ClWaitingCancelReq += len(s.cancelQueue) + len(s.cancelEarly)
			r.SvActive += s.busy.n
			r.SvActiveCancel += s.cancelling
			r.SvBeingCanceled += s.canceled.n
			r.SvIdle += s.idle.n
			r.SvUsed += s.used.n
			r.SvTested += s.tested.n
			r.SvLogin += s.opening.n + s.private.n
			if c := s.waiting.head; c != nil {
				r.MaxWait = max(r.MaxWait, w.now().Sub(c.queryStart))
			}
		}
	})
	all := make([]PoolInfo, 0, len(byKey))
	for _, r := range byKey {
		all = append(all, *r)
	}
	slices.SortFunc(all, func(a, b PoolInfo) int {
		return cmp.Or(strings.Compare(a.Database, b.Database), strings.Compare(a.User, b.User))
	})
	return all
}

// hostOrder is load_balance_hosts where it matters.
func hostOrder(conf *configs.Database) string {
	if len(conf.Hosts) < 2 {
		return ""
	}
	return conf.LoadBalanceHosts.String()
}

// eachClient calls fn for every client of w.
func (w *Worker) eachClient(fn func(c *Client)) {
	w.logins.each(fn)
	for _, s := range slices.Clone(w.all) {
		s.active.each(fn)
		s.waiting.each(fn)
		s.idleClients.each(fn)
	}
	w.consoles.each(fn)
	w.cancels.each(fn)
}

// eachServer calls fn for every server of w.
func (w *Worker) eachServer(fn func(v *Server)) {
	for _, s := range slices.Clone(w.all) {
		for _, l := range []*list[Server, *Server]{&s.busy, &s.canceled, &s.idle, &s.used, &s.tested} {
			l.each(fn)
		}
	}
}

// Clients returns all clients, those of the console and those that log in
// included, in order of their ids.
func (p *Pooler) Clients() []ClientInfo {
	var all []ClientInfo
	p.gather(func(w *Worker) {
		w.eachClient(func(c *Client) { all = append(all, c.info()) })
	})
	return byID(all)
}

// Servers returns all servers that are logged in, in order of their ids.
func (p *Pooler) Servers() []ServerInfo {
	var all []ServerInfo
	p.gather(func(w *Worker) {
		w.eachServer(func(v *Server) { all = append(all, v.info()) })
	})
	return byID(all)
}

func byID(all []SocketInfo) []SocketInfo {
	slices.SortFunc(all, func(a, b SocketInfo) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

func (c *Client) info() ClientInfo {
	i := socketInfo(&c.ends)
	p := c.w.p
	i.ID, i.State, i.ConnectTime = c.id, c.state.String(), p.wall(c.connected)
	i.RequestTime = i.ConnectTime
	switch {
	case c.db != nil:
		i.Database = c.db.Name
	case c.state == ClientConsole:
		i.Database, i.RequestTime = consoleDatabase, p.wall(c.lastPacket)
	}
	if c.user != nil {
		i.User = c.user.Name
	}
	if c.admin != nil {
		i.User = c.admin.user
	}
	if c.queryStart != 0 {
		i.RequestTime = p.wall(c.queryStart)
	}
	if c.busy || c.state == ClientWaiting {
		i.Wait = c.w.now().Sub(c.queryStart)
	}
	if c.state == ClientWaiting {
		i.WaitReason = c.shard.reason()
	}
	if c.server != nil {
		i.LinkID = c.server.id
		i.Replication = c.server.replication.String()
	}
	if c.login != nil {
		i.Replication = c.login.replication.String()
	}
	i.ApplicationName = p.applicationName(c.vars)
	i.PreparedStatements = len(c.names)
	return i
}

func (v *Server) info() ServerInfo {
	i := socketInfo(&v.ends)
	p := v.shard.w.p
	i.ID, i.State, i.ConnectTime, i.RequestTime = v.id, v.state.String(), p.wall(v.connected), p.wall(v.since)
	i.Database, i.User = v.shard.pool.db.Name, v.shard.pool.user.Name
	i.Replication = v.replication.String()
	i.CloseNeeded = v.obsolete()
	if len(v.key) >= 4 {
		i.RemotePID = int(v.key[0])<<24 | int(v.key[1])<<16 | int(v.key[2])<<8 | int(v.key[3])
	}
	if c := v.client; c != nil {
		i.LinkID = c.id
		i.RequestTime = p.wall(c.queryStart)
		if c.busy {
			i.Wait = v.shard.w.now().Sub(c.queryStart)
		}
	}
	i.ApplicationName = p.applicationName(v.vars)
	i.PreparedStatements = len(v.prepared.of)
	return i
}

func (p *Pooler) applicationName(v params.Values) string {
	i, _ := p.tracked.Lookup("application_name")
	return v.Get(p.tracked, i).Text
}

func socketInfo(e *ends) (i SocketInfo) {
	i.Replication = "none"
	i.RemotePID = max(int(e.pid), 0)
	i.Addr, i.Port = addrPort(e.remote)
	i.LocalAddr, i.LocalPort = addrPort(e.local())
	i.TLS = e.tls()
	return i
}

func addrPort(end netip.AddrPort) (addr string, port int) {
	if !end.IsValid() {
		return "unix", 0
	}
	return end.Addr().String(), int(end.Port())
}

// Databases returns all database entries, in order of their names, and the
// console's.
func (p *Pooler) Databases() []DatabaseInfo {
	snap := p.Snapshot()
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []DatabaseInfo
	for _, name := range sortedKeys(p.databases) {
		d := p.databases[name]
		conf := d.conf.Load()
		set := snap.ForPool(conf, "")
		i := DatabaseInfo{
			Name: name, Host: conf.Host, Port: conf.Port, Database: conf.DBName, ForceUser: conf.User,
			PoolSize: set.PoolSize, MinPoolSize: set.MinPoolSize, ReservePoolSize: set.ReservePoolSize,
			ServerLifetime: set.ServerLifetime, PoolMode: conf.PoolMode.String(), LoadBalanceHosts: hostOrder(conf),
			MaxConnections: set.MaxDBConnections, CurrentConnections: d.open,
			MaxClientConnections:     snap.ForClient(conf, "").MaxDBClientConnections,
			CurrentClientConnections: int(d.clients.Load()),
			Paused:                   d.paused.Load(), Disabled: d.disabled.Load(),
		}
		if len(conf.Hosts) == 0 {
			i.Host = snap.Main.UnixSocketDir
		}
		all = append(all, i)
	}
	all = append(all, DatabaseInfo{
		Name: consoleDatabase, Port: snap.Main.ListenPort, Database: consoleDatabase, ForceUser: consoleDatabase,
		PoolSize: 2, PoolMode: configs.PoolStatement.String(),
		MaxClientConnections: snap.Main.MaxDBClientConnections, CurrentClientConnections: p.consoles(),
	})
	slices.SortFunc(all, func(a, b DatabaseInfo) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Users returns all users that are known: from the auth_file, from section
// [users], and those that logged in.
func (p *Pooler) Users() []UserInfo {
	snap := p.Snapshot()
	p.mu.Lock()
	defer p.mu.Unlock()
	names := map[string]bool{}
	for name := range p.users {
		names[name] = true
	}
	for name := range snap.Users {
		names[name] = true
	}
	for name := range snap.Auth.Names() {
		names[name] = true
	}
	var all []UserInfo
	for _, name := range sortedKeys(names) {
		i := UserInfo{
			Name: name, PoolSize: configs.Inherit, ReservePoolSize: configs.Inherit,
			MaxConnections: snap.Main.MaxUserConnections, MaxClientConnections: snap.Main.MaxUserClientConnections,
		}
		if u := snap.Users[name]; u != nil {
			i.PoolSize, i.ReservePoolSize, i.PoolMode = u.PoolSize, u.ReservePoolSize, u.PoolMode.String()
			i.MaxConnections = cmp.Or(u.MaxUserConnections, i.MaxConnections)
			i.MaxClientConnections = cmp.Or(u.MaxUserClientConnections, i.MaxClientConnections)
		}
		if u := p.users[name]; u != nil {
			i.CurrentConnections, i.CurrentClientConnections = u.open, int(u.clients.Load())
		}
		all = append(all, i)
	}
	return all
}

// Lists returns how many there are of each thing.
func (p *Pooler) Lists() ListsInfo {
	var i ListsInfo
	p.gather(func(w *Worker) {
		i.LoginClients += w.logins.n
		w.eachClient(func(c *Client) { i.UsedClients++ })
		w.eachServer(func(*Server) { i.UsedServers++ })
	})
	i.UsedClients -= i.LoginClients
	i.Users = len(p.Users())
	p.mu.Lock()
	defer p.mu.Unlock()
	i.Databases, i.Pools = len(p.databases)+1, len(p.pools)
	return i
}

// Mem returns what the pooler's own caches hold.
func (p *Pooler) Mem() []MemInfo {
	var buffers, free int
	p.gather(func(w *Worker) {
		free += len(w.buffers)
		w.eachClient(func(c *Client) {
			if c.held != nil {
				buffers++
			}
		})
	})
	return []MemInfo{{Name: "iobuf_cache", Size: bufferSize, Used: buffers, Free: free}}
}

// Names returns the names of servers' hosts, the zones that are watched, and
// how many lookups are under way.
func (p *Pooler) Names() (hosts []dial.NameInfo, zones []dial.ZoneInfo, queries int) {
	n := p.opts.Names
	if n == nil {
		return nil, nil, 0
	}
	return n.Hosts(), n.Zones(), n.Queries()
}

// Loops tells of each event loop.
func (p *Pooler) Loops() []LoopInfo {
	var all []LoopInfo
	p.gather(func(w *Worker) {
		n := 0
		w.eachClient(func(*Client) { n++ })
		w.eachServer(func(*Server) { n++ })
		all = append(all, LoopInfo{Conns: n})
	})
	return all
}
