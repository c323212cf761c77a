package admin

import "time"

// Pooler is what the console needs of the pools. Its methods may be called
// from any goroutine but a loop's, and may wait for the loops to answer. Their
// errors carry the text that the client is sent.
type Pooler interface {
	Snapshot() Snapshot
	Reload() error
	Set(key, value string) (notice string, err error)
	Pause(done <-chan struct{}, db string) error
	Resume(db string) error
	Kill(db string) error
	KillClient(id uint64) error
	Disable(db string) error
	Enable(db string) error
	Reconnect(db string) error
	WaitClose(done <-chan struct{}, db string) error
	Shutdown(mode ShutdownMode)
	State() (active, paused, suspended bool)
	Databases() []DatabaseInfo
	Pools() []PoolInfo
	Clients() []ClientInfo
	Servers() []ServerInfo
	Users() []UserInfo
	Stats() []StatsInfo
	Lists() ListsInfo
	Mem() []MemInfo
	Loops() []LoopInfo
}

// ---- stand-ins until the pool package has them

type (
	Snapshot interface{ Settings() []Setting }
	Setting  struct {
		Key, Value, Default string
		Null, NullDefault   bool
		Changeable          bool
	}
)
type ShutdownMode uint8

const (
	ShutdownImmediate ShutdownMode = iota
	ShutdownWaitForServers
	ShutdownWaitForClients
)

type Level uint8

const LevelError Level = 1

type Logger interface {
	Enabled(Level) bool
	Log(level Level, prefix, text string)
}
type ConsoleClient struct {
	ID     uint64
	User   string
	Admin  bool
	Prefix string
}
type ConsoleSession interface {
	Handle(done <-chan struct{}, typ byte, body, out []byte) (reply []byte, end bool)
	Close()
}

type DatabaseInfo struct {
	Name, Host                                     string
	Port                                           int
	Database, ForceUser                            string
	PoolSize, MinPoolSize, ReservePoolSize         int
	ServerLifetime                                 time.Duration
	PoolMode, LoadBalanceHosts                     string
	MaxConnections, CurrentConnections             int
	MaxClientConnections, CurrentClientConnections int
	Paused, Disabled                               bool
}
type PoolInfo struct {
	Database, User                                                               string
	ClActive, ClWaiting, ClActiveCancelReq, ClWaitingCancelReq                   int
	SvActive, SvActiveCancel, SvBeingCanceled, SvIdle, SvUsed, SvTested, SvLogin int
	MaxWait                                                                      time.Duration
	PoolMode, LoadBalanceHosts                                                   string
}
type (
	ClientInfo = SocketInfo
	ServerInfo = SocketInfo
	SocketInfo struct {
		User, Database, Replication, State, Addr string
		Port                                     int
		LocalAddr                                string
		LocalPort                                int
		ConnectTime, RequestTime                 time.Time
		Wait                                     time.Duration
		CloseNeeded                              bool
		LinkID                                   uint64
		RemotePID                                int
		TLS, ApplicationName                     string
		PreparedStatements                       int
		ID                                       uint64
	}
)

type UserInfo struct {
	Name                                           string
	PoolSize, ReservePoolSize                      int // -1 unset
	PoolMode                                       string
	MaxConnections, CurrentConnections             int
	MaxClientConnections, CurrentClientConnections int
}
type Counters struct {
	ServerAssignments, Xacts, Queries, Received, Sent uint64
	XactTime, QueryTime, WaitTime                     time.Duration
	ClientParses, ServerParses, Binds, ClientLogins   uint64
}
type StatsInfo struct {
	Database        string
	Total, Previous Counters
	Window          time.Duration
}
type ListsInfo struct {
	Databases, Users, Pools, FreeClients, UsedClients, LoginClients, FreeServers, UsedServers int
}
type MemInfo struct {
	Name             string
	Size, Used, Free int
}
type LoopInfo struct{ Conns int }

func (c Counters) Add(d Counters) Counters {
	c.ServerAssignments += d.ServerAssignments
	c.Xacts += d.Xacts
	c.Queries += d.Queries
	c.Received += d.Received
	c.Sent += d.Sent
	c.XactTime += d.XactTime
	c.QueryTime += d.QueryTime
	c.WaitTime += d.WaitTime
	c.ClientParses += d.ClientParses
	c.ServerParses += d.ServerParses
	c.Binds += d.Binds
	c.ClientLogins += d.ClientLogins
	return c
}

type consoleOpener interface {
	Open(ConsoleClient) ConsoleSession
}
