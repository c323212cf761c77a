package pool_test

import (
	"bytes"
	"cmp"
	"crypto/md5"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgweir/pgweir/auth"
	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/pool/dial"
	"github.com/pgweir/pgweir/wire"
)

// world is a pooler over one loop in memory. Nothing in it runs by itself:
// what a test does is done, with all that follows, when the call returns.
type world struct {
	t      testing.TB
	p      *pool.Pooler
	loop   *fakeLoop
	dialer fakeDialer
	log    fakeLog
	opened []pool.ConsoleClient

	clients []*client

	slow   bool // chores stay in chores until the test runs them
	chores []func()
	later  []func() // what is to run when time has passed
}

// users is the auth_file of every world. The passwords are the names
// backwards; that of hash is stored as md5.
var users = fmt.Sprintf(`"alice" "ecila"
"admin" "nimda"
"watch" "hctaw"
"hash" "md5%x"
"empty" ""
`, md5.Sum([]byte("hsah"+"hash")))

// newWorld makes a world whose ini file is main, below [pgbouncer], and
// databases.
func newWorld(t testing.TB, main, databases string) *world {
	t.Helper()
	return newWorldWith(t, main, databases, func(*pool.Options) {})
}

// newWorldWith is newWorld with other options.
func newWorldWith(t testing.TB, main, databases string, change func(*pool.Options)) *world {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ini := "[databases]\n" + cmp.Or(databases, "app = host=db") + "\n[pgbouncer]\nauth_file = " + write("users.txt", users) +
		"\nadmin_users = admin\nstats_users = watch\nserver_check_delay = 3600\n" + main + "\n"
	snap, err := configs.Load(write("pgweir.ini", ini))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, loop: &fakeLoop{now: wire.Time(time.Hour)}}
	o := pool.Options{
		Snapshot: snap,
		Loops:    []wire.Loop{w.loop},
		Dialer:   &w.dialer,
		Chore:    w.chore,
		After:    func(_ time.Duration, fn func()) { w.later = append(w.later, fn) },
		Random:   rand.Reader,
		Wall:     time.Unix(0, 0),
		Now:      w.loop.Now,
		UID:      1000,
		Hostname: "here",
		Log:      &w.log,
		Console:  w,
		Stop:     func() {},
		CloseListeners: func(closed func()) {
			if !w.p.Stopping() {
				t.Error("the listeners are closed, and nobody can see why")
			}
			closed()
		},
	}
	change(&o)
	w.p = pool.New(o)
	t.Cleanup(w.end)
	return w
}

// end has everybody leave, and checks that nothing stays.
func (w *world) end() {
	for _, c := range w.clients {
		c.leave()
	}
	for len(w.dialer.done) > 0 {
		w.refuse(&dial.LoginError{Kind: dial.ConnectFailed, Reason: "connect failed"})
	}
	w.p.CheckEmpty()
	for _, password := range []string{"ecila", "nimda", "hctaw", "hsah"} {
		if w.log.has(password) {
			w.t.Errorf("the log tells the password %q", password)
		}
	}
}

// chore runs fn, or keeps it for work.
func (w *world) chore(fn func()) {
	if w.slow {
		w.chores = append(w.chores, fn)
		return
	}
	fn()
}

// work runs the chores that were kept.
func (w *world) work() {
	chores := w.chores
	w.chores = nil
	for _, fn := range chores {
		fn()
	}
	w.settle()
}

// Open implements pool.Console.
func (w *world) Open(c pool.ConsoleClient) pool.ConsoleSession {
	w.opened = append(w.opened, c)
	return fakeConsole{}
}

// fakeConsole greets and has nothing else to say.
type fakeConsole struct{}

func (fakeConsole) Welcome(out []byte) []byte {
	return wire.AppendReadyForQuery(wire.AppendAuthOk(out), wire.TxIdle)
}
func (fakeConsole) Handle(<-chan struct{}, byte, []byte, []byte) ([]byte, bool) { return nil, true }
func (fakeConsole) Close()                                                      {}

// pass lets time go by, and the pooler notice it.
func (w *world) pass(d time.Duration) {
	w.loop.now = w.loop.now.Add(d)
	later := w.later
	w.later = nil
	for _, fn := range later {
		fn()
	}
	w.p.Worker(0).Tick()
	w.settle()
}

// outside calls fn, which may block until the loop has answered.
func (w *world) outside(fn func()) {
	w.loop.direct = true
	fn()
	w.loop.direct = false
	w.settle()
}

// settle does all that follows from what was done, and has the books checked.
func (w *world) settle() {
	w.loop.run()
	w.p.Check(len(w.dialer.done) == 0 && len(w.chores) == 0)
}

// fakeLog keeps the lines.
type fakeLog []string

func (l *fakeLog) Enabled(pool.Level) bool { return true }
func (l *fakeLog) Log(_ pool.Level, prefix, text string) {
	*l = append(*l, prefix+": "+text)
}

// has reports whether a line of the log holds text.
func (l *fakeLog) has(text string) bool {
	return slices.ContainsFunc(*l, func(line string) bool { return strings.Contains(line, text) })
}

// fakeDialer keeps what is asked of it, for the test to answer.
type fakeDialer struct {
	asked []dial.Request
	done  []func(*dial.Session, error)

	hold  bool         // Cancel waits before it sends anything
	await bool         // and when it has
	fails error        // of Cancel; if it awaits, what becomes of what was sent
	held  []func()     // the cancel requests that wait
	sent  []string     // cancel requests: host, port and key
	last  dial.Request // where the last one went
}

func (d *fakeDialer) Connect(r dial.Request, done func(*dial.Session, error)) {
	d.asked, d.done = append(d.asked, r), append(d.done, done)
}

// Cancel waits for the test if hold or await is set. What is sent is noted.
func (d *fakeDialer) Cancel(r dial.Request, host string, key []byte, _ time.Duration, ready func(func(bool)), done func(error)) {
	run := func() {
		if d.fails != nil && !d.await {
			done(d.fails)
			return
		}
		ready(func(send bool) {
			if send {
				d.sent, d.last = append(d.sent, fmt.Sprintf("%s:%d %x", host, r.Port, key)), r
			}
		})
		if d.await {
			d.held = append(d.held, func() { done(d.fails) })
			return
		}
		done(nil)
	}
	if !d.hold {
		run()
		return
	}
	d.held = append(d.held, run)
}

// next takes out the oldest login that was not answered yet.
func (d *fakeDialer) next(t testing.TB) func(*dial.Session, error) {
	t.Helper()
	if len(d.done) == 0 {
		t.Fatal("no server was asked for")
	}
	done := d.done[0]
	d.done = d.done[1:]
	return done
}

// reported is what Postgres says of itself at every login here.
var reported = []dial.Param{
	{Name: "server_version", Value: "18.0"},
	{Name: "client_encoding", Value: "UTF8"},
	{Name: "DateStyle", Value: "ISO, MDY"},
	{Name: "TimeZone", Value: "UTC"},
	{Name: "application_name", Value: ""},
	{Name: "standard_conforming_strings", Value: "on"},
}

// serve answers the oldest login with a server.
func (w *world) serve() {
	w.t.Helper()
	w.dialer.next(w.t)(&dial.Session{Params: reported, Key: make([]byte, 8), Name: "db", Host: "10.0.0.1"}, nil)
	w.settle()
}

// refuse answers the oldest login with an error.
func (w *world) refuse(err error) {
	w.t.Helper()
	w.dialer.next(w.t)(nil, err)
	w.settle()
}

// fakeLoop runs when it is told to.
type fakeLoop struct {
	now    wire.Time
	posted []func()
	conns  []*fakeConn
	direct bool // Post runs what is posted at once
}

func (l *fakeLoop) Now() wire.Time { return l.now }

func (l *fakeLoop) Post(fn func()) bool {
	if l.direct {
		fn()
		return true
	}
	l.posted = append(l.posted, fn)
	return true
}

func (l *fakeLoop) Attach(_ wire.Socket, h wire.Handler) (wire.Conn, error) {
	c := &fakeConn{handler: h}
	l.conns = append(l.conns, c)
	return c, nil
}

// run goes on until nothing is left to do.
func (l *fakeLoop) run() {
	for busy := true; busy; {
		busy = len(l.posted) > 0
		for len(l.posted) > 0 {
			fn := l.posted[0]
			l.posted = l.posted[1:]
			fn()
		}
		for _, c := range l.conns {
			busy = c.deliver() || busy
		}
	}
}

// fakeConn takes whatever is written, and hands over what the test sends.
type fakeConn struct {
	handler  wire.Handler
	in, out  []byte
	bytewise bool // one byte for each read
	paused   bool
	closed   bool
}

func (c *fakeConn) Write(p []byte) { c.out = append(c.out, p...) }
func (c *fakeConn) Queued() int    { return 0 }
func (c *fakeConn) Pause()         { c.paused = true }
func (c *fakeConn) Hold()          { c.paused = true }
func (c *fakeConn) Resume()        { c.paused = false }
func (c *fakeConn) Close()         { c.closed = true }
func (c *fakeConn) Abort()         { c.closed = true }

func (c *fakeConn) Detach() (wire.Socket, bool) {
	c.closed = true
	return wire.Socket{}, true
}

// deliver hands over one read's worth of what was sent. It reports whether
// there was any.
func (c *fakeConn) deliver() bool {
	if c.closed || c.paused || len(c.in) == 0 {
		return false
	}
	n := len(c.in)
	if c.bytewise {
		n = 1
	}
	read := bytes.Clone(c.in[:n])
	c.in = c.in[n:]
	c.handler.Data(read)
	for i := range read {
		read[i] = 0xee // whoever kept the bytes sees something else from here on
	}
	return true
}

// client is an application's end of a connection.
type client struct {
	*fakeConn
	w     *world
	inbox []message // read, and not looked at
}

var tcp = wire.Socket{
	Remote: netip.MustParseAddrPort("192.0.2.7:5000"), Local: netip.MustParseAddrPort("192.0.2.1:6432"),
	PeerUID: -1, PeerPID: -1,
}

func unix(uid int) wire.Socket { return wire.Socket{Unix: true, PeerUID: uid, PeerPID: 77} }

// connect comes in over TCP.
func (w *world) connect() *client { return w.connectFrom(tcp) }

func (w *world) connectFrom(s wire.Socket) *client {
	n := len(w.loop.conns)
	w.p.Worker(0).Accept(s)
	c := &client{fakeConn: w.loop.conns[n], w: w}
	w.clients = append(w.clients, c)
	return c
}

// send sends b and lets everything happen.
func (c *client) send(b []byte) *client {
	c.in = append(c.in, b...)
	c.w.settle()
	return c
}

// startup sends a StartupMessage of protocol 3.0 with pairs of names and
// values.
func (c *client) startup(params ...string) *client { return c.send(startup(3<<16, params...)) }

func startup(version uint32, params ...string) []byte {
	body := binary.BigEndian.AppendUint32(nil, version)
	for _, s := range params {
		body = wire.AppendString(body, s)
	}
	body = append(body, 0)
	return append(binary.BigEndian.AppendUint32(nil, uint32(4+len(body))), body...)
}

// leave closes the client's end.
func (c *client) leave() {
	if !c.closed {
		c.closed = true
		c.handler.Closed(nil)
	}
	c.w.settle()
}

type message struct {
	typ  byte
	body string
}

// read takes what came since the last read.
func (c *client) read() (all []message) {
	c.w.t.Helper()
	all, c.inbox = c.inbox, nil
	for len(c.out) > 0 {
		typ, size, ok, err := wire.Peek(c.out, 1<<20)
		if !ok || err != nil || size > len(c.out) {
			c.w.t.Fatalf("not a message: %q", c.out)
		}
		all = append(all, message{typ, string(c.out[wire.HeaderLen:size])})
		c.out = c.out[size:]
	}
	return all
}

// peek is what the next read returns.
func (c *client) peek() []message {
	c.w.t.Helper()
	c.inbox = c.read()
	return c.inbox
}

// types are the types of the messages.
func types(all []message) string {
	var b strings.Builder
	for _, m := range all {
		b.WriteByte(m.typ)
	}
	return b.String()
}

// param is the value of the ParameterStatus called name, the last if there are
// several, "-" if there is none.
func param(all []message, name string) string {
	found := "-"
	for _, m := range all {
		if rest, ok := strings.CutPrefix(m.body, name+"\x00"); ok && m.typ == wire.ParameterStatus {
			found = strings.TrimSuffix(rest, "\x00")
		}
	}
	return found
}

// wantError checks that the last thing the client was told is a FATAL error
// with text, and that its connection was closed then.
func (c *client) wantError(text string) {
	c.w.t.Helper()
	c.wantErrorDetail(text, "")
}

func (c *client) wantErrorDetail(text, detail string) {
	c.w.t.Helper()
	all := c.read()
	if len(all) == 0 || all[len(all)-1].typ != wire.ErrorResponse {
		c.w.t.Fatalf("got %q, want the error %q", types(all), text)
	}
	got := wire.ParseFields([]byte(all[len(all)-1].body))
	if want := (wire.Fields{Severity: "FATAL", Code: "08P01", Message: text, Detail: detail}); got != want {
		c.w.t.Errorf("got %+v, want %+v", got, want)
	}
	if !c.closed {
		c.w.t.Error("the connection stays open")
	}
}

// wantSilence checks that the connection was closed without a word.
func (c *client) wantSilence() {
	c.w.t.Helper()
	if all := c.read(); len(all) > 0 || !c.closed {
		c.w.t.Errorf("got %q, closed: %v", types(all), c.closed)
	}
}

// wantWelcome checks that the login ended well, and returns what was said.
func (c *client) wantWelcome() []message {
	c.w.t.Helper()
	all := c.read()
	if got := types(all); !strings.HasPrefix(strings.TrimLeft(got, "v"), "R") || !strings.HasSuffix(got, "Z") || c.closed {
		c.w.t.Fatalf("got %q, closed: %v, want a welcome", got, c.closed)
	}
	return all
}

// answer sends a PasswordMessage, or one of SASL's, with body.
func (c *client) answer(body string) *client {
	b, at := wire.Begin(nil, wire.Password)
	return c.send(wire.End(append(b, body...), at))
}

// authenticate answers all requests for a password, whatever kind they are,
// until there is no other. What came then is left for read.
func (c *client) authenticate(user, password string) *client {
	c.w.t.Helper()
	e := auth.NewServerExchange(user, auth.Plain(password), nil, nil, rand.Reader)
	for all := c.read(); len(all) > 0; all = c.read() {
		for i, m := range all {
			if m.typ == wire.NegotiateProtocolVersion {
				continue
			}
			if m.typ != wire.Authentication {
				c.inbox = all[i:]
				return c
			}
			out, done, err := e.Step(nil, int32(binary.BigEndian.Uint32([]byte(m.body))), []byte(m.body[4:]))
			if err != nil {
				c.w.t.Fatal(err)
			}
			if done {
				c.inbox = all[i:]
				return c
			}
			c.send(out)
		}
	}
	return c
}

// wantKey is wantWelcome, and returns the key for cancel requests.
func (c *client) wantKey() (key string) {
	c.w.t.Helper()
	for _, m := range c.wantWelcome() {
		if m.typ == wire.BackendKeyData {
			key = m.body
		}
	}
	return key
}
