package admin

import (
	"strings"

	"github.com/pgweir/pgweir/configs"
)

// show is one SHOW command.
type show struct {
	name    string // in capitals
	meaning string // for SHOW HELP
	columns []column
	rows    func(s *session) []row
}

// shows is in the order of SHOW HELP.
var shows = []show{
	{"POOLS", "each pool: who is active, who waits and for how long", poolColumns, showPools},
	{"WAITS", "why clients wait for a server: how many, how often, how long", waitColumns, showWaits},
	{"LATENCY", "how long waits, queries, transactions and logins take", latencyColumns, showLatency},
	{"CLIENTS", "the client connections", clientColumns, showClients},
	{"SERVERS", "the server connections", socketColumns, showServers},
	{"DATABASES", "the databases, their limits and connections", databaseColumns, showDatabases},
	{"USERS", "the users, their limits and connections", userColumns, showUsers},
	{"HOSTS", "the hosts of each pool: which are skipped, and why", hostColumns, showHosts},
	{"PLANS", "the limits of server connections: where each comes from, and who uses it", planColumns, showPlans},
	{"PEERS", "the processes to which cancel requests are passed on", columns("peer_id i, host t, port i, pool_size i"), showPeers},
	{"PEER_POOLS", "the cancel requests that are passed on to each", peerPoolColumns, showPeerPools},
	{"PREPARED_STATEMENTS", "the named prepared statements, and how many clients and servers have each", statementColumns, showPreparedStatements},
	{"STATS", "totals and averages of each database", statsColumns, showStats},
	{"STATS_TOTALS", "the totals alone", totalsColumns, showStatsTotals},
	{"STATS_AVERAGES", "the averages alone", averagesColumns, showStatsAverages},
	{"TOTALS", "totals and averages over all databases", columns("name t, value N"), showTotals},
	{"LISTS", "how many there are of everything", columns("list t, items i"), showLists},
	{"CONFIG", "the settings, their defaults, and which SET changes", configColumns, showConfig},
	{"STATE", "active, paused or suspended", columns("key t, value t"), showState},
	{"SOCKETS", "clients and servers with their buffers", bufferColumns, showSockets},
	{"ACTIVE_SOCKETS", "those of them that are in use", bufferColumns, showActiveSockets},
	{"MEM", "memory by use", columns("name t, size i, used i, free i, memtotal i"), showMem},
	{"DNS_HOSTS", "host names and their addresses", columns("hostname t, ttl q, addrs t"), showDNSHosts},
	{"DNS_ZONES", "the zones whose serial numbers are watched", columns("zonename t, serial q, count i"), showDNSZones},
	{"RUNTIME", "the process: loops, memory, garbage collection", columns("key t, value t"), showRuntime},
	{"VERSION", "the version", columns("version t"), showVersion},
}

var configColumns = columns("key t, value t, default t, changeable t")

// planShow finds a SHOW by name, which is in small letters. ok is false if
// there is none.
func planShow(name string) (p plan, ok bool) {
	if name == "help" {
		return plan{run: func(*session, <-chan struct{}) (result, error) {
			return result{tag: "SHOW", notice: "Console usage", detail: usage()}, nil
		}}, true
	}
	if setting, ok := postgresSetting(name); ok {
		return plan{
			columns: []column{{setting.name, oidText}},
			run: func(*session, <-chan struct{}) (result, error) {
				return result{tag: "SHOW", rows: []row{{text(setting.value)}}}, nil
			},
		}, true
	}
	for i := range shows {
		if sh := &shows[i]; strings.EqualFold(sh.name, name) {
			return plan{
				columns: sh.columns,
				run: func(s *session, _ <-chan struct{}) (result, error) {
					return result{tag: "SHOW", rows: sh.rows(s)}, nil
				},
			}, true
		}
	}
	return plan{}, false
}

func showVersion(s *session) []row { return []row{{text(s.console.opts.Version)}} }

func showState(s *session) []row {
	active, paused := s.pools.State()
	return []row{
		{text("active"), yesNo(active)},
		{text("paused"), yesNo(paused)},
		{text("suspended"), yesNo(false)}, // SUSPEND is no more
	}
}

func yesNo(b bool) value {
	if b {
		return text("yes")
	}
	return text("no")
}

func showConfig(s *session) (rows []row) {
	snap := s.pools.Snapshot()
	for i := range configs.Table {
		c := &configs.Table[i]
		now, unset, _ := snap.Value(c.Name)
		rows = append(rows, row{text(c.Name), textUnless(unset, now), textUnless(c.Null, c.Default), yesNo(!c.Restart)})
	}
	return rows
}

func showLists(s *session) []row {
	l := s.pools.Lists()
	hosts, zones, queries := s.pools.Names()
	peers := len(s.pools.Peers())
	return []row{
		{text("databases"), number(l.Databases)},
		{text("users"), number(l.Users)},
		{text("peers"), number(peers)},
		{text("pools"), number(l.Pools + 1)},
		{text("peer_pools"), number(peers)},
		{text("free_clients"), number(l.FreeClients)},
		{text("used_clients"), number(l.UsedClients)},
		{text("login_clients"), number(l.LoginClients)},
		{text("free_servers"), number(l.FreeServers)},
		{text("used_servers"), number(l.UsedServers)},
		{text("dns_names"), number(len(hosts))},
		{text("dns_zones"), number(len(zones))},
		{text("dns_queries"), number(queries)},
		{text("dns_pending"), number(0)},
	}
}

func showMem(s *session) (rows []row) {
	for _, m := range s.pools.Mem() {
		rows = append(rows, row{
			text(m.Name), number(m.Size), number(m.Used), number(m.Free),
			number(m.Size * (m.Used + m.Free)),
		})
	}
	return rows
}
