package pool

import (
	"fmt"
	"io"
	"time"

	"github.com/pgweir/pgweir/pool/params"
	"github.com/pgweir/pgweir/wire"
)

// Client is a connection from an application, or an operator. It belongs to
// its worker's loop from accept to close. There may be ten thousand of them
// with nothing to do: fields are few, and what only a login needs is in login.
type Client struct {
	links[Client]
	ends
	conn   wire.Conn
	w      *Worker
	shard  *Shard  // from ClientIdle, ClientWaiting on
	server *Server // the other half of the pair, nil if none
	db     *Database
	user   *User   // logged in as; nil before
	login  *login  // until welcomed, then nil
	admin  *manned // ClientConsole
	cancel *cancel // ClientCancel

	names  map[string]*statement // see names.go; nil if none
	held   []byte                // input that could not be dealt with yet, in order
	remain int                   // bytes of the message that is passing through; dropped without a server
	vars   params.Values
	extras params.Extras

	state     ClientState
	busy      bool // a query is in flight: from its first message to the last reply
	inXact    bool // a transaction is open, or its first query in flight
	stalled   bool // not read, because the server does not take what it sends
	throttled bool // not read, because too many replies are owed
	notified  bool // the notice about the wait was sent
	discard   bool // everything up to a Sync is dropped: the request was cancelled while it waited
	full      bool // not read, because it does not take its replies

	id         uint64
	key        wire.CancelKey
	connected  wire.Time
	lastPacket wire.Time // from the client
	queryStart wire.Time // valid while busy; in ClientWaiting: since when it waits
	xactStart  wire.Time // valid while inXact
}

func (c *Client) at() *links[Client] { return &c.links }

func (c *Client) list() *list[Client, *Client] {
	switch c.state {
	case ClientLogin:
		return &c.w.logins
	case ClientIdle:
		return &c.shard.idleClients
	case ClientWaiting:
		return &c.shard.waiting
	case ClientActive:
		return &c.shard.active
	case ClientConsole:
		return &c.w.consoles
	case ClientCancel:
		return &c.w.cancels
	}
	return nil
}

// move is the only place where a client changes its state, and its list with
// it.
func (c *Client) move(to ClientState) {
	if clientExits[c.state]&(1<<to) == 0 {
		panic(fmt.Sprintf("BUG: client %d: %v -> %v", c.id, c.state, to))
	}
	c.list().remove(c)
	c.state = to
	if l := c.list(); l != nil {
		l.pushBack(c)
	}
}

// Accept takes in a new client.
func (w *Worker) Accept(socket wire.Socket) {
	c := &Client{
		w: w, id: w.p.ids.Add(1), connected: w.now(), lastPacket: w.now(), ends: endsOf(socket), login: w.newLogin(),
	}
	c.login.uid = socket.PeerUID
	c.login.late = w.p.closed.Load()
	conn, err := w.loop.Attach(socket, c)
	if err != nil {
		w.p.log.Log(Error, c.prefix(), "cannot take in a client connection: "+err.Error())
		return
	}
	c.conn = conn
	w.p.clients.Add(1)
	w.p.sockets.Add(1)
	w.logins.pushBack(c)
	if w.p.log.Enabled(Noise) {
		c.log(Noise, "got client connection")
	}
}

// Data implements wire.Handler.
func (c *Client) Data(b []byte) {
	c.lastPacket = c.w.now()
	if c.held != nil {
		b, c.held = c.w.join(c.held, b), nil
	}
	c.take(b)
}

// take deals with input, which is c's until take returns.
func (c *Client) take(b []byte) {
	switch c.state {
	case ClientIdle, ClientActive:
		c.relay(b)
	case ClientLogin:
		c.loginData(b)
	case ClientConsole:
		c.admin.data(c, b)
	case ClientWaiting:
		c.keepInput(b) // a login that is not welcomed yet; nothing else is read
	}
}

// keepInput holds b until c may go on.
func (c *Client) keepInput(b []byte) {
	if len(b) > 0 {
		c.held = c.w.hold(c.held, b)
	}
}

// proceed goes on with what was held, and with reading.
func (c *Client) proceed() {
	if b := c.held; b != nil {
		c.held = nil
		c.take(b)
		c.w.drop(b)
	}
	c.readOn()
}

// readOn reads again, unless there is still a reason not to.
func (c *Client) readOn() {
	if (c.state == ClientIdle || c.state == ClientActive) && !c.stalled && !c.throttled && !c.full &&
		(c.server == nil || c.server.job != jobSets) {
		c.conn.Resume()
	}
}

// Drained implements wire.Handler.
func (c *Client) Drained() {
	if v := c.server; v != nil {
		v.unstall()
	}
	if c.full {
		c.full = false
		c.proceed()
	}
	if l := c.login; l != nil && l.stream != nil && !c.encrypted() {
		c.encrypt()
	}
	if c.admin != nil {
		c.admin.next(c)
	}
}

// Closed implements wire.Handler.
func (c *Client) Closed(err error) {
	switch {
	case err == nil || err == io.EOF:
		c.hungUp()
		c.disconnect(false, "client unexpected eof")
	default:
		c.disconnect(false, "client unexpected eof: "+err.Error())
	}
}

// codeProtocol is the SQLSTATE of all that PgBouncer has to say.
const codeProtocol = "08P01"

// disconnect ends c for reason, which the client is told if notify is set.
func (c *Client) disconnect(notify bool, reason string) {
	if c.state == ClientClosed {
		return
	}
	if !notify {
		c.end(reason, c.login == nil || c.login.phase != phaseFirst || c.held != nil)
		return
	}
	c.fail(wire.Fields{Severity: "FATAL", Code: codeProtocol, Message: reason})
}

// fail tells the client f and ends it.
func (c *Client) fail(f wire.Fields) {
	if c.state == ClientClosed {
		return
	}
	w := c.w
	if w.p.Snapshot().Main.LogPoolerErrors {
		text := "pooler error: " + f.Message
		if f.Detail != "" {
			text += ": " + f.Detail
		}
		c.log(Warning, text)
	}
	midway := c.server != nil && c.server.torn() || c.login != nil && c.login.phase == phaseHandshake
	if !midway && c.state != ClientCancel { // within a message, or a handshake, or to a cancel request nothing can be said
		w.scratch = wire.AppendError(w.scratch[:0], f)
		c.conn.Write(w.scratch)
	}
	c.end(f.Message, true)
}

// end closes c and gives up all it held. spoke says that it has said anything,
// or was told: of others the log is not to be full.
func (c *Client) end(reason string, spoke bool) {
	w := c.w
	v, waited := c.server, c.state == ClientWaiting
	welcoming := waited && c.awaitsWelcome()
	if w.p.Snapshot().Main.LogDisconnections && !c.internal() && spoke {
		c.log(Info, fmt.Sprintf("closing because: %s (age=%ds)", reason, int(w.now().Sub(c.connected)/time.Second)))
	}
	c.move(ClientClosed)
	c.conn.Close()
	if c.held != nil {
		w.drop(c.held)
		c.held = nil
	}
	own := c.internal()
	switch {
	case c.admin != nil:
		c.admin.close()
	case !own:
		w.p.clients.Add(-1)
	}
	if c.shard != nil {
		c.shard.pool.clients.Add(-1)
	}
	if c.db != nil {
		c.db.clients.Add(-1)
		if c.shard != nil {
			c.db.inside.Add(-1)
		}
	}
	if c.user != nil && !own {
		c.user.clients.Add(-1)
	}
	if c.cancel != nil {
		c.cancel.client = nil
	}
	c.endLogin()
	c.forgetAll()
	if welcoming {
		c.shard.logins--
	}
	if waited {
		c.shard.endWait(c)
		c.shard.publishWaiters()
	}
	if v != nil {
		v.recall()
		c.server, v.client = nil, nil
		v.abandoned(c.remain > 0)
	}
	if !own {
		w.p.sockets.Add(-1)
		w.p.clientLeft()
	}
}

// prefix names c in log lines.
func (c *Client) prefix() string {
	db, user := "(nodb)", "(nouser)"
	switch {
	case c.lookup() != nil:
		return fmt.Sprintf("C-%#x: %s/%s@(auth_query)", c.id, c.shard.pool.db.Name, c.user.Name)
	case c.login != nil && c.login.trial != nil:
		return fmt.Sprintf("C-%#x: %s/%s@(passthrough)", c.id, c.shard.pool.db.Name, c.user.Name)
	case c.admin != nil:
		db = consoleDatabase
	case c.db != nil:
		db = c.db.Name
	case c.login != nil && c.login.database != "":
		db = c.login.database
	}
	switch {
	case c.admin != nil:
		user = c.admin.user
	case c.user != nil:
		user = c.user.Name
	case c.login != nil && c.login.user != "":
		user = c.login.user
	}
	return fmt.Sprintf("C-%#x: %s/%s@%s", c.id, db, user, c.from())
}

func (c *Client) log(level Level, text string) { c.w.p.log.Log(level, c.prefix(), text) }

// badHeader is the text for a message whose header makes no sense.
func badHeader(b []byte) string {
	return fmt.Sprintf("bad packet header: '%x'", b[:min(len(b), 8)])
}
