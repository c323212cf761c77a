package configs

import (
	"testing"
	"time"
)

// TestPrecedence names, for each setting that can be overridden, what wins when
// it is set globally, for the database and for the user, by text "" for unset.
func TestPrecedence(t *testing.T) {
	const sec = time.Second
	pool := func(f func(PoolSettings) any) func(*Snapshot, *Database) any {
		return func(s *Snapshot, d *Database) any { return f(s.ForPool(d, "u")) }
	}
	client := func(f func(ClientSettings) any) func(*Snapshot, *Database) any {
		return func(s *Snapshot, d *Database) any { return f(s.ForClient(d, "u")) }
	}
	poolMode := pool(func(p PoolSettings) any { return p.PoolMode })
	poolSize := pool(func(p PoolSettings) any { return p.PoolSize })
	minSize := pool(func(p PoolSettings) any { return p.MinPoolSize })
	reserve := pool(func(p PoolSettings) any { return p.ReservePoolSize })
	maxDB := pool(func(p PoolSettings) any { return p.MaxDBConnections })
	maxUser := pool(func(p PoolSettings) any { return p.MaxUserConnections })
	lifetime := pool(func(p PoolSettings) any { return p.ServerLifetime })
	query := pool(func(p PoolSettings) any { return p.QueryTimeout })
	idleTx := pool(func(p PoolSettings) any { return p.IdleTransactionTimeout })
	tx := pool(func(p PoolSettings) any { return p.TransactionTimeout })
	maxDBClients := client(func(c ClientSettings) any { return c.MaxDBClientConnections })
	maxUserClients := client(func(c ClientSettings) any { return c.MaxUserClientConnections })
	idle := client(func(c ClientSettings) any { return c.ClientIdleTimeout })
	wait := client(func(c ClientSettings) any { return c.QueryWaitTimeout })

	for _, tt := range []struct {
		global, db, user string
		get              func(*Snapshot, *Database) any
		want             any
	}{
		{"", "", "", poolMode, PoolSession},
		{"pool_mode=statement", "", "", poolMode, PoolStatement},
		{"pool_mode=statement", "pool_mode=transaction", "", poolMode, PoolTransaction},
		{"pool_mode=statement", "pool_mode=transaction", "pool_mode=session", poolMode, PoolSession},
		{"pool_mode=statement", "", "pool_mode=session", poolMode, PoolSession},

		{"", "", "", poolSize, 20},
		{"default_pool_size=5", "", "", poolSize, 5},
		{"default_pool_size=5", "pool_size=6", "", poolSize, 6},
		{"default_pool_size=5", "pool_size=6", "pool_size=7", poolSize, 7},
		{"default_pool_size=5", "pool_size=0", "", poolSize, 0},
		{"default_pool_size=5", "pool_size=6", "pool_size=0", poolSize, 0},
		{"default_pool_size=5", "pool_size=-1", "pool_size=-9", poolSize, 5},

		{"", "", "", minSize, 0},
		{"min_pool_size=3", "", "", minSize, 3},
		{"min_pool_size=3", "min_pool_size=4", "", minSize, 4},
		{"min_pool_size=3", "min_pool_size=0", "", minSize, 0},
		{"min_pool_size=3", "min_pool_size=-1", "", minSize, 3},
		{"min_pool_size=3", "pool_size=2", "", minSize, 2},
		{"min_pool_size=3", "", "pool_size=1", minSize, 1},
		{"min_pool_size=3", "pool_size=0", "", minSize, 3},

		{"reserve_pool_size=2", "", "", reserve, 2},
		{"reserve_pool_size=2", "reserve_pool_size=0", "", reserve, 0},
		{"reserve_pool_size=2", "reserve_pool=3", "", reserve, 3},
		{"reserve_pool_size=2", "reserve_pool=3", "reserve_pool_size=0", reserve, 0},

		{"max_db_connections=9", "", "", maxDB, 9},
		{"max_db_connections=9", "max_db_connections=8", "", maxDB, 8},
		{"max_db_connections=9", "max_db_connections=0", "", maxDB, 9},
		{"max_db_connections=9", "max_db_connections=-1", "", maxDB, 9},

		{"max_user_connections=9", "", "", maxUser, 9},
		{"max_user_connections=9", "", "max_user_connections=8", maxUser, 8},
		{"max_user_connections=9", "", "max_user_connections=0", maxUser, 9},

		{"", "", "", lifetime, time.Hour},
		{"server_lifetime=0", "", "", lifetime, time.Duration(0)},
		{"server_lifetime=9.5", "server_lifetime=8", "", lifetime, 8 * sec},
		{"server_lifetime=9", "server_lifetime=0", "", lifetime, 9 * sec},
		{"server_lifetime=9", "server_lifetime=-1", "", lifetime, Never},

		{"query_timeout=9", "", "", query, 9 * sec},
		{"query_timeout=9", "", "query_timeout=8", query, 8 * sec},
		{"query_timeout=9", "", "query_timeout=0", query, 9 * sec},
		{"idle_transaction_timeout=9", "", "idle_transaction_timeout=8", idleTx, 8 * sec},
		{"idle_transaction_timeout=9", "", "idle_transaction_timeout=-8", idleTx, 9 * sec},
		{"transaction_timeout=9", "", "transaction_timeout=8", tx, 8 * sec},
		{"transaction_timeout=9", "", "", tx, 9 * sec},

		{"max_db_client_connections=9", "", "", maxDBClients, 9},
		{"max_db_client_connections=9", "max_db_client_connections=8", "", maxDBClients, 8},
		{"max_user_client_connections=9", "", "", maxUserClients, 9},
		{"max_user_client_connections=9", "", "max_user_client_connections=8", maxUserClients, 8},
		{"client_idle_timeout=9", "", "", idle, 9 * sec},
		{"client_idle_timeout=9", "", "client_idle_timeout=8", idle, 8 * sec},

		{"", "", "", wait, 120 * sec},
		{"query_wait_timeout=9", "", "", wait, 9 * sec},
		{"query_wait_timeout=9", "query_wait_timeout=8", "", wait, 8 * sec},
		{"query_wait_timeout=9", "query_wait_timeout=8", "query_wait_timeout=7", wait, 7 * sec},
		{"query_wait_timeout=9", "query_wait_timeout=0", "", wait, time.Duration(0)},
		{"query_wait_timeout=9", "query_wait_timeout=8", "query_wait_timeout=0", wait, time.Duration(0)},
		{"query_wait_timeout=9", "query_wait_timeout=-1", "", wait, time.Duration(0)},
	} {
		s := parse(t, "[pgbouncer]\n"+tt.global+"\n[databases]\nd = "+tt.db+"\n[users]\nu = "+tt.user+"\n")
		if got := tt.get(s, s.Database("d")); got != tt.want {
			t.Errorf("global %q, database %q, user %q: %v, want %v", tt.global, tt.db, tt.user, got, tt.want)
		}
		// Another user has nothing of u's.
		s.Users["other"], s.Users["u"] = s.Users["u"], nil
		without := parse(t, "[pgbouncer]\n"+tt.global+"\n[databases]\nd = "+tt.db+"\n")
		if got, want := tt.get(s, s.Database("d")), tt.get(without, without.Database("d")); got != want {
			t.Errorf("global %q, database %q: %v for a user without an entry, want %v", tt.global, tt.db, got, want)
		}
	}
}

func TestSameServers(t *testing.T) {
	s := parse(t, `[pgbouncer]
[databases]
d = host=a,b user=u dbname=x
`)
	was := s.Database("d")
	for _, tt := range []struct {
		text string
		same bool
	}{
		{"host=a,b user=u dbname=x", true},
		{"host=a,b user=u dbname=x port=5432 password=p pool_size=3 client_encoding=UTF8 pool_mode=statement auth_user=a", true},
		{"host=a,b user=u dbname=y", false},
		{"host=b,a user=u dbname=x", false},
		{"user=u dbname=x", false},
		{"host=a,b user=u dbname=x port=5433", false},
		{"host=a,b user=v dbname=x", false},
		{"host=a,b user=u dbname=x connect_query=x", false},
		{"host=a,b user=u dbname=x auth_dbname=x", false},
		{"host=a,b user=u dbname=x auth_query=x", false},
		{"host=a,b user=u dbname=x load_balance_hosts=disable", false},
	} {
		is := parse(t, "[pgbouncer]\n[databases]\nd = "+tt.text+"\n").Database("d")
		if got := is.SameServers(was); got != tt.same {
			t.Errorf("%q: %v, want %v", tt.text, got, tt.same)
		}
	}
}
