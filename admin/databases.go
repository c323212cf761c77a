package admin

import "time"

var databaseColumns = columns("name t, host t, port i, database t, force_user t, pool_size i, min_pool_size i, " +
	"reserve_pool_size i, server_lifetime i, pool_mode t, load_balance_hosts t, max_connections i, " +
	"current_connections i, max_client_connections i, current_client_connections i, paused i, disabled i")

func showDatabases(s *session) (rows []row) {
	for _, d := range s.pools.Databases() {
		rows = append(rows, row{
			text(d.Name), textOrNull(d.Host), number(d.Port), text(d.Database), textOrNull(d.ForceUser),
			number(d.PoolSize), number(d.MinPoolSize), number(d.ReservePoolSize),
			number(int64(d.ServerLifetime / time.Second)), textOrNull(d.PoolMode), textOrNull(d.LoadBalanceHosts),
			number(d.MaxConnections), number(d.CurrentConnections),
			number(d.MaxClientConnections), number(d.CurrentClientConnections),
			bit(d.Paused), bit(d.Disabled),
		})
	}
	return rows
}
