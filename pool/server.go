package pool

import (
	"fmt"
	"io"
	"time"

	"github.com/pgweir/pgweir/pool/dial"
	"github.com/pgweir/pgweir/pool/params"
	"github.com/pgweir/pgweir/wire"
)

// Server is a connection to Postgres, logged in. It belongs to its shard's
// loop, and to one client at most.
type Server struct {
	links[Server]
	ends
	conn   wire.Conn
	shard  *Shard
	client *Client // the other half of the pair, nil if none
	ledger ledger

	seat      *seat
	prepared  prepared
	parsing   []*statement // what it is told, until it is known how it has read that: see settleReading
	bareOf    uint64       // id of the client whose unnamed statement it has, 0 if none is known
	bare      *statement   // what of that the client keeps in its names, nil if nothing
	pending   *sqlWork     // of the Query that changes names and is not answered yet; nil if none
	again     []byte       // of the batch under way, if it may be asked again and nothing of it was answered
	repeating bool         // it is asked again
	blind     bool         // the statement being told is bound by a client that does not ask what its result looks like
	bound     bound        // the portal that was bound last, if it is of interest
	asking    bool         // its client waits for the shape of a statement
	strays    bool         // it may have statements under names of the client's own choice
	common    bool         // connect_query has prepared statements for everybody

	// What an Execute means for names: of the statement that was told last, of
	// the unnamed statement, of portals by name. nil: nothing.
	toldSQL, bareSQL *ref
	portals          map[string]*ref

	local []byte // answers of pgweir's own that go out with what follows

	part    []byte // the begin of a message that must be seen whole, or of a header
	remain  int    // bytes of the message that is passing through
	swallow bool   // and it goes to nobody

	state    ServerState
	job      job
	jobError string // what the server said to the job, if it failed
	status   wire.TxStatus
	stalled  bool // not read, because the client does not take its replies
	leaving  bool // released in the middle of a read: offered at its end
	retired  bool // its address is not to be used any more, or not what it has prepared
	fits     bool // jobRole: it is what the entry wants
	standby  bool // it was one when it was logged in, and the entry prefers those
	recalled bool // what it does is being cancelled, and it is closed

	replication replication // of the one client that it was opened for

	generation uint32
	cancels    int // cancel requests on their way to it

	vars      params.Values
	before    params.Values // jobSets: what they were
	extras    params.Extras
	had       params.Extras // jobSets: what they were
	strayed   bool          // somebody else may have changed what extras tells
	id        uint64
	key       []byte    // for cancel requests
	name      string    // of the host, as configured
	host      string    // as dialled
	port      int       // as dialled
	connected wire.Time // when it was logged in
	since     wire.Time // of the state it is in
	asked     wire.Time // when the job began
}

func (v *Server) at() *links[Server] { return &v.links }

// list is where v stands, nil if in no list.
func (v *Server) list() *list[Server, *Server] {
	switch v.state {
	case ServerIdle:
		return &v.shard.idle
	case ServerUsed:
		return &v.shard.used
	case ServerTested:
		return &v.shard.tested
	case ServerActive:
		return &v.shard.busy
	case ServerBeingCanceled:
		return &v.shard.canceled
	}
	return nil
}

// move is the only place where a server changes its state, and its list with
// it.
func (v *Server) move(to ServerState) {
	if serverExits[v.state]&(1<<to) == 0 {
		panic(fmt.Sprintf("BUG: server %d: %v -> %v", v.id, v.state, to))
	}
	if l := v.list(); l != nil {
		l.remove(v)
	}
	v.state = to
	switch l := v.list(); {
	case l == nil:
	case to == ServerIdle && !v.shard.w.p.Snapshot().Main.ServerRoundRobin && !v.obsolete():
		l.pushFront(v)
	default:
		l.pushBack(v)
	}
}

// obsolete reports whether v may finish what it does and nothing more:
// PgBouncer's close_needed.
func (v *Server) obsolete() bool {
	return v.retired || v.generation != v.shard.pool.db.generation.Load()
}

// attach puts v's socket on v's loop. It reports whether that worked; if not, v
// is closed.
func (v *Server) attach(socket wire.Socket) bool {
	conn, err := v.shard.w.loop.Attach(socket, v)
	if err != nil {
		v.log(Error, "cannot take in a server connection: "+err.Error())
		v.dead()
		return false
	}
	v.conn = conn
	return true
}

// lost gives up a server whose new loop has stopped.
func (v *Server) lost(socket wire.Socket) {
	dial.CloseSocket(socket)
	v.dead()
}

// dead ends a server that has no connection.
func (v *Server) dead() {
	v.forgetStatements()
	v.move(ServerClosed)
	v.shard.pool.connected.Add(-1)
	v.shard.w.p.free(v.shard.pool, v.seat)
}

// unpair ends the pair of v and its client, which is over for the client and
// clear for the server. settle follows.
func (v *Server) unpair() {
	c := v.client
	c.server, v.client = nil, nil
	v.unstall()
	v.move(ServerLoose)
	c.move(ClientIdle)
	c.unstall()
}

// unstall goes on reading after the client took what was queued for it.
func (v *Server) unstall() {
	if v.stalled {
		v.stalled = false
		v.conn.Resume()
	}
}

// abandoned decides about a server whose client is gone. midway says that a
// message to the server was cut off.
func (v *Server) abandoned(midway bool) {
	if v.state == ServerClosed {
		return
	}
	v.unstall()
	v.swallow = true // the rest of what is passing through
	s := v.shard
	switch {
	case v.recalled:
		v.close("auth_query was given up", false)
	case v.replication != replicatesNot:
		v.close("client disconnect", !midway)
	case midway || v.conn.Queued() > 0:
		v.close("client disconnect before everything was sent to the server", false)
	case v.status != wire.TxIdle:
		v.close("client disconnect while server was not ready", false)
	case !v.ledger.clear():
		v.close("client disconnected with query in progress", false)
	default:
		v.move(ServerLoose)
		v.settle()
		return
	}
	s.provide()
}

// settle sends a server that was used, and is loose now, where it belongs:
// closed, reset, checked, or to the next client. The order is PgBouncer's.
func (v *Server) settle() {
	s := v.shard
	switch {
	case v.overAge():
		s.pool.lifeClose.Store(int64(s.w.now()))
		v.close("server lifetime over", true)
		s.provide()
	case v.obsolete():
		v.close("close_needed", true)
		s.provide()
	case v.excess():
		v.close("too many servers in the pool", true)
		s.provide()
	case v.yields():
		v.close("given up for "+WaitPlan.String(), true)
		s.provide()
	case v.cancels > 0:
		v.move(ServerBeingCanceled)
	case v.strays && v.common:
		v.close("prepared statements of unknown names", true)
		s.provide()
	case v.strays:
		v.run(jobForget, "DEALLOCATE ALL")
	default:
		main := s.w.p.Snapshot().Main
		if main.ServerResetQuery != "" && (s.pool.session() || main.ServerResetQueryAlways) {
			v.run(jobReset, main.ServerResetQuery)
			return
		}
		v.afterReset()
	}
}

// afterReset is the rest of settle.
func (v *Server) afterReset() {
	s := v.shard
	if v.state == ServerLoose && v.roleDue() {
		v.since = s.w.now()
		v.askRole()
		return
	}
	main := s.w.p.Snapshot().Main
	if main.ServerCheckDelay == 0 && main.ServerCheckQuery != "" && v.state == ServerLoose {
		if s.waiting.n > 0 {
			v.check()
			return
		}
		v.since = s.w.now()
		v.move(ServerUsed)
		s.publishIdle()
		s.help()
		return
	}
	s.w.offer(v)
}

// close ends v, for reason. A client that is paired with it is closed too.
// polite says that the server is listening and may be told.
func (v *Server) close(reason string, polite bool) {
	if v.state == ServerClosed {
		return
	}
	s := v.shard
	if s.w.p.Snapshot().Main.LogDisconnections {
		v.log(Info, fmt.Sprintf("closing because: %s (age=%ds)", reason, int(s.w.now().Sub(v.connected)/time.Second)))
	}
	c, lingers := v.client, false
	v.client = nil
	v.move(ServerClosed)
	v.shard.w.drop(v.part)
	v.part = nil
	v.forgetStatements()
	if (polite && v.ledger.clear() && v.remain == 0 || v.recalled) && v.conn.Queued() == 0 {
		v.conn.Write([]byte{wire.Terminate, 0, 0, 0, 4})
		lingers = v.leave()
	} else {
		v.conn.Abort()
	}
	s.publishIdle()
	s.pool.connected.Add(-1)
	if !lingers {
		s.w.p.free(s.pool, v.seat)
	}
	if c != nil {
		c.server = nil
		c.disconnect(!v.torn(), reason)
	}
	s.varsTold(v)
}

// Drained implements wire.Handler.
func (v *Server) Drained() {
	if c := v.client; c != nil {
		c.unstall()
	}
	if v.client != nil {
		v.rest()
	}
}

// Closed implements wire.Handler.
func (v *Server) Closed(err error) {
	if v.state == ServerClosed {
		return
	}
	s, waiting := v.shard, v.shard.waiting.n > 0
	reason := "server conn crashed?"
	if err != nil && err != io.EOF && v.client == nil {
		reason = "server conn crashed?: " + err.Error()
	}
	v.close(reason, false)
	if waiting {
		s.provide()
	}
}

// prefix names v in log lines.
func (v *Server) prefix() string {
	return fmt.Sprintf("S-%#x: %s@%s", v.id, v.shard.pool.name(), v.from())
}

func (v *Server) log(level Level, text string) { v.shard.w.p.log.Log(level, v.prefix(), text) }
