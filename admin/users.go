package admin

import (
	"fmt"

	"github.com/pgweir/pgweir/configs"
)

var userColumns = columns("name t, pool_size t, reserve_pool_size t, pool_mode t, max_user_connections i, " +
	"current_connections i, max_user_client_connections i, current_client_connections i")

func showUsers(s *session) (rows []row) {
	for _, u := range s.pools.Users() {
		rows = append(rows, row{
			text(u.Name), size(u.PoolSize), size(u.ReservePoolSize), textOrNull(u.PoolMode),
			number(u.MaxConnections), number(u.CurrentConnections),
			number(u.MaxClientConnections), number(u.CurrentClientConnections),
		})
	}
	return rows
}

// size is a user's own pool size as PgBouncer shows it: padded text, empty if
// the user has none.
func size(n int) value {
	if n == configs.Inherit {
		return text("")
	}
	return text(fmt.Sprintf("%9d", n))
}
