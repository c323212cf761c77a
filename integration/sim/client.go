package sim

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgweir/pgweir/auth"
	"github.com/pgweir/pgweir/wire"
)

// stage is how far a client has come.
type stage uint8

const (
	stageAnswer stage = iota // waits for the one byte that answers a request for encryption
	stageLogin               // waits for what comes up to the first ReadyForQuery
	stageReady
	stageOver
)

// client is a program that uses the pooler, and knows what it must get for what
// it sends.
type client struct {
	w     *World
	id    int
	k     *socket
	stage stage
	in    []byte

	user, password string
	database       string
	right          bool        // the password, user and database are right
	want           [][2]string // parameters of the startup packet
	walks          string      // that of replication, "" for none
	secure         bool        // it insists on TLS
	request        byte        // the last byte of the request that awaits an answer
	exchange       *auth.ServerExchange
	granted        bool
	key            []byte
	arrived        wire.Time

	batches int    // still to come
	parts   []part // of the batch under way
	think   bool   // an event that begins the next batch is under way
	n       int    // of the last tag
	next    func(c *client)

	queue  []*expect // replies that are owed
	skip   bool      // the server ignores everything up to a Sync
	status wire.TxStatus
	asked  wire.Time // when the batch under way began

	params map[string]string
	sure   bool // params are those of the session
	pid    int  // of the session in the transaction, or for good
	listen bool
	own    []string // temporary tables in the session
	named  []namedStmt
	bound  string // the statement of the last Bind

	cancels int  // requests to cancel something of the client's
	abused  bool // it has broken the protocol: only its tags count
	fatals  []string
	goodbye bool // it has sent a Terminate
	slow    bool
}

// namedStmt is a prepared statement that the client has in its session.
type namedStmt struct {
	name string
	s    *stmt

	shape string // what the rows of a shaped statement look like, if the client was told
}

// part is a piece of a batch.
type part struct {
	wait bool // until everything that was asked is answered
	run  func()
}

// arrive lets a new client connect to one of the loops.
func (w *World) arrive() *client {
	c := &client{
		w: w, id: len(w.clients) + 1, status: wire.TxIdle, params: map[string]string{}, arrived: w.now,
		batches: 1 + w.rng.IntN(12), next: (*client).script,
	}
	c.slow = w.chance(8)
	a := pick(w, w.set.accounts...)
	c.user, c.password, c.right = a.name, a.password, true
	c.database = pick(w, "a", "a", "b")
	if w.set.databases["*"] != nil && w.chance(3) {
		c.database = pick(w, "auto1", "auto2")
	}
	switch w.rng.IntN(30) {
	case 0:
		c.password, c.right = "wrong", w.set.main["auth_type"] == "trust" || w.set.main["auth_type"] == "any"
	case 1:
		c.user, c.right = "nobody", w.set.main["auth_type"] == "any"
	case 2:
		c.database, c.right = "missing", w.set.databases["*"] != nil
	}
	for _, p := range []struct{ name, value string }{
		{"application_name", "app " + strconv.Itoa(c.id)},
		{"client_encoding", pick(w, "utf8", "LATIN1")},
		{"DateStyle", pick(w, "iso", "German", "ISO, DMY")},
		{"TimeZone", pick(w, "UTC", "Asia/Tokyo", "it's \\ odd", "nowhere")},
		{"standard_conforming_strings", pick(w, "on", "off")},
		{"search_path", pick(w, `"$user", public`, `x'; select 0/0; --`, `""`, "app")},
		{"extra_float_digits", "2"},
		{"work_mem", strconv.Itoa(1000 + c.id)}, // which no other may see
	} {
		if w.chance(5) {
			c.want = append(c.want, [2]string{p.name, p.value})
		}
	}
	if w.chance(10) {
		c.walks, c.next = pick(w, "database", "true"), (*client).walk
	}
	c.enter("client " + strconv.Itoa(c.id))
	if w.chance(4) {
		w.after(w.between(0, 2*time.Second), c.vanish)
	}
	return c
}

// enter connects c, and begins to log in.
func (c *client) enter(name string) {
	w := c.w
	w.clients = append(w.clients, c)
	c.k = w.dial(name, c, w.drawPace(c.slow))
	l := pick(w, w.loops...)
	if w.current != nil {
		w.failf("BUG in sim: a client arrives within a step of a loop")
	}
	l.enter()
	w.tracef("%v arrives at loop %d: %s/%s %v", c.k, l.index, c.database, c.user, c.want)
	w.pooler.Worker(l.index).Accept(socketFor(c.k, uint16(c.k.fd)))
	w.current = nil
	c.abused = c.k.shut // no descriptor was left
	w.after(w.between(0, time.Millisecond), c.hello)
}

// hello sends the first packet.
func (c *client) hello() {
	w := c.w
	if c.stage == stageOver {
		return
	}
	c.stage = stageLogin
	c.secure = w.set.clientTLS == "require" || w.set.clientTLS == "allow" && w.chance(2)
	switch w.rng.IntN(40) {
	case 0: // garbage
		c.abused, c.right = true, false
		c.k.send([]byte(pick(w, "GET / HTTP/1.1\r\n\r\n", "\x00\x00\x00\x04\x00\x00\x00\x00", "\x00\x00\x00\x09\x00\x03\x00\x00x")))
		return
	case 1: // half a packet, and silence
		p := c.startup()
		c.right = false
		c.k.send(p[:1+w.rng.IntN(len(p)-1)])
		if w.chance(2) || w.set.main["client_login_timeout"] == "0" {
			w.after(w.between(0, 3*time.Second), c.vanish)
		}
		return
	case 2, 3:
		c.ask(requestGSS)
		return
	case 4, 5:
		c.ask(requestTLS)
		return
	}
	c.begin()
}

// The last bytes of requests for encryption.
const (
	requestTLS = 0x2f
	requestGSS = 0x30
)

// ask asks for encryption.
func (c *client) ask(request byte) {
	c.stage, c.request = stageAnswer, request
	c.k.send([]byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, request})
}

// begin begins to log in.
func (c *client) begin() {
	switch {
	case !c.secure:
		c.k.send(c.startup())
	case c.w.chance(3): // without asking
		c.encrypt()
	default:
		c.ask(requestTLS)
	}
}

// encrypt does the handshake, and then begins to log in.
func (c *client) encrypt() {
	c.k.encrypt(func() {
		if c.stage != stageOver {
			c.k.send(c.startup())
		}
	})
}

// answered deals with the answer to a request for encryption.
func (c *client) answered(answer byte) {
	c.stage = stageLogin
	tls := c.request == requestTLS && c.w.set.clientTLS != ""
	switch {
	case tls && answer == 'S' && len(c.in) == 0:
		c.encrypt()
	case !tls && answer == 'N':
		c.begin()
	default:
		c.w.failf("%v: %q answers a request for encryption", c.k, answer)
	}
}

// startup is the StartupMessage.
func (c *client) startup() []byte {
	params := append([][2]string{{"user", c.user}, {"database", c.database}}, c.want...)
	if c.walks != "" {
		params = append(params, [2]string{"replication", c.walks})
	}
	p := wire.AppendStartup(nil, params)
	if c.w.chance(10) {
		p[7] = 2 // protocol 3.2
	}
	var known auth.Secret
	if c.password != "" {
		known = auth.Plain(c.password)
	}
	c.exchange = auth.NewServerExchange(c.user, known, nil, nil, rand.NewChaCha8([32]byte{byte(c.id)}))
	return p
}

// vanish ends the connection without a goodbye, perhaps in the middle of a
// message.
func (c *client) vanish() {
	if c.stage == stageOver {
		return
	}
	w := c.w
	if c.stage == stageReady && w.chance(2) {
		p := wire.AppendQuery(nil, "select "+c.tag().String())
		c.k.send(p[:1+w.rng.IntN(len(p)-1)])
	}
	c.stage = stageOver
	if w.chance(2) {
		c.k.hangUp()
	} else {
		c.k.breakOff()
	}
}

// room implements peer.
func (c *client) room() {}

// closed implements peer.
func (c *client) closed(reset bool) {
	if c.stage == stageOver {
		return
	}
	stage := c.stage
	c.stage = stageOver
	c.k.hangUp()
	w := c.w
	switch {
	case c.abused, c.goodbye, reset && c.slow, len(c.fatals) > 0, w.stopped:
	case stage != stageReady && (!c.right || c.k.lost): // half a packet, or no descriptor
	case stage == stageLogin && c.k.secret && !c.granted && c.mayBeCut():
	case strings.Contains(string(c.in), "SFATAL\x00C08P01") && c.in[0] == wire.ErrorResponse: // it did not read all of that in time
	case strings.Contains(string(c.in), "SFATAL\x00C08P01"):
		w.failf("%v: told why it ends in the middle of a message", c.k)
	case len(c.in) > 0 && w.cutFrom > 0 && w.now >= w.cutFrom: // cut by a drain
	case len(c.in) > 0:
		// A server that broke off in the middle of a message: there is nothing
		// that the pooler could add.
		if w.books.crashes == 0 && !reset && w.books.kills == 0 && w.set.removals == 0 && !c.mayTimeOut() &&
			c.cancels == 0 && !(c.walks != "" && w.operator.acts) {
			w.failf("%v: closed in the middle of a message", c.k)
		}
	case reset && w.now.Sub(c.arrived) > wire.Linger:
	default:
		w.failf("%v: closed without a word (reset %t), %d replies owed", c.k, reset, len(c.queue))
	}
}

// mayBeCut reports whether there is a reason to end the client in the middle of
// a handshake, where it can't be told why.
func (c *client) mayBeCut() bool {
	return c.since(c.arrived, "client_login_timeout") || c.w.books.kills > 0 || c.w.operator.stopping || c.w.cutFrom > 0
}

// mayTimeOut reports whether some timeout may have ended the client's query.
func (c *client) mayTimeOut() bool {
	l := c.w.set.least
	return l["query_timeout"]+l["transaction_timeout"]+l["idle_transaction_timeout"] > 0
}

// read implements peer.
func (c *client) read(p []byte) {
	if c.stage == stageOver {
		return
	}
	c.in = append(c.in, p...)
	for c.stage != stageOver && len(c.in) > 0 {
		if c.stage == stageAnswer {
			if c.in[0] == wire.ErrorResponse {
				c.stage = stageLogin
				continue
			}
			answer := c.in[0]
			c.in = c.in[1:]
			c.answered(answer)
			continue
		}
		typ, size, ok, err := wire.Peek(c.in, 1<<30)
		if err != nil {
			c.w.failf("%v got garbage: %s", c.k, show(c.in))
		}
		if !ok || size > len(c.in) {
			return
		}
		body := c.in[wire.HeaderLen:size:size]
		c.in = c.in[size:]
		if c.stage == stageLogin {
			c.login(typ, body)
		} else {
			c.reply(typ, body)
		}
	}
	c.pump()
}

// login deals with a message before the first ReadyForQuery.
func (c *client) login(typ byte, body []byte) {
	w := c.w
	switch {
	case typ == wire.Authentication:
		code := int32(binary.BigEndian.Uint32(body))
		if code == 0 && !c.right && c.database != "missing" {
			w.failf("%v: let in, which must not be", c.k)
		}
		if c.exchange == nil {
			return
		}
		out, done, err := c.exchange.Step(nil, code, body[4:])
		if err != nil {
			w.failf("%v: login: %v", c.k, err)
		}
		c.granted = done
		if len(out) > 0 {
			c.k.send(out)
		}
	case typ == wire.NegotiateProtocolVersion:
	case typ == wire.ErrorResponse:
		c.fatal(wire.ParseFields(body))
	case typ == wire.ParameterStatus && c.granted:
		c.parameter(body)
	case typ == wire.NoticeResponse && c.granted:
	case typ == wire.BackendKeyData && c.granted:
		c.key = slices.Clone(body)
		for _, o := range w.clients {
			if o != c && string(o.key) == string(c.key) {
				w.failf("%v has the key of %v", c.k, o.k)
			}
		}
	case typ == wire.ReadyForQuery && c.granted && c.key != nil && body[0] == 'I':
		c.stage, c.sure = stageReady, true
		for _, p := range c.want {
			if got, ok := c.params[p[0]]; ok && !same(p[0], got, p[1]) && p[0] != "application_name" {
				w.failf("%v asked for %s=%q and is told %q", c.k, p[0], p[1], got)
			}
		}
	default:
		w.failf("%v: message %q in the login", c.k, typ)
	}
}

// parameter takes over a ParameterStatus.
func (c *client) parameter(body []byte) {
	name, rest, _ := wire.CutString(body)
	value, _, _ := wire.CutString(rest)
	c.params[string(name)] = string(value)
}

// settled reports whether nothing more comes before the client says something.
func (c *client) settled() bool {
	return len(c.queue) == 0 || c.copyingIn()
}

// copyingIn reports whether the server waits for the data of a COPY.
func (c *client) copyingIn() bool {
	return len(c.queue) > 0 && c.queue[0].phase == phaseCopyIn && !c.queue[0].ended
}

// pump goes on with the batch, or lets the next one come.
func (c *client) pump() {
	for c.stage == stageReady && len(c.parts) > 0 && (!c.parts[0].wait || c.settled()) {
		run, rest := c.parts[0].run, c.parts[1:]
		c.parts = nil // what run adds comes before the rest
		run()
		c.parts = append(c.parts, rest...)
	}
	if c.stage != stageReady || len(c.parts) > 0 || !c.settled() || c.think || c.abused && len(c.fatals) > 0 {
		return
	}
	w := c.w
	c.think = true
	d := w.between(0, pick(w, time.Millisecond, 20*time.Millisecond))
	if w.chance(15) && !w.calm {
		d = w.between(0, 1500*time.Millisecond)
	}
	w.after(d, func() {
		c.think = false
		if c.stage != stageReady {
			return
		}
		c.asked = w.now
		c.next(c)
		c.pump()
	})
}

// send sends a message, and remembers what is owed for it.
func (c *client) send(p []byte, e *expect) {
	c.k.send(p)
	if e == nil {
		return
	}
	if c.skip {
		if e.kind != wire.Sync {
			return
		}
		c.skip = false
	}
	c.queue = append(c.queue, e)
}

// tag makes a new tag.
func (c *client) tag() tag {
	c.n++
	return tag{c.id, c.n}
}

// requestCancel sends a cancel request for key over a connection of its own, and
// calls sent when it has sent the whole of it.
func (w *World) requestCancel(key []byte, why string, sent func()) {
	q := &canceller{w: w}
	q.k = w.dial("cancel "+why, q, w.drawPace(false))
	l := pick(w, w.loops...)
	l.enter()
	w.pooler.Worker(l.index).Accept(socketFor(q.k, uint16(q.k.fd)))
	w.current = nil
	send := func() {
		p := wire.AppendCancelRequest(nil, key)
		if w.chance(10) {
			q.k.send(p[:5])
			q.k.hangUp()
			return
		}
		q.k.send(p)
		if !q.k.lost {
			sent()
		}
		switch w.rng.IntN(5) {
		case 0:
			w.after(w.between(0, 20*time.Millisecond), q.k.hangUp)
		case 1:
			q.k.hangUp()
		}
	}
	w.after(w.between(0, time.Millisecond), func() {
		if w.set.clientTLS != "" && w.chance(2) {
			q.k.encrypt(send)
		} else {
			send()
		}
	})
}

// canceller is the connection of a cancel request.
type canceller struct {
	w   *World
	k   *socket
	got []byte // the begin of a message
}

func (q *canceller) read(p []byte) {
	p = append(q.got, p...)
	if _, size, ok, err := wire.Peek(p, maxRead); err != nil || !ok || size > len(p) {
		q.got = p
		return
	}
	// Before its request has come it is a client that logs in, as others are.
	told := func(reason string) bool { return strings.Contains(string(p), reason) }
	q.w.books.unheard++
	q.w.books.lost++
	if p[0] != wire.ErrorResponse || !told("connections") && !told("client_login_timeout") && !told("admin forced disconnect") {
		q.w.failf("%v is told %s", q.k, show(p))
	}
}
func (q *canceller) room()       {}
func (q *canceller) closed(bool) { q.k.hangUp() }

func (c *client) String() string { return fmt.Sprintf("client %d", c.id) }
