package admin

var peerPoolColumns = columns("peer_id i, cl_active_cancel_req i, cl_waiting_cancel_req i, sv_active_cancel i, sv_login i")

func showPeers(s *session) (rows []row) {
	for _, p := range s.pools.Peers() {
		rows = append(rows, row{number(p.ID), text(p.Host), number(p.Port), number(p.PoolSize)})
	}
	return rows
}

// showPeerPools counts a request that is under way as a client and as a server:
// each has a connection of its own.
func showPeerPools(s *session) (rows []row) {
	for _, p := range s.pools.Peers() {
		rows = append(rows, row{number(p.ID), number(p.Sending), number(p.Waiting), number(p.Sending), number(0)})
	}
	return rows
}
