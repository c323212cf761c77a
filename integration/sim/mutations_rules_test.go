package sim

import (
	"regexp"
	"testing"
)

// ruleMutations break rules of which a run of the simulator sees too little, one
// at a time: of hosts and passwords, of what texts mean, of what is rare. The
// tests of package pool must notice each.
var ruleMutations = []mutation{
	{
		"a statement is shared whatever its client's search_path", "pool/meaning.go",
		"	addIf(true, \"search_path\")\n", "	addIf(false, \"search_path\")\n",
	},
	{
		"a statement is shared whatever its client's dates look like", "pool/meaning.go",
		"literals := sql.MayHaveLiterals(text)", "literals := sql.MayHaveLiterals(text) && false",
	},
	{
		"a statement is shared whatever a backslash means", "pool/meaning.go",
		"addIf(bytes.IndexByte(text, '\\\\') >= 0, ", "addIf(bytes.IndexByte(text, '\\\\') >= 0 && false, ",
	},
	{
		"a statement is shared whatever its client has asked for at login", "pool/meaning.go",
		"if slices.Contains(extrasOfMeaning[:], e.Name) {", "if false && slices.Contains(extrasOfMeaning[:], e.Name) {",
	},
	{
		"a role query that fails speaks for the whole host", "pool/role.go",
		"	case v.jobError != \"\" || v.status != wire.TxIdle:\n", "	case false:\n",
	},
	{
		"a busy server is never asked what it is", "pool/server.go",
		"if v.state == ServerLoose && v.roleDue() {", "if v.state == ServerLoose && v.roleDue() && false {",
	},
	{
		"a silent server is waited for", "pool/role.go",
		"	if !v.probed() || !late(", "	if true || !v.probed() || !late(",
	},
	{
		"a password is tried over any connection", "pool/passthrough.go",
		"	case !c.unix && !c.encrypted():\n", "	case false:\n",
	},
	{
		"a password is right that is not the one known", "pool/passthrough.go",
		"		case !fits:\n			c.try(nil)", "		case !fits && false:\n			c.try(nil)",
	},
	{
		"a password is right for ever", "pool/passthrough.go",
		"		case late(c.w.now(), ", "		case false && late(c.w.now(), ",
	},
	{
		"a password that was refused is tried again at once", "pool/passthrough.go",
		"		if w.p.guesses.refused(l.tried, w.now()) {", "		if false && w.p.guesses.refused(l.tried, w.now()) {",
	},
	{
		"a cancel request that waits is forgotten", "pool/cancel.go",
		"		s.w.loop.Post(func() { r.finishOr(from, s.cancelIfMeant(r, from)) })\n", "		_ = s.w.loop\n",
	},
	{
		"a query counts as sent before the parameters are told", "pool/job.go",
		"		v.since = w.now() // the query is sent now, which cancelUnderway has to know\n", "",
	},
	{
		"a server that is not what the entry wants any more is kept", "pool/role.go",
		"	case !v.fits:\n", "	case !v.fits && false:\n",
	},
	{
		"the other servers of its host are kept", "pool/role.go",
		"				v.retired = true\n", "				_ = v.retired\n",
	},
	{
		"a waiter is not dequeued by its cancel", "pool/cancel.go",
		"		t.cancelWaiting()\n", "",
	},
	{
		"a farewell's servers are not counted as leaving", "pool/farewell.go",
		"	q.count(0, 1)\n	f.seat.count(0, 0, 1)\n", "",
	},
	{
		"several servers say goodbye for one client", "pool/slots.go",
		"leaving || other.leaving > 0", "leaving || other.leaving < 0",
	},
	{
		"a server of a removed pool that says goodbye is forgotten", "pool/slots.go",
		"leaving || s.leaving > 0", "leaving || s.leaving < 0",
	},
	{
		"a drain ends a client before its turn", "pool/drain.go",
		"c.betweenTransactions() && c.w.now() >= d.turn(c.id)", "c.betweenTransactions()",
	},
	{
		"a drain ends a client that logs in before its turn", "pool/drain.go",
		"now >= d.turn(c.id) && !c.login.console", "!c.login.console",
	},
	{
		"a drain ends a client that waits for its welcome before its turn", "pool/drain.go",
		"c.lookup() == nil && now >= d.turn(c.id)", "c.lookup() == nil",
	},
	{
		"a drain ends a client whose input is half sent", "pool/drain.go",
		"c.held != nil || c.remain > 0 ||", "c.remain > 0 ||",
	},
	{
		"a drain ends a client whose message is passing through", "pool/drain.go",
		"c.held != nil || c.remain > 0 ||", "c.held != nil ||",
	},
	{
		"servers do not follow their pool to another plan", "pool/seat.go",
		"		if t.place == server {\n", "		if t.place == server && t.open == 0 {\n",
	},
	{
		"what is left of a removed entry keeps the plan of before", "pool/seat.go",
		"			left.Plan = cmp.Or(p.Snapshot().Plans[left.Plan.Name], left.Plan)\n", "			left.Plan = cmp.Or(left.Plan, left.Plan)\n",
	},
	{
		"an unnamed statement is found twice elsewhere", "pool/unnamed.go",
		"		v.bindBare(m)\n		c.forget(\"\")\n	}\n", "		v.bindBare(m)\n	}\n",
	},
	{
		"an unnamed statement is found twice", "pool/unnamed.go",
		"		v.bindBare(m)\n		c.forget(\"\")\n		return nil\n", "		v.bindBare(m)\n		return nil\n",
	},
	{
		"a batch is not asked again if the server says something of itself", "pool/reply.go",
		" && v.pending != askingAgain {", " {",
	},
	{
		"a slot on its way is forgotten while no server is idle here", "pool/shard.go",
		"blocked = s.blocked && s.w.p.vacating(s.pool)", "blocked = false",
	},
}

// TestRuleMutations is TestMutations for those.
func TestRuleMutations(t *testing.T) {
	noticed := regexp.MustCompile(`--- FAIL: Test\S+|panic: .*`)
	testMutations(t, ruleMutations, noticed, "-timeout=60s", "./pool")
}
