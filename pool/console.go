package pool

import (
	"github.com/pgweir/pgweir/pool/params"
	"github.com/pgweir/pgweir/wire"
)

// Console answers what is asked on the admin database. Package admin has it.
type Console interface {
	// Open begins a session. The pool has let the client in.
	Open(c ConsoleClient) ConsoleSession
}

// ConsoleClient says who opened a session.
type ConsoleClient struct {
	ID    uint64
	User  string
	Admin bool // may do everything; else only look

	// Prefix names the client in log lines.
	Prefix string

	// Params are the tracked parameters that the client asked for, in pairs.
	Params [][2]string

	// Key is the session's cancel key.
	Key wire.CancelKey
}

// ConsoleSession is one operator's session. Its methods are called in a chore,
// one at a time.
type ConsoleSession interface {
	// Welcome appends what the client is told when it has logged in, from
	// AuthenticationOk to ReadyForQuery.
	Welcome(out []byte) []byte

	// Handle takes one message, whole, and appends the answer to out. It may
	// block until done is closed, which tells that the client is gone. end
	// closes the session after the answer.
	Handle(done <-chan struct{}, typ byte, body, out []byte) (reply []byte, end bool)

	// Close ends the session.
	Close()
}

// manned is the console's part of a client.
type manned struct {
	user    string
	session ConsoleSession
	done    chan struct{} // closed when the client is gone
	running bool          // a message is being dealt with
}

// maxConsole bounds one message to the console.
const maxConsole = 64 << 10

// openConsole ends the login of c on the console.
func (c *Client) openConsole() {
	l, p := c.login, c.w.p
	c.newKey()
	who := ConsoleClient{ID: c.id, User: l.user, Admin: l.admin, Prefix: c.prefix(), Key: c.key}
	for i, v := range l.want {
		if v.Known {
			who.Params = append(who.Params, [2]string{p.tracked.Names[i], v.Text})
		}
	}
	if len(l.want) > 0 {
		c.vars = params.MakeValues(l.want)
	}
	c.admin = &manned{user: l.user, session: p.console.Open(who), done: make(chan struct{})}
	c.w.scratch = c.admin.session.Welcome(c.w.scratch[:0])
	c.conn.Write(c.w.scratch)
	p.clients.Add(-1)
	c.endLogin()
	c.move(ClientConsole)
}

// data takes the client's input: each message goes to a chore, one after the
// other.
func (m *manned) data(c *Client, b []byte) {
	if m.running || c.conn.Queued() > 0 {
		c.keepInput(b)
		return
	}
	typ, size, ok, err := wire.Peek(b, maxConsole)
	switch {
	case len(b) == 0:
	case err != nil:
		c.disconnect(true, badHeader(b))
	case !ok || size > len(b):
		c.keepInput(b)
	case typ == wire.Terminate:
		c.disconnect(false, "client close request")
	default:
		body := append([]byte(nil), b[wire.HeaderLen:size]...)
		c.keepInput(b[size:])
		m.running = true
		c.w.p.opts.Chore(func() {
			out, end := m.session.Handle(m.done, typ, body, nil)
			c.w.loop.Post(func() { m.answered(c, out, end) })
		})
	}
}

// answered sends the console's answer and goes on with what came meanwhile.
func (m *manned) answered(c *Client, out []byte, end bool) {
	m.running = false
	if c.state == ClientClosed {
		m.session.Close()
		return
	}
	c.conn.Write(out)
	if end {
		c.disconnect(false, "console session ended")
		return
	}
	m.next(c)
}

// next goes on with what the client sent while the console was at work, or
// while it did not take its answers.
func (m *manned) next(c *Client) {
	if b := c.held; b != nil && !m.running && c.conn.Queued() == 0 {
		c.held = nil
		m.data(c, b)
		c.w.drop(b)
	}
	if len(c.held) > maxConsole {
		c.conn.Pause()
	} else {
		c.conn.Resume()
	}
}

// cancelled deals with a cancel request: on the console it is RESUME.
func (m *manned) cancelled(p *Pooler) {
	if p.Resume("") == nil {
		p.log.Log(Info, "", "console cancel request: resumed")
	}
}

// close is called when the client is gone.
func (m *manned) close() {
	close(m.done)
	if !m.running {
		m.session.Close()
	}
}
