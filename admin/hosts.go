package admin

import "time"

var hostColumns = columns("database t, user t, host t, port i, servers i, failures i, skipped i, reason t")

func showHosts(s *session) (rows []row) {
	for _, h := range s.pools.Hosts() {
		rows = append(rows, row{
			text(h.Database), text(h.User), text(h.Host), number(h.Port), number(h.Servers), number(h.Failures),
			number(int64(h.Skipped / time.Second)), text(h.Reason),
		})
	}
	return rows
}
