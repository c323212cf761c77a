package admin

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/wire"
)

// PgBouncerVersion is the release of PgBouncer whose console this one is like.
// Clients are told that it is their server's version.
const PgBouncerVersion = "1.26.1"

// database is the name of the console's virtual database, and of its user.
const database = "pgbouncer"

// Options is what a Console needs besides the pools.
type Options struct {
	// Version is the one cell of SHOW VERSION and the first line of
	// `pgweir --version`.
	Version string

	// Log gets a line for every error that a console client is sent. nil means
	// no such lines.
	Log pool.Logger

	// Started is when the process was started, for its uptime.
	Started time.Time

	// Now tells the time. nil means time.Now.
	Now func() time.Time
}

// Console opens a session for each client of the database pgbouncer. Any number
// of sessions may be open at once.
type Console struct {
	pools Pooler
	opts  Options

	opened                          atomic.Int64 // sessions open now
	logins, queries, received, sent atomic.Uint64
}

var _ pool.Console = (*Console)(nil)

// New returns a Console, which has yet to be told of its pools.
func New(opts Options) *Console {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	return &Console{opts: opts}
}

// Attach tells c of the pools that it is to look after. It must be called once,
// before the first Open: the pools and their console need each other, and the
// pools are made second.
func (c *Console) Attach(pools Pooler) { c.pools = pools }

// Open starts the session of a client that has been let in. The session must
// be closed.
func (c *Console) Open(client pool.ConsoleClient) pool.ConsoleSession {
	c.opened.Add(1)
	c.logins.Add(1)
	return &session{
		console: c, pools: c.pools, client: client, status: wire.TxIdle,
		statements: make(map[string]*prepared), portals: make(map[string]*portal),
	}
}

// Welcome appends what the client is told when it has logged in, from
// AuthenticationOk to ReadyForQuery.
func (s *session) Welcome(out []byte) []byte {
	out = wire.AppendAuthOk(out)
	for _, p := range [][2]string{
		{"server_version", PgBouncerVersion + "/bouncer"},
		{"client_encoding", "UTF8"},
		{"server_encoding", "UTF8"},
		{"DateStyle", "ISO"},
		{"TimeZone", "GMT"},
		{"standard_conforming_strings", "on"},
		{"is_superuser", "on"},
	} {
		out = wire.AppendParameterStatus(out, p[0], p[1])
	}
	for _, p := range s.client.Params {
		out = wire.AppendParameterStatus(out, p[0], p[1])
	}
	out = wire.AppendBackendKeyData(out, s.client.Key)
	out = appendNotice(out, result{notice: s.pools.Snapshot().Main.LoginNotifyMessage})
	return wire.AppendReadyForQuery(out, s.status)
}

// The console has a place among the pools that it shows, as in PgBouncer: a
// pool of its own that has only clients.

func (c *Console) listedPools() []pool.PoolInfo {
	own := pool.PoolInfo{
		Database: database, User: database,
		ClActive: int(c.opened.Load()), PoolMode: configs.PoolStatement.String(),
	}
	return inOrder(c.pools.Pools(), own, func(p pool.PoolInfo) string { return p.Database })
}

// listedStats counts every query on the console as a transaction. Averages are
// not taken.
func (c *Console) listedStats() []pool.StatsInfo {
	n := c.queries.Load()
	total := pool.Counters{
		Xacts: n, Queries: n, Received: c.received.Load(), Sent: c.sent.Load(), ClientLogins: c.logins.Load(),
	}
	own := pool.StatsInfo{Database: database, Total: total, Previous: total}
	return inOrder(c.pools.Stats(), own, func(s pool.StatsInfo) string { return s.Database })
}

// inOrder inserts own into list, which is in order of name.
func inOrder[T any](list []T, own T, name func(T) string) []T {
	at, _ := slices.BinarySearchFunc(list, name(own), func(e T, target string) int {
		return cmp.Compare(name(e), target)
	})
	return slices.Insert(list, at, own)
}
