package configs

import "time"

// MaxUserName is the length in bytes of the longest user name.
const MaxUserName = 127

// User is an entry of section [users]: what holds for one user instead of the
// global settings. It does not make the user able to log in.
type User struct {
	Name string

	// These apply where the user is the one that logs in to the server.
	PoolMode               PoolMode
	PoolSize               int           // Inherit or, from 0 on, set
	ReservePoolSize        int           // likewise
	MaxUserConnections     int           // 0 inherits
	QueryTimeout           time.Duration // 0 inherits
	IdleTransactionTimeout time.Duration // 0 inherits
	TransactionTimeout     time.Duration // 0 inherits

	// These apply where the user is the one that a client logged in as.
	MaxUserClientConnections int           // 0 inherits
	ClientIdleTimeout        time.Duration // 0 inherits
	QueryWaitTimeout         time.Duration // Inherit or, from 0 on, set
}

func newUser(name string) *User {
	return &User{Name: name, PoolSize: Inherit, ReservePoolSize: Inherit, QueryWaitTimeout: Inherit}
}

var userParams = []param[User]{
	choice("pool_mode", "inherited", "When a server goes back to its pool.", func(u *User) enum { return &u.PoolMode }),
	count("pool_size", "inherited", "Server connections of each pool; 0: without limit.", Inherit, func(u *User) *int { return &u.PoolSize }),
	count("reserve_pool_size", "inherited", "Further servers for clients that wait long.", Inherit, func(u *User) *int { return &u.ReservePoolSize }),
	count("max_user_connections", "global", "Server connections over all databases; 0: as set globally.", 0, func(u *User) *int { return &u.MaxUserConnections }),
	count("max_user_client_connections", "global", "Client connections; 0: as set globally.", 0, func(u *User) *int { return &u.MaxUserClientConnections }),
	timeout("query_timeout", "Whole seconds that a query may run; 0: as set globally.", func(u *User) *time.Duration { return &u.QueryTimeout }),
	waitTimeout(func(u *User) *time.Duration { return &u.QueryWaitTimeout }),
	timeout("idle_transaction_timeout", "Whole seconds that a transaction may idle; 0: as set globally.", func(u *User) *time.Duration { return &u.IdleTransactionTimeout }),
	timeout("transaction_timeout", "Whole seconds that a transaction may last; 0: as set globally.", func(u *User) *time.Duration { return &u.TransactionTimeout }),
	timeout("client_idle_timeout", "Whole seconds that a client may idle; 0: as set globally.", func(u *User) *time.Duration { return &u.ClientIdleTimeout }),
}
