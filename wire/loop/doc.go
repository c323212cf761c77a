// Package loop moves bytes between sockets and the rules: an event loop over
// non-blocking descriptors, with timers and a mailbox. It implements
// [wire.Loop] and [wire.Conn], and it is the only room with raw system calls.
//
// # One turn
//
// A loop is one goroutine, the one that called [Loop.Run]. It turns:
//
//	wait ──► early bytes ──► events ──► posted functions ──► timers ──► failures, closings ──► free slots
//	  ▲         (Data)    (Data, Drained,                                  (Data, Closed)         │
//	  └──────────────────   Closed, accept) ◄─────────────────────────────────────────────────────┘
//
// Everything a loop owns is touched by that goroutine only: its sockets, their
// queues, its timers, and all state of the rules that its sockets touch. The
// one lock that a turn may take is the mailbox's, which is held for an append.
// Only Post, Stop, Conns and String may be called from outside.
//
// # Reading
//
// A socket is registered once, for reading and for the peer's hang-up, level
// triggered, and stays registered so. One buffer for the whole loop takes what
// is read; [wire.Handler.Data] sees it in place. After a read that did not
// fill the buffer there is no second one: the kernel had no more. After one
// that did, a few more follow, so that a long result does not pay for a wait
// per buffer, and not more than a few, so that it does not starve the others.
//
// Pause is a flag. Only when bytes arrive at a paused socket is its interest
// in reading dropped, and only then does Resume need a system call.
//
// # Writing
//
// Write goes to the kernel at once, from the caller's bytes. What the kernel
// does not take is copied into chunks from the loop's free list; only then is
// the socket watched for writability, and the chunks go back as they empty.
// An idle connection thus costs the Conn itself, 64 bytes, and its slot, 8.
//
// # Late events
//
// The kernel hands over events in batches. A handler early in the batch may
// close a socket that has an event later in it, and an accept may get the same
// descriptor number again. Events therefore do not name descriptors: they name
// a slot and a generation. A slot is given away again only after the batch,
// and no two sockets of a loop have the same generation, so a late event finds
// nobody.
//
// # Files
//
// loop.go the turn; conn.go a socket; queue.go its unsent bytes; closing.go
// failures and lingering; listener.go accepting; timers.go; mailbox.go;
// detach.go and ends.go sockets on their way between owners; stats.go.
// poller_epoll.go waits on Linux, poller_poll.go with poll(2) everywhere else,
// and on Linux too with the build tag pollloop. rawio_linux.go and
// accept_linux.go read, write and accept without telling the scheduler;
// rawio_std.go and accept_std.go do the same through packages syscall and
// unix, elsewhere and where the race detector shall see the memory.
package loop
