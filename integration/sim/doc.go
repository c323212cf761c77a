// Package sim runs a whole pooler inside one test: several loops, their
// clients, a Postgres behind them, a clock, and faults. Everything that happens
// at the same time in reality happens here one step after the other, in an
// order drawn from a seed, so that a seed that fails can be run again.
//
//	world.go       the scheduler: events, the clock, steps, failures, the trace
//	loop.go        wire.Loop: posted functions in seeded portions, ticks
//	chores.go      goroutines, and how their order is kept from mattering
//	socket.go      bytes in flight both ways, their pace, resets
//	conn.go        wire.Conn: short writes, pausing, closing, sessions of TLS
//	tls.go         the far ends of those, and their handshakes
//	settings.go    the configuration, and how the operator changes it
//	postgres.go    the server process: logins, limits, restarts, cancel requests
//	backend.go     one session of it: the protocol's state machine
//	execute.go     what its statements do
//	extended.go    its messages of COPY and of the extended protocol
//	walsender.go   replication, on both sides
//	sql.go         what the session's queries may say, and their effects
//	guc.go         the session's parameters
//	dialer.go      pool.Dialer in front of it
//	client.go      a client: connection, login, one batch after the other
//	prepare.go     PREPARE, EXECUTE and DEALLOCATE, on both sides
//	script.go      what a client sends: batches drawn from the seed
//	oracle.go      what a client must get for it; refusals.go which errors it may be told
//	operator.go    the console: RELOAD, PAUSE, KILL, SHUTDOWN ...
//	books.go       what is counted from outside: limits, cancels
//
// One step is one thing that a loop, a chore, a client or a backend does:
// one read of one socket, a few posted functions, one tick, one message
// executed. After each step the pooler's own books are checked
// ((*pool.Pooler).Check) and what the simulator itself knows. A client knows
// what it must be told: each query carries the client's number and its own,
// Postgres puts them into everything it answers, along with the state of its
// session, so that a reply that went astray, was lost, or came twice, and any
// state that leaked, is seen where it arrives.
//
// A run has three parts: for some seconds everything goes wrong that can;
// then faults stop, and all clients must come to their end; then nothing may
// be left, and the pooler is shut down.
package sim
