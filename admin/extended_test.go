package admin

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgproto3/v2"

	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/wire"
)

// send encodes messages with another implementation of the protocol, hands them
// to the session one by one, and returns all it answers.
func send(t *testing.T, s pool.ConsoleSession, messages ...pgproto3.FrontendMessage) []byte {
	t.Helper()
	var reply []byte
	for _, m := range messages {
		b, err := m.Encode(nil)
		if err != nil {
			t.Fatal(err)
		}
		var end bool
		if reply, end = s.Handle(nil, b[0], b[wire.HeaderLen:], reply); end {
			t.Fatalf("%T ended the session", m)
		}
	}
	return reply
}

var (
	syncNow    = &pgproto3.Sync{}
	flushNow   = &pgproto3.Flush{}
	bindUnname = &pgproto3.Bind{}
	execAll    = &pgproto3.Execute{}
)

func parseOf(name, query string) *pgproto3.Parse { return &pgproto3.Parse{Name: name, Query: query} }

func TestExtendedQuery(t *testing.T) {
	const (
		versionColumns = "RowDescription version:25/0"
		versionRow     = `DataRow "PgBouncer 1.26.1"`
	)
	for _, test := range []struct {
		what string
		send []pgproto3.FrontendMessage
		want []string
	}{
		{
			"unnamed",
			[]pgproto3.FrontendMessage{
				parseOf("", "SHOW VERSION"), bindUnname, &pgproto3.Describe{ObjectType: 'P'}, execAll, syncNow,
			},
			[]string{"ParseComplete", "BindComplete", versionColumns, versionRow, "CommandComplete SHOW", ready},
		},
		{
			"named, described, with flushes",
			[]pgproto3.FrontendMessage{
				parseOf("s", "SHOW VERSION;"), &pgproto3.Describe{ObjectType: 'S', Name: "s"}, flushNow,
				&pgproto3.Bind{PreparedStatement: "s", DestinationPortal: "p"}, &pgproto3.Execute{Portal: "p"}, flushNow, syncNow,
				&pgproto3.Bind{PreparedStatement: "s"}, execAll, syncNow,
			},
			[]string{
				"ParseComplete", "ParameterDescription []", versionColumns,
				"BindComplete", versionRow, "CommandComplete SHOW", ready,
				"BindComplete", versionRow, "CommandComplete SHOW", ready,
			},
		},
		{
			"no rows",
			[]pgproto3.FrontendMessage{
				parseOf("", "RELOAD"), &pgproto3.Describe{ObjectType: 'S'}, bindUnname, &pgproto3.Describe{ObjectType: 'P'}, execAll, execAll, syncNow,
			},
			[]string{
				"ParseComplete", "ParameterDescription []", "NoData", "BindComplete", "NoData", "CommandComplete RELOAD",
				`ERROR 55000 portal "" cannot be run`, ready,
			},
		},
		{
			"notice",
			[]pgproto3.FrontendMessage{parseOf("", "SET statement_timeout = 0"), bindUnname, execAll, syncNow},
			[]string{"ParseComplete", "BindComplete", "NOTICE 00000 SET ignored", "CommandComplete SET", ready},
		},
		{
			"empty",
			[]pgproto3.FrontendMessage{parseOf("", " -- ping"), bindUnname, &pgproto3.Describe{ObjectType: 'P'}, execAll, syncNow},
			[]string{"ParseComplete", "BindComplete", "NoData", "EmptyQueryResponse", ready},
		},
		{
			"row limit",
			[]pgproto3.FrontendMessage{
				parseOf("", "SHOW STATE"), bindUnname, &pgproto3.Execute{MaxRows: 2}, &pgproto3.Execute{MaxRows: 1}, execAll, execAll, syncNow,
			},
			[]string{
				"ParseComplete", "BindComplete", `DataRow "active" "yes"`, `DataRow "paused" "no"`, "PortalSuspended",
				`DataRow "suspended" "no"`, "PortalSuspended", "CommandComplete SHOW", "CommandComplete SHOW", ready,
			},
		},
		{
			"a cursor in a transaction outlives Sync",
			[]pgproto3.FrontendMessage{
				&pgproto3.Query{String: "BEGIN"},
				parseOf("s", "SHOW STATE"), &pgproto3.Bind{PreparedStatement: "s", DestinationPortal: "c"}, &pgproto3.Execute{Portal: "c", MaxRows: 2}, syncNow,
				&pgproto3.Execute{Portal: "c", MaxRows: 2}, syncNow,
				&pgproto3.Query{String: "COMMIT"},
				&pgproto3.Execute{Portal: "c", MaxRows: 2}, syncNow,
			},
			[]string{
				"CommandComplete BEGIN", "ReadyForQuery T",
				"ParseComplete", "BindComplete", `DataRow "active" "yes"`, `DataRow "paused" "no"`, "PortalSuspended", "ReadyForQuery T",
				`DataRow "suspended" "no"`, "CommandComplete SHOW", "ReadyForQuery T",
				"CommandComplete COMMIT", ready,
				`ERROR 34000 portal "c" does not exist`, ready,
			},
		},
		{
			"an error skips to Sync",
			[]pgproto3.FrontendMessage{
				parseOf("", "nonsense"), bindUnname, execAll, &pgproto3.Query{String: "RELOAD"}, flushNow, syncNow, parseOf("", "SHOW VERSION"), syncNow,
			},
			[]string{"ERROR 08P01 invalid command 'nonsense', use SHOW HELP;", ready, "ParseComplete", ready},
		},
		{
			"an error on execution",
			[]pgproto3.FrontendMessage{parseOf("", "DISABLE"), bindUnname, execAll, execAll, syncNow},
			[]string{"ParseComplete", "BindComplete", "ERROR 08P01 a database is required", ready},
		},
		{
			"close",
			[]pgproto3.FrontendMessage{
				parseOf("s", "SHOW VERSION"), &pgproto3.Bind{PreparedStatement: "s", DestinationPortal: "p"},
				&pgproto3.Close{ObjectType: 'S', Name: "s"}, &pgproto3.Close{ObjectType: 'S', Name: "never was"}, &pgproto3.Close{ObjectType: 'P', Name: "never was"},
				&pgproto3.Execute{Portal: "p"}, syncNow,
				&pgproto3.Bind{PreparedStatement: "s"}, syncNow,
				parseOf("s", "SHOW VERSION"), syncNow,
			},
			[]string{
				"ParseComplete", "BindComplete", "CloseComplete", "CloseComplete", "CloseComplete",
				`ERROR 34000 portal "p" does not exist`, ready,
				`ERROR 26000 prepared statement "s" does not exist`, ready,
				"ParseComplete", ready,
			},
		},
		{
			"a simple query ends the unnamed ones",
			[]pgproto3.FrontendMessage{
				parseOf("", "SHOW VERSION"), bindUnname, &pgproto3.Query{String: ";"}, &pgproto3.Describe{ObjectType: 'S'}, syncNow, &pgproto3.Describe{ObjectType: 'P'}, syncNow,
			},
			[]string{
				"ParseComplete", "BindComplete", "EmptyQueryResponse", ready,
				`ERROR 26000 prepared statement "" does not exist`, ready, `ERROR 34000 portal "" does not exist`, ready,
			},
		},
		{
			"names taken",
			[]pgproto3.FrontendMessage{
				parseOf("s", "SHOW VERSION"), parseOf("s", "SHOW VERSION"), syncNow,
				&pgproto3.Bind{PreparedStatement: "s", DestinationPortal: "p"}, &pgproto3.Bind{PreparedStatement: "s", DestinationPortal: "p"}, syncNow,
			},
			[]string{
				"ParseComplete", `ERROR 42P05 prepared statement "s" already exists`, ready,
				"BindComplete", `ERROR 42P03 cursor "p" already exists`, ready,
			},
		},
		{
			"several statements",
			[]pgproto3.FrontendMessage{parseOf("", "RELOAD; RELOAD"), syncNow},
			[]string{"ERROR 42601 cannot insert multiple commands into a prepared statement", ready},
		},
		{
			"parameters",
			[]pgproto3.FrontendMessage{
				&pgproto3.Parse{Query: "KILL_CLIENT $1", ParameterOIDs: []uint32{20}}, syncNow,
				parseOf("", "SHOW VERSION"), &pgproto3.Bind{ParameterFormatCodes: []int16{0}, Parameters: [][]byte{[]byte("1"), nil}}, syncNow,
			},
			[]string{
				"ERROR 08P01 the console takes no parameters: write the value in place of $1", ready,
				"ParseComplete", `ERROR 08P01 bind message supplies 2 parameters, but prepared statement "" requires 0`, ready,
			},
		},
		{
			"formats",
			[]pgproto3.FrontendMessage{
				parseOf("", "SHOW DNS_HOSTS"),
				&pgproto3.Bind{ResultFormatCodes: []int16{1}}, &pgproto3.Describe{ObjectType: 'P'},
				&pgproto3.Bind{ResultFormatCodes: []int16{0, 1, 0}}, &pgproto3.Describe{ObjectType: 'P'},
				&pgproto3.Bind{ResultFormatCodes: []int16{0, 1}}, syncNow,
				&pgproto3.Bind{ResultFormatCodes: []int16{2}}, syncNow,
			},
			[]string{
				"ParseComplete",
				"BindComplete", "RowDescription hostname:25/1 ttl:20/1 addrs:25/1",
				"BindComplete", "RowDescription hostname:25/0 ttl:20/1 addrs:25/0",
				"ERROR 08P01 bind message has 2 result formats but query has 3 columns", ready,
				"ERROR 22023 unsupported format code: 2", ready,
			},
		},
	} {
		expect(t, test.what, send(t, open(t, &fakePools{}, true), test.send...), test.want...)
	}
}

// What a session keeps is bounded.
func TestPreparedLimits(t *testing.T) {
	s := open(t, &fakePools{}, true)
	for i := range maxPrepared {
		send(t, s, parseOf(fmt.Sprint("s", i), "SHOW VERSION"))
	}
	expect(t, "one statement too many", send(t, s, parseOf("", "SHOW VERSION"), syncNow),
		"ERROR 53400 the console keeps at most 1000 prepared statements: close some", ready)
	for i := range maxPortals {
		send(t, s, &pgproto3.Bind{DestinationPortal: fmt.Sprint("p", i), PreparedStatement: "s0"})
	}
	one := &pgproto3.Bind{DestinationPortal: "p", PreparedStatement: "s0"}
	expect(t, "one portal too many", send(t, s, one, syncNow, one, syncNow),
		"ERROR 53400 the console keeps at most 16 portals: close some, or send Sync", ready, "BindComplete", ready)
}

// An error of the pools comes through the extended protocol as well.
func TestExtendedError(t *testing.T) {
	s := open(t, &fakePools{err: errors.New("no such database: " + strings.Repeat("x", 9))}, true)
	expect(t, "PAUSE", send(t, s, parseOf("", "PAUSE xxxxxxxxx"), bindUnname, execAll, syncNow),
		"ParseComplete", "BindComplete", "ERROR 08P01 no such database: xxxxxxxxx", ready)
}
