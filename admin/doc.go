// Package admin is the console: what `psql -p 6432 -U admin pgbouncer` talks
// to. It speaks PgBouncer's commands and answers with PgBouncer's columns,
// tags and error texts, so that exporters, dashboards and habits go on
// working. What is pgweir's own is an addition, never a change.
//
//	lex.go        bytes -> tokens -> statements
//	grammar.go    statement -> plan: what it returns and how to run it
//	nearest.go    what a mistyped command was meant to be
//	console.go    the console as a whole, and how it greets a client
//	session.go    one client: messages in, replies out
//	extended.go   its prepared statements and portals
//	command.go    the commands that do something: PAUSE, RELOAD, SET, ...
//	chatter.go    what drivers say unasked: SET, BEGIN, select version()
//	table.go      columns, rows, and their text and binary encodings
//	show.go       the list of all SHOW commands; the small ones
//	help.go       SHOW HELP
//	databases.go, pools.go, waits.go, latency.go, sockets.go, users.go, stats.go,
//	runtime.go    //	              the others, one noun each
//	statsline.go  the line of statistics in the log
//	logs/         the log itself
//
// The pool owns the client's socket. It hands each message to the session,
// whole and one at a time, on a goroutine where blocking is allowed, and
// writes out what comes back. Of a session only Open and Welcome run on a loop,
// and they return at once. Everything the console knows of the pools comes as
// plain values through Pooler.
package admin
