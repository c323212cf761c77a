package pool

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pgweir/pgweir/auth"
	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool/certs"
)

// ShutdownMode says how a Pooler comes to its end.
type ShutdownMode uint32

// The modes. Each may follow those before it.
const (
	Running                ShutdownMode = iota
	ShutdownWaitForClients              // nobody new; ends when the last client has left
	ShutdownWaitForServers              // as PAUSE; ends when the last server is closed
	ShutdownDrain                       // nobody new; clients are sent away between transactions, within sigterm_grace
	ShutdownImmediate
)

func (p *Pooler) shutdownMode() ShutdownMode { return ShutdownMode(p.shutdown.Load()) }

// Stopping reports whether a shutdown is under way: nobody new is let in, so a
// load balancer should send nobody any more. It may be called anywhere.
func (p *Pooler) Stopping() bool { return p.shutdownMode() != Running }

// Shutdown begins to shut down. It returns at once; Options.Stop is called when
// it is done.
func (p *Pooler) Shutdown(mode ShutdownMode) {
	if mode == ShutdownDrain {
		grace := p.Snapshot().Main.SigtermGrace
		p.Drain(grace, grace*4/5) // the last ones to have their turn may be in a transaction
		return
	}
	was := ShutdownMode(p.shutdown.Swap(uint32(mode)))
	if was == Running && mode != ShutdownImmediate {
		p.closeListeners()
	}
	switch mode {
	case ShutdownImmediate:
		p.stop()
	case ShutdownWaitForServers:
		p.paused.Store(true)
		p.each(func(w *Worker) {
			for _, s := range w.all {
				for s.waiting.n > 0 {
					s.waiting.head.disconnect(true, reasonServerStopping)
				}
				s.closeUnused("pause mode")
			}
		})
		p.opts.Chore(func() {
			p.waitServers(nil, func() int { return p.openServers(nil) })
			p.leave()
		})
	case ShutdownWaitForClients:
		p.clientLeft()
	}
}

// closeListeners begins to close the TCP listeners.
func (p *Pooler) closeListeners() {
	p.opts.CloseListeners(func() {
		p.closed.Store(true)
		p.clientLeft()
	})
}

// admits reports whether c may log in, as far as a shutdown is concerned. Who
// waits for clients waits for those, too, that have come over TCP until the
// listeners were closed: they have chosen this process without knowing.
func (p *Pooler) admits(c *Client) bool {
	switch p.shutdownMode() {
	case Running:
		return true
	case ShutdownWaitForClients, ShutdownDrain:
		return !c.login.late && !c.unix
	}
	return false
}

// clientLeft ends the process when it was the last client that a shutdown
// waits for.
func (p *Pooler) clientLeft() {
	if !p.closed.Load() {
		return
	}
	switch p.shutdownMode() {
	case ShutdownWaitForClients:
		if p.sockets.Load() == 0 {
			p.dropLookups()
		}
	case ShutdownDrain:
		if p.clients.Load() == 0 { // consoles watch to the end
			p.drained(p.drain.Load())
		}
	}
}

func (p *Pooler) stop() { p.stopped.Do(p.opts.Stop) }

// State is what SHOW STATE tells.
func (p *Pooler) State() (active, paused bool) {
	paused = p.paused.Load()
	return !paused, paused
}

// The errors of the console's commands, in PgBouncer's words.
var (
	errPaused    = errors.New("already suspended/paused")
	errNotPaused = errors.New("pooler is not paused/suspended")
	errStopping  = errors.New(reasonStopping)
	errResumed   = errors.New("resumed before all servers were closed")
)

// find returns the database that a command names, made from "*" if make is
// set. verb is for the error.
func (p *Pooler) find(name, verb string, make bool) (*Database, error) {
	if name == consoleDatabase {
		return nil, fmt.Errorf("cannot %s admin db: %s", verb, name)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	d := p.databases[name]
	if d == nil && make {
		d = p.databaseLocked(name)
	}
	if d == nil {
		return nil, fmt.Errorf("no such database: %s", name)
	}
	return d, nil
}

// Pause stops handing out servers, of one database or ("") of all, and returns
// when no server is left, or done is closed. A Resume meanwhile is an error. It
// may block.
func (p *Pooler) Pause(done <-chan struct{}, name string) error {
	if p.paused.Load() {
		return errPaused
	}
	var d *Database
	if name == "" {
		if !p.paused.CompareAndSwap(false, true) {
			return errPaused
		}
	} else {
		var err error
		if d, err = p.find(name, "pause", true); err != nil {
			return err
		}
		d.paused.Store(true)
	}
	p.each(func(w *Worker) {
		for _, s := range w.all {
			if d == nil || s.pool.db == d {
				s.closeUnused("pause mode")
				s.provide()
			}
		}
	})
	resumed := func() bool { return d == nil && !p.paused.Load() || d != nil && !d.paused.Load() }
	p.waitServers(done, func() int {
		if resumed() {
			return 0
		}
		return p.openServers(d)
	})
	if resumed() {
		return errResumed
	}
	return nil
}

// closeUnused closes the servers that nobody uses.
func (s *Shard) closeUnused(reason string) {
	s.idle.each(func(v *Server) { v.close(reason, true) })
	s.used.each(func(v *Server) { v.close(reason, true) })
}

// openServers is how many servers are open or being opened, of one database or
// (nil) of all.
func (p *Pooler) openServers(d *Database) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, q := range p.pools {
		if d == nil || q.db == d {
			n += q.open
		}
	}
	return n
}

// wakeChoresLocked lets the chores in waitServers look again.
func (p *Pooler) wakeChoresLocked() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// waitServers blocks until count is 0, looking again whenever a server was
// closed or there was a Resume, or until done is closed.
func (p *Pooler) waitServers(done <-chan struct{}, count func() int) {
	for {
		p.mu.Lock()
		changed := p.changed
		p.mu.Unlock()
		if count() == 0 {
			return
		}
		select {
		case <-changed:
		case <-done:
			return
		}
		select {
		case <-done: // too
			return
		default:
		}
		p.workers[0].ask(func() {}) // more may have closed in the same turn
	}
}

// Resume hands out servers again, of one database or ("") of all.
func (p *Pooler) Resume(name string) error {
	var d *Database
	switch {
	case p.Stopping():
		return errStopping
	case name == "":
		if !p.paused.CompareAndSwap(true, false) {
			return errNotPaused
		}
	default:
		var err error
		if d, err = p.find(name, "resume", false); err != nil {
			return err
		}
		if !d.paused.CompareAndSwap(true, false) {
			return fmt.Errorf("database %s is not paused", name)
		}
	}
	p.mu.Lock()
	p.wakeChoresLocked()
	p.mu.Unlock()
	p.each(func(w *Worker) {
		for _, s := range w.all {
			if d == nil || s.pool.db == d {
				s.provide()
			}
		}
	})
	return nil
}

// Kill pauses a database, or ("") each that has a pool, and drops its clients
// and servers.
func (p *Pooler) Kill(name string) error {
	if p.paused.Load() {
		return errPaused
	}
	var victims []*Database
	if name != "" {
		d, err := p.find(name, "kill", true)
		if err != nil {
			return err
		}
		victims = append(victims, d)
	} else {
		p.mu.Lock()
		for _, name := range sortedKeys(p.databases) {
			if d := p.databases[name]; len(d.pools) > 0 {
				victims = append(victims, d)
			}
		}
		p.mu.Unlock()
	}
	for _, d := range victims {
		d.paused.Store(true)
		p.drop(d)
	}
	return nil
}

// drop ends all clients and servers of d, and forgets its pools.
func (p *Pooler) drop(d *Database) {
	p.mu.Lock()
	d.supersedeLocked()
	pools := d.pools
	for _, q := range pools {
		p.forgetLocked(q)
	}
	p.mu.Unlock()
	p.each(func(w *Worker) {
		for _, s := range slices.Clone(w.all) {
			if s.pool.db != d {
				continue
			}
			const reason = "database removed"
			for _, l := range []*list[Client, *Client]{&s.waiting, &s.active, &s.idleClients} {
				l.each(func(c *Client) { c.disconnect(true, reason) })
			}
			s.private.each(func(o *opening) { o.client.disconnect(true, reason) })
			for _, l := range []*list[Server, *Server]{&s.idle, &s.used, &s.tested, &s.busy, &s.canceled} {
				l.each(func(v *Server) { v.close(reason, true) })
			}
		}
	})
	p.forgetShards(pools)
}

// KillClient ends the client with that id.
func (p *Pooler) KillClient(id uint64) error {
	var found bool
	p.gather(func(w *Worker) {
		w.eachClient(func(c *Client) {
			if c.id == id {
				found = true
				c.disconnect(true, "admin forced disconnect")
			}
		})
	})
	if !found {
		return errors.New("client not found")
	}
	return nil
}

// SetDisabled refuses new logins to a database, or allows them again.
func (p *Pooler) SetDisabled(name string, disabled bool) error {
	verb := "enable"
	if disabled {
		verb = "disable"
	}
	if name == "" {
		return errors.New("a database is required")
	}
	d, err := p.find(name, verb, true)
	if err != nil {
		return err
	}
	d.disabled.Store(disabled)
	return nil
}

// named returns the database called name, or ("") all.
func (p *Pooler) named(name, verb string) ([]*Database, error) {
	if name != "" {
		d, err := p.find(name, verb, true)
		if err != nil {
			return nil, err
		}
		return []*Database{d}, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Values(p.databases)), nil
}

// Reconnect closes every server, of one database or ("") of all, as soon as
// nobody uses it.
func (p *Pooler) Reconnect(name string) error {
	dbs, err := p.named(name, "reconnect")
	if err != nil {
		return err
	}
	p.mu.Lock()
	for _, d := range dbs {
		d.supersedeLocked()
	}
	p.mu.Unlock()
	p.each(func(w *Worker) {
		for _, s := range w.all {
			s.provide()
		}
	})
	return nil
}

// WaitClose returns when no server of a database, or ("") of any, has still to
// be closed because of a Reconnect or a reload, or when done is closed. It may
// block.
func (p *Pooler) WaitClose(done <-chan struct{}, name string) error {
	dbs, err := p.named(name, "wait in")
	if err != nil {
		return err
	}
	p.waitServers(done, func() int {
		n := 0
		p.gather(func(w *Worker) {
			w.eachServer(func(v *Server) {
				if v.obsolete() && slices.Contains(dbs, v.shard.pool.db) {
					n++
				}
			})
		})
		return n
	})
	return nil
}

// Reload reads the configuration anew and applies it whole, or changes nothing
// and says why not. It may block.
func (p *Pooler) Reload() error {
	p.reloading.Lock()
	defer p.reloading.Unlock()
	next, err := p.opts.Reload(p.Snapshot())
	if err != nil {
		p.log.Log(Error, "", "config file loading failed: "+err.Error())
		return err
	}
	p.install(next, true)
	return nil
}

// Set changes one setting until the next reload. It may block.
func (p *Pooler) Set(key, val string) error {
	p.reloading.Lock()
	defer p.reloading.Unlock()
	next, err := p.Snapshot().With(key, val)
	if err != nil {
		return err
	}
	p.install(next, false)
	return nil
}

// Use makes snap, which was made from the Snapshot in force, the configuration
// until the next reload. It may block.
func (p *Pooler) Use(snap *configs.Snapshot) {
	p.reloading.Lock()
	defer p.reloading.Unlock()
	p.install(snap, false)
}

// install makes snap the configuration in force. read says that it comes from
// the files: then whatever kept servers from being opened may be mended.
func (p *Pooler) install(snap *configs.Snapshot, read bool) {
	p.mu.Lock()
	old := p.snapshot.Swap(snap)
	otherTLS := old != nil && !certs.ForServers(&old.Main).Same(certs.ForServers(&snap.Main))
	p.answers.known.Purge()
	p.guesses.forget()
	var removed []*Database
	for _, name := range sortedKeys(p.databases) {
		d := p.databases[name]
		conf := snap.Database(name)
		if conf != nil {
			d.auto = false
		} else if d.auto {
			conf = snap.Auto(name)
		}
		if conf == nil {
			delete(p.databases, name)
			p.retired.databases = retire(p.retired.databases, name, d.slots)
			d.removed.Store(true)
			removed = append(removed, d)
			continue
		}
		if was := d.conf.Swap(conf); otherTLS || !conf.SameServers(was) {
			d.supersedeLocked() // last: who sees the new generation sees the new entry
		}
	}
	for _, conf := range snap.Databases {
		if p.databases[conf.Name] == nil {
			p.databases[conf.Name] = newDatabase(conf.Name, conf, p.retired.database(conf.Name))
		}
	}
	p.tenants = nil
	byName := func(q, o *Pool) int { return strings.Compare(q.name(), o.name()) } // in one order, or no run could be repeated
	for _, q := range slices.SortedFunc(maps.Values(p.pools), byName) {
		q.configure(snap)
		q.hosts.keep(q.db.conf.Load().Hosts)
		if read {
			q.failure.Store(nil)
		}
		p.sitLocked(q)
		if t := q.told.Load(); t != nil && t.judged && old.Main.AuthType != snap.Main.AuthType {
			q.told.Store(nil) // who took it is not asked any more
		}
	}
	for key, s := range p.retired.pools {
		if conf := cmp.Or(snap.Database(key.database), snap.Auto(key.database)); conf != nil {
			p.arrangeLocked(s, conf, key.user)
			s.bequeath()
		}
	}
	p.pinLocked(snap)
	p.mu.Unlock()
	for _, d := range removed {
		p.drop(d)
	}
	p.turnForwards()
	p.each(func(w *Worker) {
		for _, s := range w.all { // a limit may have been raised
			s.provide()
		}
	})
}

// forgetLocked removes a pool, and its statistics with it. Whoever is still in
// it stays until its end, but nobody finds it any more. forgetShards follows.
func (p *Pooler) forgetLocked(q *Pool) {
	if q.removed {
		return
	}
	if p.pools[q.key()] == q {
		delete(p.pools, q.key())
		p.retired.pools = retire(p.retired.pools, q.key(), q.slots)
	}
	old := q.seat.all()
	q.seat, q.removed, q.led = nil, true, old
	p.leadLocked(q, old)
	is := func(o *Pool) bool { return o == q }
	q.db.pools = slices.DeleteFunc(slices.Clone(q.db.pools), is)
	q.user.pools = slices.DeleteFunc(slices.Clone(q.user.pools), is)
}

// forgetShards drops what the loops hold of pools that are gone, and wakes those
// who wait for a limit that only they had.
func (p *Pooler) forgetShards(pools []*Pool) {
	if len(pools) == 0 {
		return
	}
	p.mu.Lock()
	var next []*Shard
	for _, q := range pools {
		next = append(next, q.led.nextLocked(p.opts.Now())...)
	}
	p.mu.Unlock()
	wakeShards(next)
	p.each(func(w *Worker) {
		for _, q := range pools {
			w.forget(q)
		}
	})
}

// serverSecret is what q's servers are logged in to with, and the pass that it
// comes from, if from one.
func (p *Pooler) serverSecret(q *Pool) (auth.Secret, *auth.Keys, *pass) {
	if conf := q.db.conf.Load(); conf.User == q.user.Name && conf.Password != "" {
		return auth.ParseSecret(conf.Password), nil, nil
	}
	text, known := p.Snapshot().Auth.Lookup(q.user.Name)
	if pass := q.pass.Load(); pass != nil && text == "" {
		return pass.secret, pass.keys, pass
	}
	if told := q.told.Load(); told != nil && (told.judged || !known) {
		return told.secret, told.keys, nil
	}
	return auth.ParseSecret(text), p.keysOf(q.user.Name), nil
}

// enter finds the database called name, made from "*" if need be and make is
// set, and counts a client in; nil if there is none.
func (p *Pooler) enter(name string, make bool) *Database {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := p.databases[name]
	if d == nil && make {
		d = p.databaseLocked(name)
	}
	if d != nil {
		d.clients.Add(1)
	}
	return d
}

// each runs fn on every loop, soon.
func (p *Pooler) each(fn func(w *Worker)) {
	for _, w := range p.workers {
		w.loop.Post(func() { fn(w) })
	}
}

// gather runs fn on every loop, one after the other, and returns when all are
// done. It blocks, and must not be called on a loop.
func (p *Pooler) gather(fn func(w *Worker)) {
	for _, w := range p.workers {
		w.ask(func() { fn(w) })
	}
}

// ask runs fn on the loop of w and returns when it is done. A loop that has
// stopped has nothing left.
func (w *Worker) ask(fn func()) {
	done := make(chan struct{})
	if w.loop.Post(func() { fn(); close(done) }) {
		<-done
	}
}
