package admin

import (
	"net/netip"
	"strings"
	"time"
)

func showDNSHosts(s *session) (rows []row) {
	hosts, _, _ := s.pools.Names()
	for _, h := range hosts {
		var addrs []string
		for _, a := range h.Addrs {
			addrs = append(addrs, netip.AddrPortFrom(a, 0).String()) // as PgBouncer: a name has no port
		}
		rows = append(rows, row{text(h.Host), number(int64(h.TTL / time.Second)), text(strings.Join(addrs, ","))})
	}
	return rows
}

func showDNSZones(s *session) (rows []row) {
	_, zones, _ := s.pools.Names()
	for _, z := range zones {
		rows = append(rows, row{text(z.Zone), number(int64(z.Serial)), number(z.Names)})
	}
	return rows
}
