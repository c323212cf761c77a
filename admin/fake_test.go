package admin

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/pool/dial"
	"github.com/pgweir/pgweir/wire"
)

// fakePools answers what the console asks, and writes down what it is told.
type fakePools struct {
	Pooler // the lists that a test does not set panic

	calls []string
	err   error // of every command
	quiet chan struct{}
}

func (f *fakePools) note(words ...string) error {
	f.calls = append(f.calls, strings.TrimSpace(strings.Join(words, " ")))
	return f.err
}

func (f *fakePools) Reload() error             { return f.note("reload") }
func (f *fakePools) Resume(db string) error    { return f.note("resume", db) }
func (f *fakePools) Kill(db string) error      { return f.note("kill", db) }
func (f *fakePools) Reconnect(db string) error { return f.note("reconnect", db) }
func (f *fakePools) KillClient(id uint64) error {
	return f.note("kill_client", strconv.FormatUint(id, 10))
}

func (f *fakePools) Shutdown(mode pool.ShutdownMode) { _ = f.note("shutdown", strconv.Itoa(int(mode))) }
func (f *fakePools) State() (bool, bool)             { return true, false }

func (f *fakePools) Peers() []pool.PeerInfo                         { return nil }
func (f *fakePools) Names() ([]dial.NameInfo, []dial.ZoneInfo, int) { return nil, nil, 0 }

func (f *fakePools) Set(key, value string) error { return f.note("set", key, value) }

func (f *fakePools) SetDisabled(db string, disabled bool) error {
	if db == "" {
		return errors.New("a database is required")
	}
	return f.note("disabled", db, strconv.FormatBool(disabled))
}

func (f *fakePools) Pause(done <-chan struct{}, db string) error {
	return errors.Join(f.note("pause", db), f.wait(done))
}

func (f *fakePools) WaitClose(done <-chan struct{}, db string) error {
	return errors.Join(f.note("wait_close", db), f.wait(done))
}

var errGone = errors.New("client gone")

// wait blocks until quiet is closed, if there is one, or the client is gone.
func (f *fakePools) wait(done <-chan struct{}) error {
	if f.quiet == nil {
		return nil
	}
	select {
	case <-f.quiet:
		return nil
	case <-done:
		return errGone
	}
}

var (
	started = time.Date(2026, 11, 20, 8, 30, 0, 0, time.UTC)
	now     = started.Add(90 * time.Minute)
)

const version = "PgBouncer 1.26.1"

func newConsole(pools Pooler, opts Options) *Console {
	c := New(opts)
	c.Attach(pools)
	return c
}

// open starts a session over pools, of an administrator or of one of stats_users.
func open(t *testing.T, pools Pooler, full bool) pool.ConsoleSession {
	t.Helper()
	c := newConsole(pools, Options{Version: version, Started: started, Now: func() time.Time { return now }})
	s := c.Open(pool.ConsoleClient{ID: 7, User: "admin", Admin: full, Prefix: "C-7: pgbouncer/admin@unix:6432 "})
	t.Cleanup(s.Close)
	return s
}

// ask sends one simple query and returns the answer.
func ask(t *testing.T, s pool.ConsoleSession, query string) []byte {
	t.Helper()
	reply, end := s.Handle(nil, wire.Query, wire.AppendString(nil, query), nil)
	if end {
		t.Fatalf("%q ended the session", query)
	}
	return reply
}

// emptyPools has nothing in any list.
type emptyPools struct{ Pooler }

func (emptyPools) Snapshot() *configs.Snapshot      { return defaults }
func (emptyPools) Databases() []pool.DatabaseInfo   { return nil }
func (emptyPools) State() (bool, bool)              { return true, false }
func (emptyPools) Pools() []pool.PoolInfo           { return nil }
func (emptyPools) Clients() []pool.ClientInfo       { return nil }
func (emptyPools) Servers() []pool.ServerInfo       { return nil }
func (emptyPools) Users() []pool.UserInfo           { return nil }
func (emptyPools) Stats() []pool.StatsInfo          { return nil }
func (emptyPools) Lists() pool.ListsInfo            { return pool.ListsInfo{} }
func (emptyPools) Mem() []pool.MemInfo              { return nil }
func (emptyPools) Loops() []pool.LoopInfo           { return nil }
func (emptyPools) Hosts() []pool.HostInfo           { return nil }
func (emptyPools) Plans() []pool.PlanInfo           { return nil }
func (emptyPools) Waits() []pool.WaitInfo           { return nil }
func (emptyPools) Latencies() []pool.LatencyInfo    { return nil }
func (emptyPools) Statements() []pool.StatementInfo { return nil }
func (emptyPools) Peers() []pool.PeerInfo           { return nil }
func (emptyPools) Names() ([]dial.NameInfo, []dial.ZoneInfo, int) {
	return nil, nil, 0
}

// defaults is a configuration that sets nothing.
var defaults = settings("")

// settings is a configuration with text in its main section.
func settings(text string) *configs.Snapshot {
	snap, err := configs.Parse("pgbouncer.ini", "[pgbouncer]\n"+text)
	if err != nil {
		panic(err)
	}
	return snap
}
