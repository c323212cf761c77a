package admin

import (
	"fmt"
	"time"

	"github.com/pgweir/pgweir/pool"
)

const socketList = "type t, user t, database t, replication t, state t, addr t, port i, local_addr t, " +
	"local_port i, connect_time t, request_time t, wait i, wait_us i, close_needed i, ptr t, link t, " +
	"remote_pid i, tls t, application_name t, prepared_statements i, id i"

var (
	socketColumns = columns(socketList)
	clientColumns = columns(socketList + ", wait_reason t")

	// PgBouncer's cursors into a socket's one buffer. A pgweir connection has
	// none most of the time.
	bufferColumns = columns(socketList + ", recv_pos i, pkt_pos i, pkt_remain i, send_pos i, " +
		"send_remain i, pkt_avail i, send_avail i")
)

// Clients still logging in, and servers, are shown in SHOW SOCKETS only.
func showClients(s *session) (rows []row) {
	for _, c := range s.pools.Clients() {
		if c.State != "login" {
			rows = append(rows, append(socketRow("C", "", c), textOrNull(c.WaitReason.String())))
		}
	}
	return rows
}

func showServers(s *session) (rows []row) {
	for _, c := range s.pools.Servers() {
		rows = append(rows, socketRow("S", "", c))
	}
	return rows
}

func showSockets(s *session) []row { return socketRows(s, func(pool.SocketInfo) bool { return true }) }

func showActiveSockets(s *session) []row {
	return socketRows(s, func(c pool.SocketInfo) bool { return c.LinkID != 0 || c.State == "waiting" })
}

func socketRows(s *session, keep func(pool.SocketInfo) bool) (rows []row) {
	cursors := make(row, len(bufferColumns)-len(socketColumns))
	for i := range cursors {
		cursors[i] = number(0)
	}
	for _, c := range s.pools.Clients() {
		if keep(c) {
			rows = append(rows, append(socketRow("C", "cl_", c), cursors...))
		}
	}
	for _, c := range s.pools.Servers() {
		if keep(c) {
			rows = append(rows, append(socketRow("S", "sv_", c), cursors...))
		}
	}
	return rows
}

func socketRow(typ, prefix string, c pool.SocketInfo) row {
	seconds, micros := secondsAndMicros(c.Wait)
	return row{
		text(typ), text(c.User), text(c.Database), text(c.Replication), text(prefix + c.State),
		text(c.Addr), number(c.Port), text(c.LocalAddr), number(c.LocalPort),
		moment(c.ConnectTime), moment(c.RequestTime), seconds, micros, bit(c.CloseNeeded),
		pointer(c.ID), pointer(c.LinkID), number(c.RemotePID), text(c.TLS), text(c.ApplicationName),
		number(c.PreparedStatements), number(c.ID),
	}
}

// moment is t as PgBouncer shows it, in the zone that t carries.
func moment(t time.Time) value {
	if t.IsZero() {
		return text("")
	}
	return text(t.Format("2006-01-02 15:04:05 MST"))
}

// pointer stands in for the address that PgBouncer prints in ptr and link: an
// id in the same form, so that link can be joined with ptr. 0 is nobody.
func pointer(id uint64) value {
	if id == 0 {
		return text("")
	}
	return text(fmt.Sprintf("0x%x", id))
}
