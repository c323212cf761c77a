package sim

import (
	"regexp"
	"testing"
)

// shareMutations break the rules of budgets, one at a time. The tenants of
// pool's TestShare, which are a simulation too, must notice each; that nobody
// hears what only the next tick would tell is TestSeeker's to notice.
var shareMutations = []mutation{
	{
		"a budget is off by one", "pool/budget.go",
		"return b.open < b.limit\n", "return b.open <= b.limit\n",
	},
	{
		"a budget with claims is off by one", "pool/budget.go",
		"return b.room(a.now) > b.rank(a.shard)\n", "return b.room(a.now) >= b.rank(a.shard)\n",
	},
	{
		"no idle server is closed for another tenant", "pool/share.go",
		"return !q.waits() && (now.Sub(since) >= rest || q.overdue(now))", "return false",
	},
	{
		"whoever asks first gets the seat", "pool/budget.go",
		"return b.room(a.now) > b.rank(a.shard)\n", "return b.room(a.now) > 0\n",
	},
	{
		"the last to have got a seat gets the next", "pool/budget.go",
		"cmp.Compare(s.pool.gained.Load(), o.pool.gained.Load())", "cmp.Compare(o.pool.gained.Load(), s.pool.gained.Load())",
	},
	{
		"there are no turns", "pool/share.go",
		"size > n+1 || size == n+1 && q.overdue(now)", "size > n+1",
	},
	{
		"nobody gives up what is beyond the share", "pool/share.go",
		"n != claimNone && q.richer", "n == claimAll && q.richer",
	},
	{
		"a goodbye counts for ever", "pool/slots.go",
		"t.count(-1, 0, -leaving)", "t.count(leaving-1, 0, -leaving)",
	},
	{
		"a server that was told to end does not count", "pool/farewell.go",
		"	if !limited {\n", "	if limited {\n",
	},
	{
		"who comes to be unmet is not told", "pool/budget.go",
		"b.seeker, b.news = s, s != nil", "b.seeker, b.news = s, false",
	},
	{
		"a refusal never ends", "pool/refusal.go",
		"in > r.most {", "in < r.most {",
	},
	{
		"nobody tries again after a refusal", "pool/refusal.go",
		"return r != nil && r.most < b.limit && now >= r.until", "return false",
	},
	{
		"a refusal has no back-off", "pool/refusal.go",
		"r.until = now.Add(backoff(r.count))", "r.until = now",
	},
	{
		"after a refusal many try at once", "pool/budget.go",
		"		n++\n	}\n	return n\n", "		n += 3\n	}\n	return n\n",
	},
}

// TestShareMutations is TestMutations for budgets.
func TestShareMutations(t *testing.T) {
	noticed := regexp.MustCompile(`(?:share|budget)_test.go:\d+: .*|panic: .*`)
	testMutations(t, shareMutations, noticed, "-timeout=20s", "./pool", "-run", "^TestShare|^TestSeeker$")
}
