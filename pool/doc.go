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
// # A query's way
//
// What a client sends comes to (*Client).Data on its loop, and while it is idle
// or active from there to relay (request.go), which looks at each message's
// header. If the client has no server, acquire (shard.go) pairs it with an idle
// one; otherwise the client waits, its input is held, and provide looks for a
// server: an idle one of another loop, one that must be checked first, or a new
// one (slots.go, opening.go). If the server has other parameters than the
// client it is told the client's first (job.go). Then the messages are noted in
// the server's ledger, those about prepared statements are rewritten (names.go,
// sqlnames.go), and all of them go out in one write.
//
// What the server answers comes to (*Server).Data (reply.go), which asks the
// ledger whose each message is, and forwards or swallows it. After a
// ReadyForQuery free decides whether the query's pair is over. If it is,
// (*Server).settle (server.go) closes, resets or checks the server, or hands it
// to (*Shard).take: for the oldest waiter, here or on another loop, or to stay
// idle.
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
// reserve is the only place where the number of servers goes up, and vacate
// where it goes down. Both count for the pool, the database, the user and the
// budgets (plans, and what Postgres itself allows) at once, under Pooler.mu. What
// stands in the way is a WaitReason: a Shard with waiters remembers it, and
// whoever frees a slot wakes those that it may help.
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
// To begin with: state.go, client.go, request.go, shard.go, reply.go, ledger.go.
//
// The objects:
//
//	pooler.go    what the loops share; options.go what it needs of the world
//	pool.go      pools, databases and users as they run
//	worker.go    one loop: buffers, released servers
//	shard.go     waiting, pairing, moving servers between loops
//	client.go    a client; message.go, request.go what it asks; ends.go the two ends of its socket
//	server.go    a server: its states, release; reply.go what it answers
//	ledger.go    what a server owes; job.go queries of pgweir's own
//	state.go     states; list.go their lists
//
// How a client gets in:
//
//	startup.go   its first packets; extras.go parameters that are not tracked
//	encrypt.go   TLS
//	login.go     who it is; welcome.go the end of that
//	lookup.go    auth_query; recall.go how one ends that is given up
//	method.go    HBA, LDAP, and the methods without an exchange; stranger.go what strangers hear
//	passthrough.go  passwords that the database judges; trial.go how; guesses.go how often
//	console.go   the console's clients; internal.go clients of pgweir's own
//	replication.go  clients that speak to a walsender of their own
//
// How a server is found:
//
//	wait.go      why a client waits
//	slots.go     limits; seat.go in which budgets servers count
//	budget.go    connections that pools share; share.go who gets how many of them
//	live.go      what Postgres allows; refusal.go what follows when it is full
//	plans.go     SHOW PLANS, limits of clients
//	opening.go   how one is opened; hosts.go on which host; role.go whether that will do
//	farewell.go  servers that were told to end
//
// Prepared statements:
//
//	statements.go  all there are; meaning.go what is the same
//	names.go     the names of a client; unnamed.go the one without a name
//	prepared.go  those of a server
//	sqlnames.go  PREPARE, EXECUTE, DEALLOCATE; sqlbatch.go in batches
//	again.go     what is asked again after a table was altered; shape.go what results are like
//
// All else:
//
//	cancel.go    cancel requests; peers.go those that are another process's
//	janitor.go   what happens because time has passed
//	control.go   PAUSE, KILL, RELOAD, shutdown; drain.go the gentle one
//	info.go, stats.go, latency.go, log.go  what can be seen from outside
//	verify.go    whether all of this holds, for tests; served.go that whoever waits must
//
// The folders hold what knows no Pooler: pure rooms, without sockets and time
// (sql, params, latency), and what chores do (dial, certs, ldap, pam).
package pool
