package admin

import (
	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/pool/dial"
)

// Pooler is what the console needs of the pools: *pool.Pooler, or a test's
// stand-in. Its methods may be called from any goroutine but a loop's, and may
// wait for the loops to answer. The errors of the commands carry the text that
// the client is sent.
type Pooler interface {
	Snapshot() *configs.Snapshot
	State() (active, paused bool)

	Pools() []pool.PoolInfo
	Clients() []pool.ClientInfo
	Servers() []pool.ServerInfo
	Databases() []pool.DatabaseInfo
	Users() []pool.UserInfo
	Stats() []pool.StatsInfo
	Lists() pool.ListsInfo
	Mem() []pool.MemInfo
	Loops() []pool.LoopInfo
	Hosts() []pool.HostInfo
	Plans() []pool.PlanInfo
	Waits() []pool.WaitInfo
	Latencies() []pool.LatencyInfo
	Statements() []pool.StatementInfo
	Peers() []pool.PeerInfo
	Names() (hosts []dial.NameInfo, zones []dial.ZoneInfo, queries int)

	Reload() error
	Set(key, value string) error
	Pause(done <-chan struct{}, db string) error
	Resume(db string) error
	SetDisabled(db string, disabled bool) error
	Reconnect(db string) error
	WaitClose(done <-chan struct{}, db string) error
	Kill(db string) error
	KillClient(id uint64) error
	Shutdown(mode pool.ShutdownMode)
}

var _ Pooler = (*pool.Pooler)(nil)

// Unapplied is what Set returns of a TLS setting that can't be put in force with
// the others as they are, like a certificate whose key is to be set next. What
// was in force stays, and the value is tried again with the next one that is set.
type Unapplied struct{ Err error }

// Error implements error.
func (u *Unapplied) Error() string { return u.Err.Error() }

// Unwrap is what the setting was refused for.
func (u *Unapplied) Unwrap() error { return u.Err }
