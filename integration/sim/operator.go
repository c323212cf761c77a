package sim

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/wire"
)

// operator is who sits at the console: two sessions of it, so that one may
// RESUME what the other has paused.
type operator struct {
	w        *World
	waiting  int // commands that wait for servers to close
	paused   bool
	stopping bool // a shutdown has begun
	acts     bool // a command was sent
	ending   bool // a stats period is being ended
}

// busy lets the operator work until faults stop.
func (o *operator) busy() {
	for range 2 {
		c := &client{
			w: o.w, id: len(o.w.clients) + 1, status: wire.TxIdle, params: map[string]string{}, arrived: o.w.now,
			user: "root", password: "toor", database: "pgbouncer", right: true, next: o.command,
		}
		c.enter("console " + strconv.Itoa(c.id))
	}
}

// command sends the next command of a console.
func (o *operator) command(c *client) {
	w := o.w
	if w.calm {
		c.leave()
		return
	}
	c.think = true
	w.after(w.between(0, time.Second), func() {
		c.think = false
		if c.stage != stageReady {
			return
		}
		if w.calm {
			c.leave()
			return
		}
		c.send(wire.AppendQuery(nil, o.draw()), &expect{kind: kindConsole})
		if w.chance(8) {
			w.after(w.between(0, 500*time.Millisecond), func() { w.requestCancel(c.key, c.k.name, func() {}) })
		}
	})
}

// draw draws a command. What looks at all loops is left out while a PAUSE
// waits: both would wake in the same step, in no order.
func (o *operator) draw() string {
	w := o.w
	o.acts = true
	db := pick(w, "a", "a", "b", "auto1", "missing")
	if o.waiting > 0 || o.paused && w.chance(2) {
		return pick(w, "resume", "resume", "resume "+db, "enable "+db)
	}
	switch w.rng.IntN(18) {
	case 11:
		return "set default_pool_size = " + pick(w, "1", "2", "3", "4")
	case 12:
		if w.chance(4) {
			return "kill"
		}
		return "set nothing = 1"
	case 0:
		return "pause"
	case 1:
		return "pause " + db
	case 2:
		return "resume " + db
	case 3:
		return "kill " + db
	case 4:
		return "reconnect"
	case 5:
		return "reconnect " + db
	case 6:
		return "disable " + db
	case 7:
		return "enable " + db
	case 8:
		return "killclient " + strconv.Itoa(1+w.rng.IntN(40))
	case 9:
		return "wait_close " + db
	case 10:
		return "show"
	}
	return "reload"
}

// Open implements pool.Console.
func (o *operator) Open(c pool.ConsoleClient) pool.ConsoleSession { return &session{o, c} }

// session is a session of the console.
type session struct {
	o *operator
	c pool.ConsoleClient
}

// Welcome implements pool.ConsoleSession.
func (s *session) Welcome(out []byte) []byte {
	out = wire.AppendAuthOk(out)
	out = wire.AppendBackendKeyData(out, s.c.Key)
	return wire.AppendReadyForQuery(out, wire.TxIdle)
}

// Handle implements pool.ConsoleSession.
func (s *session) Handle(done <-chan struct{}, typ byte, body, out []byte) (reply []byte, end bool) {
	text := strings.TrimSuffix(string(body), "\x00")
	if err := s.o.run(done, text); err != nil {
		out = wire.AppendError(out, wire.Fields{Severity: "ERROR", Code: "08P01", Message: err.Error()})
	}
	if len(out) == 0 {
		out = wire.AppendCommandComplete(out, text)
	}
	return wire.AppendReadyForQuery(out, wire.TxIdle), false
}

// Close implements pool.ConsoleSession.
func (s *session) Close() {}

// run runs a command. It may block.
func (o *operator) run(done <-chan struct{}, text string) error {
	w, p := o.w, o.w.pooler
	if w.calm {
		return nil // what calmDown has undone must stay so
	}
	w.tracef("operator: %s", text)
	verb, db, _ := strings.Cut(text, " ")
	switch verb {
	case "pause":
		o.waiting++
		o.paused = true
		defer func() { o.waiting-- }()
		return p.Pause(done, db)
	case "resume":
		if db == "" {
			o.paused = false
		}
		return p.Resume(db)
	case "kill":
		w.books.kills++
		return p.Kill(db)
	case "killclient":
		w.books.kills++
		id, _ := strconv.ParseUint(db, 10, 64)
		return p.KillClient(id)
	case "reconnect":
		return p.Reconnect(db)
	case "wait_close":
		o.waiting++
		defer func() { o.waiting-- }()
		return p.WaitClose(done, db)
	case "disable":
		return p.SetDisabled(db, true)
	case "enable":
		return p.SetDisabled(db, false)
	case "set":
		key, value, _ := strings.Cut(db, " = ")
		err := p.Set(key, value)
		if err == nil {
			w.set.main[key] = value
		}
		return err
	case "reload":
		return p.Reload()
	case "show":
		p.Pools()
		p.Clients()
		p.Servers()
		p.Databases()
		p.Users()
		p.Lists()
		p.Mem()
		p.Stats()
		if !o.ending { // one goroutine ends periods, as in a process
			o.ending = true
			p.EndPeriod()
			o.ending = false
		}
	}
	return nil
}

// reload is Options.Reload.
func (o *operator) reload(*configs.Snapshot) (*configs.Snapshot, error) {
	if !o.w.calm {
		if o.w.chance(10) {
			return nil, errors.New("a mistake in the file")
		}
		o.w.set.change(o.w)
	}
	return o.w.set.snapshot()
}

// calmDown undoes what keeps clients from being served.
func (o *operator) calmDown() {
	p := o.w.pooler
	_ = p.Resume("")
	for _, d := range p.Databases() {
		_ = p.Resume(d.Name)
		_ = p.SetDisabled(d.Name, false)
	}
}
