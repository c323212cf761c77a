// Package pool has the rules: clients and servers, who waits, who is served,
// who is refused. It knows sockets as [wire.Conn] only, and time, randomness,
// goroutines and the network as [Options], so that a whole pooler runs in one
// test under a clock of its own.
//
// # Objects
//
//	Pooler                  everything; what the loops share
//	├─ Database, User       an entry of the configuration as it runs; counts
//	├─ Pool                 a pair of database and server-side user; settings, welcome
//	└─ Worker               the part of the Pooler on one loop
//	   └─ Shard             the part of a Pool on that loop
//	      ├─ Client         an application's connection; stays on its loop
//	      └─ Server         a connection to Postgres; may change loops
//
// # States and lists
//
// Each client and each server stands in the list of its state, and only
// (*Client).move and (*Server).move change either; state.go says for each state
// how it is entered and left. Login, console and cancel requests stand in lists
// of the Worker, all others in lists of their Shard. A server that is still
// being logged in to is an opening, and has a slot already.
//
// # From loop to loop
//
// A Shard shows the others two things in its lane: since when its oldest
// client waits, and how many servers it has idle. Who starts to wait publishes
// that before looking for idle servers elsewhere, and who keeps a server idle
// publishes that before looking for waiters elsewhere, so they can't miss each
// other. An idle server then migrates, to the oldest waiter first. Nothing
// else of a Shard is seen from outside; functions go there by Post.
//
// # The ledger
//
// Each Server has the queue of the replies it owes, with whose they are: the
// client's, or pgweir's own (SET of parameters, reset, check, connect_query).
// (*Server).free is the one place that decides whether a server may be given
// to another client, and the ledger is what it asks. A message that the ledger
// did not expect closes the server.
//
// # Slots
//
// reserve is the only place where the number of servers goes up, and free where
// it goes down. Both count for the pool, the database, the user and the budgets
// (plans, and what Postgres itself allows) at once, under Pooler.mu. What stands in the way is a WaitReason: a Shard with
// waiters remembers it, and whoever frees a slot wakes those that it may help.
//
// # Who may touch what
//
//   - Fields of Worker, Shard, Client, Server: the loop they are on. Exceptions
//     are atomics, and say so.
//   - Fields of Pooler, Database, User, Pool: immutable, atomic, or under
//     Pooler.mu, which is held for a few map operations that take no other lock.
//   - [configs.Snapshot]: anybody. RELOAD and SET swap the pointer.
//   - Exported methods that say they may block: never on a loop.
//
// # Files
//
//	pooler.go    what the loops share; options
//	worker.go    one loop: buffers, released servers
//	shard.go     waiting, pairing, moving servers between loops
//	slots.go     limits; wait.go why a client waits
//	budget.go    connections that pools share; share.go who gets how many of them
//	seat.go      in which budgets servers count
//	farewell.go  servers that were told to end; live.go what Postgres allows
//	refusal.go   what follows when it is full; plans.go SHOW PLANS, limits of clients
//	startup.go   a client's first packets; login.go who it is; welcome.go the end of that
//	encrypt.go   TLS towards clients; console.go the console's clients
//	extras.go    startup parameters that are not tracked
//	replication.go  clients that speak to a walsender of their own
//	lookup.go    auth_query; recall.go how one ends that is given up
//	method.go    HBA, LDAP, and the methods without an exchange; stranger.go what strangers hear
//	passthrough.go  passwords that the database judges; trial.go how; guesses.go how often
//	internal.go  clients of pgweir's own
//	client.go    a client; request.go what it asks; ends.go the two ends of its socket
//	statements.go  prepared statements; meaning.go what is the same; prepared.go those of a server
//	names.go     those of a client; unnamed.go the one without a name
//	again.go     what is asked again after a table was altered; shape.go what results are like
//	sqlnames.go  PREPARE, EXECUTE, DEALLOCATE, which pool/sql finds; sqlbatch.go in batches
//	server.go    a server: its states, release; opening.go how one is opened; job.go queries of pgweir's own
//	reply.go     replies
//	ledger.go    what a server owes
//	hosts.go     which host a new server is looked for on; role.go whether it will do
//	cancel.go    cancel requests; peers.go those that are another process's
//	vars.go      tracked parameters
//	janitor.go   what happens because time has passed
//	control.go   PAUSE, KILL, RELOAD, shutdown; drain.go the gentle one
//	info.go, stats.go, latency.go, log.go   what can be seen from outside
//	state.go, list.go           states; lists
//	verify.go                   whether all of this holds, for tests; served.go that whoever waits must
package pool
