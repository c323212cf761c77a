package configs

import (
	"cmp"
	"time"
)

// PoolSettings are the settings of one pool that a user or a database may
// override.
type PoolSettings struct {
	PoolMode               PoolMode // never PoolInherit
	MaxPreparedStatements  int      // 0: they are not tracked
	PoolSize               int      // 0: without limit
	MinPoolSize            int      // at most PoolSize
	ReservePoolSize        int      // 0: none
	MaxDBConnections       int      // of the database over all users; 0: without limit
	MaxUserConnections     int      // of the user over all databases; 0: without limit
	ServerLifetime         time.Duration
	QueryTimeout           time.Duration // 0: without limit
	IdleTransactionTimeout time.Duration // 0: without limit
	TransactionTimeout     time.Duration // 0: without limit
}

// ClientSettings are the settings of one client that a user or a database may
// override.
type ClientSettings struct {
	MaxDBClientConnections   int           // of the database; 0: without limit
	MaxUserClientConnections int           // of the user; 0: without limit
	ClientIdleTimeout        time.Duration // 0: without limit
	QueryWaitTimeout         time.Duration // 0: without limit
}

// ForPool returns the settings of the pool of db and poolUser, the user that
// its servers are logged in as: the entry's forced user, or else the one that
// the client logged in as. What the user sets wins over what the database sets,
// which wins over its plan, which wins over the global setting.
func (s *Snapshot) ForPool(db *Database, poolUser string) PoolSettings {
	u, plan := s.user(poolUser), db.terms()
	p := PoolSettings{
		PoolMode:               cmp.Or(u.PoolMode, db.PoolMode, plan.PoolMode, s.Main.PoolMode),
		MaxPreparedStatements:  given(plan.MaxPreparedStatements, s.Main.MaxPreparedStatements),
		PoolSize:               firstSet(u.PoolSize, db.PoolSize, given(plan.PoolSize, s.Main.DefaultPoolSize)),
		MinPoolSize:            firstSet(db.MinPoolSize, s.Main.MinPoolSize),
		ReservePoolSize:        firstSet(u.ReservePoolSize, db.ReservePoolSize, s.Main.ReservePoolSize),
		MaxDBConnections:       cmp.Or(db.MaxDBConnections, s.Main.MaxDBConnections),
		MaxUserConnections:     cmp.Or(u.MaxUserConnections, s.Main.MaxUserConnections),
		ServerLifetime:         cmp.Or(db.ServerLifetime, s.Main.ServerLifetime),
		QueryTimeout:           cmp.Or(u.QueryTimeout, s.Main.QueryTimeout),
		IdleTransactionTimeout: cmp.Or(u.IdleTransactionTimeout, s.Main.IdleTransactionTimeout),
		TransactionTimeout:     cmp.Or(u.TransactionTimeout, s.Main.TransactionTimeout),
	}
	if p.PoolSize > 0 {
		p.MinPoolSize = min(p.MinPoolSize, p.PoolSize)
	}
	return p
}

// ForClient returns the settings of a client of db that logged in as loginUser,
// whoever its queries run as.
func (s *Snapshot) ForClient(db *Database, loginUser string) ClientSettings {
	u := s.user(loginUser)
	return ClientSettings{
		MaxDBClientConnections:   cmp.Or(db.MaxDBClientConnections, s.Main.MaxDBClientConnections),
		MaxUserClientConnections: cmp.Or(u.MaxUserClientConnections, s.Main.MaxUserClientConnections),
		ClientIdleTimeout:        cmp.Or(u.ClientIdleTimeout, s.Main.ClientIdleTimeout),
		QueryWaitTimeout:         firstSet(u.QueryWaitTimeout, db.QueryWaitTimeout, given(db.terms().QueryWaitTimeout, s.Main.QueryWaitTimeout)),
	}
}

// unsetUser stands for a user without an entry in [users].
var unsetUser = newUser("")

func (s *Snapshot) user(name string) *User {
	if u := s.Users[name]; u != nil {
		return u
	}
	return unsetUser
}

// terms returns the entry's plan, or one that says nothing.
func (d *Database) terms() *Plan {
	if d.Plan != nil {
		return d.Plan
	}
	return &noPlan
}

// noPlan stands for the plan of an entry without one.
var noPlan Plan

// given returns what value points to, or instead without a value.
func given[T any](value *T, instead T) T {
	if value != nil {
		return *value
	}
	return instead
}

// firstSet returns the first value that is not Inherit, or else the last.
func firstSet[T int | time.Duration](values ...T) T {
	for _, v := range values {
		if v != Inherit {
			return v
		}
	}
	return Inherit
}
