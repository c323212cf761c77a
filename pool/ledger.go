package pool

import "github.com/pgweir/pgweir/wire"

// owed is one reply that a server owes: what was asked, and what is to be done
// with the answer.
type owed uint8

// What was asked. Zero is no entry.
const (
	owedQuery owed = iota + 1
	owedFunction
	owedSync
	owedParse
	owedBind
	owedDescribe
	owedExecute
	owedClose
	// owedCopyEnd stands for a CopyDone or CopyFail. It is owed no reply: it
	// marks how far a COPY reaches, for the server ignores every Sync before
	// it.
	owedCopyEnd

	owedKind    owed = 0x0f
	owedSwallow owed = 0x10 // the answer is pgweir's own, and goes to nobody
	owedProbe   owed = 0x20 // with owedQuery|owedSwallow: see ledger.doubt
	owedRef     owed = 0x40 // the next of ledger.refs belongs to it
	owedLocal   owed = 0x80 // the server was not asked: pgweir answers when it is the oldest
)

// ref is what an entry means for prepared statements: what was taken for
// granted when the message was sent, and is undone if the server ignores it.
type ref struct {
	st   *statement
	name string // the client's name for it, if the client is concerned
	what refKind
	was  *statement // what name meant, if that is another: see renew
	own  bool       // within sql: a statement of pgweir's own
	sql  *sqlWork   // a Query that was rewritten
}

type refKind uint8

const (
	refUse      refKind = iota // it is used: nothing to undo
	refRegister                // the client has the name, if it had not been there
	refPrepare                 // the server has the statement
	refBoth                    // refRegister and refPrepare
	refForget                  // the client has the name no more
	refEvict                   // the server has the statement no more
	refDrop                    // neither client nor server have it any more
	refAll                     // neither has any more
	refStray                   // the server has one that is nobody's
)

// ledger is the queue of replies a server owes, oldest first, and what follows
// from it. It alone decides when a server may be given to somebody else.
//
// The rules are those of the protocol manual's chapters "Message Flow" and
// "Extended Query":
//   - A Query or FunctionCall is answered by anything up to a ReadyForQuery.
//   - Parse, Bind, Describe, Execute and Close are answered by one message
//     each (Execute by many and a last one), Sync by a ReadyForQuery.
//   - After an error in one of the five the server ignores everything up to
//     the next Sync.
//   - While it takes in a COPY the server ignores Sync and Flush.
//
// The zero ledger is that of a fresh server: nothing owed.
type ledger struct {
	ring  []owed // power of two long, or nil; small is its first home
	small [16]owed
	head  int // index of the oldest entry
	n     int // entries

	// skipping is set while the server ignores everything up to a Sync that
	// was not sent yet.
	skipping bool

	// unsynced is set while messages of the extended protocol were answered
	// and no Sync has ended what they began: the server may be in a
	// transaction that no ReadyForQuery tells of.
	unsynced bool

	// refs are those of the entries with owedRef, in the same order, from
	// refs[refAt] on. undone are those of the entries that an error has just
	// dropped, oldest first: whoever told the ledger of the error undoes them.
	refs   []ref
	refAt  int
	undone []ref

	// changes counts the refs that are no refUse, and settling those of them
	// that a Sync or Query follows: what they have changed is uncertain for
	// what is sent behind that, for an error may still undo it.
	changes  int
	settling int

	// blamed is set if the last error was the answer to undone's first, and
	// lostBare if it may have cost the server its unnamed statement.
	blamed, lostBare bool

	// copying is what the head is in the middle of.
	copying copyMode

	// doubt is set when a COPY failed with Syncs already under way before its
	// end: whether the server ignored them or will answer them can't be told
	// from outside. The server is then asked an empty query of pgweir's own
	// (owedProbe) as soon as it would otherwise be free: whatever
	// ReadyForQuery comes before the empty query's answer belongs to the
	// client.
	doubt bool
}

type copyMode uint8

const (
	copyNone copyMode = iota
	copyIn
	copyOut
	copyBoth
)

func copyModeOf(typ byte) copyMode {
	switch typ {
	case wire.CopyInResponse:
		return copyIn
	case wire.CopyOutResponse:
		return copyOut
	}
	return copyBoth
}

// maxOwed bounds a ledger, and with it what a client may send without reading
// the replies. A client that reaches it is not read until half is answered.
const maxOwed = 1 << 14

// push notes that a message of kind e goes to the server now.
func (l *ledger) push(e owed) {
	if l.skipping {
		if e&owedKind != owedSync {
			return
		}
		l.skipping = false
	}
	if kind := e & owedKind; kind == owedSync || kind == owedQuery || kind == owedFunction {
		l.settling = l.changes
	}
	if e == owedCopyEnd && l.copying != copyIn && l.n == 0 {
		return // a late one: the server ignores it
	}
	if l.n == len(l.ring) {
		l.grow()
	}
	l.ring[(l.head+l.n)&(len(l.ring)-1)] = e
	l.n++
}

func (l *ledger) grow() {
	if l.ring == nil {
		l.ring = l.small[:]
		return
	}
	bigger := make([]owed, 2*len(l.ring))
	for i := range l.n {
		bigger[i] = l.get(i)
	}
	l.ring, l.head = bigger, 0
}

func (l *ledger) get(i int) owed { return l.ring[(l.head+i)&(len(l.ring)-1)] }

// first is the oldest entry, zero if there is none.
func (l *ledger) first() owed {
	if l.n == 0 {
		return 0
	}
	return l.ring[l.head]
}

// pushRef is push for an entry with a ref. It must not be called while the
// server ignores what it is sent.
func (l *ledger) pushRef(e owed, r ref) {
	l.refs = append(l.refs, r)
	l.push(e | owedRef)
	if r.what != refUse {
		l.changes++
	}
}

// takeRef takes out the oldest ref.
func (l *ledger) takeRef() ref {
	r := l.refs[l.refAt]
	if r.what != refUse {
		l.changes--
		l.settling = max(l.settling-1, 0)
	}
	l.refs[l.refAt] = ref{}
	if l.refAt++; l.refAt == len(l.refs) {
		l.refs, l.refAt = l.refs[:0], 0
	}
	return r
}

// work is that of the oldest entry, nil if that is no Query which was rewritten.
func (l *ledger) work() *sqlWork {
	if l.first()&(owedKind|owedRef) != owedQuery|owedRef {
		return nil
	}
	return l.refs[l.refAt].sql
}

// bareParse reports whether e may be for a Parse of the unnamed statement: those
// of others mostly have a ref.
func (e owed) bareParse() bool { return e&owedKind == owedParse && e&(owedRef|owedLocal) == 0 }

// local reports whether the oldest entry is one that pgweir answers.
func (l *ledger) local() bool { return l.n > 0 && l.ring[l.head]&owedLocal != 0 }

// pop takes the oldest entry off, which was answered, and with it the ends of
// COPYs that came too late: the server ignores them.
func (l *ledger) pop() {
	if l.ring[l.head]&owedRef != 0 {
		l.takeRef()
	}
	l.shift()
	for l.n > 0 && l.first() == owedCopyEnd {
		l.shift()
	}
}

// culprit is the ref of the message to which the last error was the answer, zero
// if it had none.
func (l *ledger) culprit() ref {
	if !l.blamed || len(l.undone) == 0 {
		return ref{}
	}
	return l.undone[0]
}

// drop takes the oldest entry off, which the server ignores.
func (l *ledger) drop() {
	if l.ring[l.head]&owedRef != 0 {
		l.undone = append(l.undone, l.takeRef())
	}
	l.shift()
}

func (l *ledger) shift() {
	l.head = (l.head + 1) & (len(l.ring) - 1)
	if l.n--; l.n == 0 && len(l.ring) > len(l.small) {
		l.ring, l.head = l.small[:], 0 // give a burst's memory back
	}
}

// clear reports whether nothing is owed and no COPY is open: the condition for
// giving the server away, together with a ReadyForQuery that said 'I'.
func (l *ledger) clear() bool {
	return l.n == 0 && !l.skipping && !l.unsynced && l.copying == copyNone && !l.doubt
}

// answered takes a message of type typ, other than ReadyForQuery, from the
// server into account. to tells whose it is. ok is false if the message can't
// be an answer to what was asked: then nothing about the server is certain any
// more and it must be closed.
func (l *ledger) answered(typ byte) (swallow, ok bool) {
	head := l.first()
	kind := head & owedKind
	swallow = head&owedSwallow != 0
	switch typ {
	case wire.DataRow, wire.CopyData:
		return swallow, kind == owedQuery || kind == owedExecute
	case wire.CopyDone:
		ok = l.copying != copyNone
		if l.copying == copyOut {
			l.copying = copyNone // BASE_BACKUP has one after the other
		}
		return swallow, ok
	case wire.RowDescription, wire.NoData:
		if kind == owedDescribe {
			return swallow, l.popIf(owedDescribe)
		}
		return swallow, kind == owedQuery && typ == wire.RowDescription
	case wire.ParameterDescription:
		return swallow, kind == owedDescribe
	case wire.CommandComplete, wire.EmptyQueryResponse, wire.PortalSuspended:
		if kind != owedExecute && kind != owedQuery {
			return swallow, false
		}
		if head&owedProbe != 0 {
			l.doubt = false
		}
		ok = l.copying != copyIn || l.endCopy()
		l.copying = copyNone
		if kind == owedExecute {
			l.popIf(owedExecute)
		}
		return swallow, ok
	case wire.ParseComplete:
		return swallow, l.popIf(owedParse)
	case wire.BindComplete:
		return swallow, l.popIf(owedBind)
	case wire.CloseComplete:
		return swallow, l.popIf(owedClose)
	case wire.FunctionCallResponse:
		return swallow, kind == owedFunction
	case wire.CopyInResponse, wire.CopyOutResponse, wire.CopyBothResponse:
		if l.copying != copyNone || kind != owedQuery && kind != owedExecute {
			return swallow, false
		}
		l.copying = copyModeOf(typ)
		return swallow, true
	case wire.ErrorResponse:
		l.failed(kind)
		// A Parse of pgweir's own fails for the Bind that it was sent for.
		return swallow && kind == owedQuery, true
	}
	return false, false
}

// popIf takes the oldest entry off, which must be a message of the extended
// protocol of that kind that was answered.
func (l *ledger) popIf(kind owed) bool {
	if l.first()&owedKind != kind {
		return false
	}
	l.unsynced = true
	l.pop()
	return true
}

// endCopy drops what the server ignored while it took in the COPY of the oldest
// entry, which succeeded: every Sync before the CopyDone, and that.
func (l *ledger) endCopy() bool {
	l.dropSyncs()
	if l.n < 2 || l.get(1) != owedCopyEnd {
		return false // no CopyDone was sent, and yet the COPY succeeded
	}
	l.dropSecond()
	return true
}

// dropSyncs drops the Syncs that follow the oldest entry directly. It reports
// whether there were any.
func (l *ledger) dropSyncs() (found bool) {
	for l.n > 1 && l.get(1)&owedKind == owedSync {
		l.dropSecond()
		found = true
	}
	return found
}

// dropSecond takes out the entry behind the oldest one.
func (l *ledger) dropSecond() {
	l.ring[(l.head+1)&(len(l.ring)-1)] = l.ring[l.head]
	l.shift()
}

// failed takes an ErrorResponse to the entry of the given kind into account.
func (l *ledger) failed(kind owed) {
	in := l.copying == copyIn
	l.copying = copyNone
	if in && l.dropSyncs() {
		l.doubt = true // the COPY may have swallowed them
	}
	l.blamed, l.lostBare = false, false
	switch kind {
	case 0, owedQuery, owedFunction, owedSync:
		return // a ReadyForQuery ends it
	}
	l.blamed = l.first()&owedRef != 0
	for l.n > 0 && l.first()&owedKind != owedSync {
		l.lostBare = l.lostBare || l.first().bareParse()
		l.drop()
	}
	l.skipping = l.n == 0
}

// ready takes a ReadyForQuery into account.
func (l *ledger) ready() (swallow, ok bool) {
	head := l.first()
	switch head & owedKind {
	case owedQuery, owedSync, owedFunction:
		if head&owedProbe != 0 && l.doubt {
			return false, true // a Sync that the failed COPY had not ignored
		}
		l.unsynced = false
		l.pop()
		return head&owedSwallow != 0, l.copying == copyNone
	case 0:
		// Only a Sync that the failed COPY had not ignored answers here, and
		// the server ignores nothing any more.
		l.skipping, l.unsynced = false, false
		return false, l.doubt
	}
	return false, false
}

// uncertain reports whether only a probe can tell if the server is free.
func (l *ledger) uncertain() bool { return l.doubt && l.n == 0 }
