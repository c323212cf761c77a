package pool

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/pgweir/pgweir/auth"
	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/wire"
)

// lookup is an auth_query under way. To its pool it is a client like any
// other, whose socket is the lookup itself: it waits in the queue, is given a
// server within the limits, and the ledger says when the server is free again.
// Only the counts of client connections leave it out.
//
// All who want to know the same at the same time share one lookup. It runs on
// the loop that its question is assigned to, and tells them by Post.
type lookup struct {
	inert
	question question
	db       *Database
	w        *Worker
	client   *Client
	began    wire.Time
	askers   []asker

	part    []byte // the begin of a message
	answer  answer
	bad     string
	failed  bool // an ErrorResponse came last
	late    bool // it took too long: who still waits asks anew
	over    bool // nothing more is expected, and finish is posted
	replied bool // the server answered to its end
}

// question is what an auth_query asks, and as whom, and where.
type question struct {
	database, user string // the pool
	query          string
	name           string // $1
}

// asker is a login that waits for an answer.
type asker struct {
	id   uint64 // of the Client
	tell func(answer)
}

// answer is what became of a question. The zero answer is that there is no
// such user.
type answer struct {
	at     wire.Time
	name   string      // the name that the query returned, empty if it returned no row
	secret auth.Secret // KindNone if the query returned NULL: nobody gets in
	err    wire.Fields // set if there is no answer
}

// maxAnswers bounds the answers that are kept, made-up names included.
const maxAnswers = 4096

// maxLookup bounds a message of a reply to an auth_query: a secret has up to
// 64 KiB.
const maxLookup = 128 << 10

// answers remembers what was asked lately.
type answers struct{ known *lru.Cache[question, answer] }

func newAnswers() answers {
	known, err := lru.New[question, answer](maxAnswers)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return answers{known}
}

// get returns the answer to q, if it is not older than auth_query_cache.
func (a answers) get(q question, now wire.Time, main *configs.Main) (answer, bool) {
	if main.AuthQueryCache == 0 {
		return answer{}, false
	}
	known, ok := a.known.Get(q)
	return known, ok && now.Sub(known.at) < main.AuthQueryCache
}

// lookUp has an auth_query ask about c, who is not in the auth_file. It
// reports whether c's login goes on elsewhere, or was refused.
func (c *Client) lookUp(main *configs.Main) bool {
	q, db, refused := c.questionFor(main)
	switch {
	case refused != "":
		c.disconnect(true, refused)
		return true
	case db == nil:
		return false
	}
	w, l := c.w, c.login
	l.question = q
	if a, ok := w.p.answers.get(q, w.now(), main); ok {
		c.lookedUp(a)
		return true
	}
	l.phase, l.asking = phaseWorking, true
	c.conn.Pause()
	at := w.p.workerFor(q)
	asks := asker{c.id, func(a answer) {
		w.loop.Post(func() {
			c.resume(func() {
				c.login.asking = false
				c.lookedUp(a)
			})
		})
	}}
	at.loop.Post(func() { at.lookUp(q, db, asks) })
	return true
}

// questionFor says what to ask about c and in which database, nil if nothing is
// to be asked. refused is what to tell c if it can't be.
func (c *Client) questionFor(main *configs.Main) (q question, db *Database, refused string) {
	p, l := c.w.p, c.login
	if !main.AuthType.Listed() {
		return q, nil, ""
	}
	conf := &configs.Database{} // the console's
	if !l.console {
		if c.db != nil {
			conf = c.db.conf.Load()
		} else if conf = p.Snapshot().Auto(l.database); conf == nil {
			return q, nil, ""
		}
	}
	q = question{
		database: cmp.Or(conf.AuthDBName, main.AuthDBName, l.database),
		user:     cmp.Or(conf.AuthUser, main.AuthUser),
		query:    cmp.Or(conf.AuthQuery, main.AuthQuery),
		name:     l.user,
	}
	switch {
	case q.user == "" || q.query == "":
		return q, nil, ""
	case q.database == consoleDatabase:
		c.log(Error, `cannot use the reserved "pgbouncer" database as an auth_dbname`)
		return q, nil, reasonConfig
	}
	p.mu.Lock()
	db = p.databaseLocked(q.database)
	p.mu.Unlock()
	switch {
	case db == nil:
		c.log(Error, fmt.Sprintf("authentication database %q is not configured.", q.database))
		return q, nil, reasonConfig
	case db.disabled.Load():
		c.log(Error, fmt.Sprintf("authentication database %q is disabled", q.database))
		return q, nil, reasonConfig
	}
	return q, db, ""
}

// lookedUp goes on with a login about which an auth_query has asked.
func (c *Client) lookedUp(a answer) {
	main := &c.w.p.Snapshot().Main
	switch {
	case a.err.Message != "":
		c.fail(a.err)
	case a.name == "":
		c.identify(main, auth.Secret{}, false)
	default:
		c.login.user = a.name
		c.login.told.secret = a.secret
		c.identify(main, a.secret, true)
	}
}

// forgetAnswer has the next login ask anew: the secret that was remembered may
// be the reason why this one failed.
func (c *Client) forgetAnswer() {
	if q := c.login.question; q.user != "" {
		c.w.p.answers.known.Remove(q)
	}
}

// leaveLookup tells the lookup that c does not wait for it any more.
func (c *Client) leaveLookup() {
	q, id, at := c.login.question, c.id, c.w.p.workerFor(c.login.question)
	at.loop.Post(func() {
		if k := at.lookups[q]; k != nil {
			k.leave(id)
		}
	})
}

// workerFor is where q is asked.
func (p *Pooler) workerFor(q question) *Worker {
	h := fnv.New32a()
	h.Write([]byte(q.name)) // a hash never fails
	return p.workers[h.Sum32()%uint32(len(p.workers))]
}

// lookUp joins the lookup of q, or begins it.
func (w *Worker) lookUp(q question, db *Database, a asker) {
	if known, ok := w.p.answers.get(q, w.now(), &w.p.Snapshot().Main); ok {
		a.tell(known) // it came while a was on its way
		return
	}
	if db.removed.Load() {
		a.tell(answer{err: wire.Fields{Severity: "FATAL", Code: codeProtocol, Message: reasonConfig}})
		return
	}
	if d := w.p.drain.Load(); d != nil && d.ending.Load() {
		return // a is gone
	}
	k := w.lookups[q]
	if k == nil {
		k = &lookup{question: q, db: db, w: w, began: w.now()}
		w.lookups[q] = k
		k.ask()
	}
	k.askers = append(k.askers, a)
}

// ask begins the lookup.
func (k *lookup) ask() {
	w := k.w
	s := w.shard(w.p.pool(k.db, k.question.user, 1))
	c := s.newInternal(k)
	// Nothing of the clients' gets to the server: it has, or is given back,
	// the parameters that it had after its login.
	if wel := s.pool.welcomed(); wel != nil {
		c.vars = wel.vars
	}
	c.newKey()
	k.client = c
	c.take(k.question.messages())
}

// messages are the request: the name is a parameter, and never part of the
// query's text.
func (q *question) messages() []byte {
	b, at := wire.Begin(nil, wire.Parse)
	b = wire.AppendString(b, "")
	b = wire.AppendString(b, q.query)
	b = wire.End(binary.BigEndian.AppendUint16(b, 0), at)
	b, at = wire.Begin(b, wire.Bind)
	b = append(b, 0, 0)                     // unnamed portal of the unnamed statement
	b = binary.BigEndian.AppendUint16(b, 0) // parameters are text
	b = binary.BigEndian.AppendUint16(b, 1) // there is one
	b = binary.BigEndian.AppendUint32(b, uint32(len(q.name)))
	b = append(b, q.name...)
	b = wire.End(binary.BigEndian.AppendUint16(b, 0), at) // results are text
	b, at = wire.Begin(b, wire.Describe)
	b = wire.End(append(b, 'P', 0), at)
	b, at = wire.Begin(b, wire.Execute)
	b = wire.End(append(b, 0, 0, 0, 0, 0), at)
	b, at = wire.Begin(b, wire.Sync)
	return wire.End(b, at)
}

// leave is told that the client with that id is gone. A lookup that nobody
// waits for gives up its place in the queue; one that has a server is let
// finish, so that strangers who leave don't close servers.
func (k *lookup) leave(id uint64) {
	k.askers = slices.DeleteFunc(k.askers, func(a asker) bool { return a.id == id })
	if len(k.askers) == 0 && k.client.state == ClientWaiting {
		delete(k.w.lookups, k.question) // whoever comes from now on asks anew
		k.client.disconnect(false, "nobody waits for the auth_query any more")
	}
}

// lonely is how long a server may work at an auth_query that nobody waits for.
const lonely = 5 * time.Second

// tickLookups ends lookups that take longer than a login may, or than they
// should when nobody waits for them. Each login has a timeout of its own; who
// came late has time left.
func (w *Worker) tickLookups(now wire.Time, main *configs.Main) {
	for _, k := range w.eachLookup() {
		if late(now, k.began, main.ClientLoginTimeout) || len(k.askers) == 0 && late(now, k.began, lonely) {
			k.late = true
			k.client.disconnect(false, "the auth_query took longer than client_login_timeout")
		}
	}
}

// eachLookup lists the lookups under way, the oldest first.
func (w *Worker) eachLookup() []*lookup {
	return slices.SortedFunc(maps.Values(w.lookups), func(a, b *lookup) int { return cmp.Compare(a.client.id, b.client.id) })
}

// dropLookups gives up all lookups, when nobody is left who may wait for them, and
// then ends the process.
func (p *Pooler) dropLookups() {
	var left atomic.Int32
	left.Store(int32(len(p.workers)))
	p.each(func(w *Worker) {
		w.dropLookups()
		if left.Add(-1) == 0 {
			p.leave()
		}
	})
}

// dropLookups gives up the lookups of w, at the end of a shutdown.
func (w *Worker) dropLookups() {
	for _, k := range w.eachLookup() {
		k.over, k.askers = true, nil
		k.finish()
	}
}

// Write implements wire.Conn: it takes what the server, or the pool, says.
func (k *lookup) Write(p []byte) {
	b := p
	if len(k.part) > 0 {
		k.part = append(k.part, p...)
		b = k.part
	}
	for !k.over {
		typ, size, ok, err := wire.Peek(b, maxLookup)
		if err != nil {
			k.bad = fmt.Sprintf("a message of the reply is longer than %d bytes", maxLookup)
			k.end()
			return
		}
		if !ok || size > len(b) {
			break
		}
		k.take(typ, b[wire.HeaderLen:size])
		b = b[size:]
	}
	k.part = append(k.part[:0], b...)
}

// take deals with one message.
func (k *lookup) take(typ byte, body []byte) {
	switch typ {
	case wire.RowDescription, wire.NoData:
		n := 0
		if typ == wire.RowDescription && len(body) >= 2 {
			n = int(binary.BigEndian.Uint16(body))
		}
		if n != 2 {
			k.bad = fmt.Sprintf("it returns %d columns, and must return two: the name and the secret", n)
		}
	case wire.DataRow:
		k.row(body)
	case wire.ErrorResponse:
		k.failed = true
		k.answer.err = wire.ParseFields(body)
	case wire.ReadyForQuery:
		k.replied = true
		k.end()
	}
}

// row deals with a DataRow. The last one counts.
func (k *lookup) row(body []byte) {
	if k.bad != "" {
		return
	}
	if len(body) < 2 || binary.BigEndian.Uint16(body) != 2 {
		k.bad = "a row does not have two columns"
		return
	}
	name, rest, ok := cutColumn(body[2:])
	secret, _, ok2 := cutColumn(rest)
	switch {
	case !ok || !ok2:
		k.bad = "a row is cut off"
	case name == nil: // as if there were no row
		k.answer.name, k.answer.secret = "", auth.Secret{}
	case len(name) == 0 || len(name) > maxUserName:
		k.bad = fmt.Sprintf("the name that it returns has %d bytes, and must have 1 to %d", len(name), maxUserName)
	default:
		k.answer.name, k.answer.secret = string(name), auth.ParseSecret(string(secret))
	}
}

// cutColumn cuts a value off the front of a DataRow, nil for NULL.
func cutColumn(b []byte) (v, rest []byte, ok bool) {
	if len(b) < 4 {
		return nil, nil, false
	}
	n := int32(binary.BigEndian.Uint32(b))
	b = b[4:]
	switch {
	case n == -1:
		return nil, b, true
	case n < 0 || int(n) > len(b):
		return nil, nil, false
	}
	return b[:n:n], b[n:], true
}

// Close implements wire.Conn: the pool gives the client up.
func (k *lookup) Close() { k.end() }

// Abort implements wire.Conn.
func (k *lookup) Abort() { k.end() }

// end has finish called once the pool is done with what it does.
func (k *lookup) end() {
	if !k.over {
		k.over = true
		k.w.loop.Post(k.finish)
	}
}

// finish tells all who asked.
func (k *lookup) finish() {
	w := k.w
	if w.lookups[k.question] == k { // and not the one that has followed it
		delete(w.lookups, k.question)
	}
	k.client.disconnect(false, "auth_query is done")
	if k.late && !k.replied {
		for _, asker := range k.askers {
			w.lookUp(k.question, k.db, asker)
		}
		return
	}
	a := k.answer
	a.at = w.now()
	var said wire.Fields
	switch {
	case k.bad != "":
	case k.replied && k.failed:
		k.bad = "the server says: " + a.err.Message
	case k.replied:
		w.p.answers.known.Add(k.question, a)
	case k.failed: // the pool's own words: a timeout, a server that can't be had
		said = a.err
		k.bad = strings.TrimSuffix(said.Message+": "+said.Detail, ": ")
	default:
		k.bad = "it was ended before it was answered"
	}
	if k.bad != "" {
		if len(k.askers) == 0 {
			return // gone, and so is the lookup
		}
		a = answer{err: forStranger(said)}
		w.p.log.Log(Error, k.client.prefix(), fmt.Sprintf("auth_query about user %q in database %q failed: %s", k.question.name, k.question.database, k.bad))
	}
	for _, asker := range k.askers {
		asker.tell(a)
	}
}

// lookup is the lookup that c is the pool's client for, nil for one with a
// socket.
func (c *Client) lookup() *lookup {
	k, _ := c.conn.(*lookup)
	return k
}
