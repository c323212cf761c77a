package loop

// Stats are what a loop did since it was made, and what it holds now. The
// system calls are Turns waits (two where the first one waited in vain), plus
// Reads, Writes, Watches, Accepts, and a few for every socket that comes or
// goes.
type Stats struct {
	Turns   uint64 // waits that ended
	Events  uint64 // descriptors that were ready, summed over the turns
	Posts   uint64 // posted functions that were run
	Reads   uint64 // read(2), those included that found nothing
	Writes  uint64 // write(2) and writev(2), those included that took nothing
	Watches uint64 // changes of what a socket is watched for
	Accepts uint64 // sockets accepted

	Read    uint64 // bytes
	Written uint64 // bytes taken by the kernel

	Conns    int // sockets owned, lingering ones included
	Buffered int // bytes queued
	Free     int // bytes of memory kept for queues to come
	Timers   int // set and not yet called
}

// Stats returns the loop's counters. It runs on the loop.
func (l *Loop) Stats() Stats {
	s := l.stats
	s.Conns = l.Conns()
	s.Free = l.chunks.n * chunkSize
	s.Timers = l.timers.len()
	return s
}

// Conns is the number of sockets that the loop owns, lingering ones included.
// It may be called from any goroutine.
func (l *Loop) Conns() int { return int(l.conns.Load()) }
