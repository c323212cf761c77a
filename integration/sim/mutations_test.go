package sim

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var mutationsFlag = flag.Int("mutations", 0, "TestMutations: how many seeds may pass before a broken pooler is noticed; 0: don't test")

// mutation is a rule of the pooler, broken: find, which must be there once, is
// replaced.
type mutation struct {
	name, file    string
	find, replace string
}

var mutations = []mutation{
	{
		"a server is released within a transaction", "pool/reply.go",
		"v.ledger.clear() && v.status == wire.TxIdle && c.remain == 0 && !c.throttled", "v.ledger.clear() && c.remain == 0 && !c.throttled",
	},
	{
		"a server is released with replies owed", "pool/reply.go",
		"c != nil && v.ledger.clear() && v.status", "c != nil && v.status",
	},
	{
		"a server is released before the Sync", "pool/ledger.go",
		"	l.unsynced = true\n", "",
	},
	{
		"a cancel request goes to whoever has the server by now", "pool/cancel.go",
		"return r.target.server == r.server && ", "return true || ",
	},
	{
		"a cancel request may reach the next client's query", "pool/server.go",
		"case v.cancels > 0:", "case v.cancels < 0:",
	},
	{
		"a freed slot wakes nobody", "pool/slots.go",
		"	wakeShards(next)\n	p.wakeStarved()\n}\n\n// wakeStarved", "	wakeShards(next)\n}\n\n// wakeStarved",
	},
	{
		"a loop that has no server to lend does not say so", "pool/shard.go",
		"		to.asked = false\n		to.provide()\n", "		to.provide()\n",
	},
	{
		"an idle server is not offered to other loops", "pool/pool.go",
		"j != i && t != 0 && (since == 0", "j != i && t < 0 && (since == 0",
	},
	{
		"pool_size is off by one", "pool/slots.go",
		"reserved := set.PoolSize > 0 && q.open >= set.PoolSize\n", "reserved := set.PoolSize > 0 && q.open > set.PoolSize\n",
	},
	{
		"max_db_connections is off by one", "pool/slots.go",
		"q.db.open >= set.MaxDBConnections", "q.db.open > set.MaxDBConnections",
	},
	{
		"max_user_connections is off by one", "pool/slots.go",
		"q.user.open >= set.MaxUserConnections", "q.user.open > set.MaxUserConnections",
	},
	{
		"a budget is off by one", "pool/budget.go",
		"return b.room(a.now) > b.rank(a.shard)\n", "return b.room(a.now) >= b.rank(a.shard)\n",
	},
	{
		"idle servers of other pools are never closed for a budget", "pool/share.go",
		"		if wanted {\n", "		if wanted && b.limit < 0 {\n",
	},
	{
		"a BindComplete is not taken off the ledger", "pool/ledger.go",
		"return swallow, l.popIf(owedBind)", "return swallow, true",
	},
	{
		"an error does not skip to the Sync", "pool/ledger.go",
		"	for l.n > 0 && l.first()&owedKind != owedSync {\n", "	for dropped := false; l.n > 0 && !dropped; dropped = true {\n",
	},
	{
		"the Syncs that a COPY ignores are still owed", "pool/ledger.go",
		"ok = l.copying != copyIn || l.endCopy()", "ok = true",
	},
	{
		"a failed COPY leaves no doubt", "pool/ledger.go",
		"	if in && l.dropSyncs() {", "	if in && l.dropSyncs() && false {",
	},
	{
		"a server keeps the parameters of the last client", "pool/job.go",
		"	if c.vars == v.vars && c.extras == v.extras && !v.strayed {\n		return false\n", "	if v.status == wire.TxIdle {\n		return false\n",
	},
	{
		"a session is not reset", "pool/server.go",
		"main.ServerResetQuery != \"\" && (s.pool.session()", "main.ServerResetQuery == \"-\" && (s.pool.session()",
	},
	{
		"waiters are served newest first", "pool/client.go",
		"		l.pushBack(c)\n", "		l.pushFront(c)\n",
	},
	{
		"an error is told in the middle of a message", "pool/server.go",
		"c.disconnect(!v.torn(), reason)", "c.disconnect(true, reason)",
	},
	{
		"a client that took its replies is not read again", "pool/client.go",
		"	if c.full {\n		c.full = false\n", "	if c.full {\n",
	},
	{
		"a server for replication is released", "pool/reply.go",
		" &&\n		v.replication == replicatesNot", "",
	},
	{
		"a server for replication stays when its client leaves", "pool/server.go",
		"	case v.replication != replicatesNot:\n", "	case false:\n",
	},
	{
		"a slot is lost with a server that crashes", "pool/server.go",
		"	if !lingers {\n		s.w.p.free(", "	if !lingers && reason != \"server conn crashed?\" {\n		s.w.p.free(",
	},
	{
		"a server is not told the statements that it lacks", "pool/prepared.go",
		"	if !st.private && v.prepared.has(st) {\n		return out\n", "	if st.parse != nil {\n		return out\n",
	},
	{
		"a statement of SQL is not told to a server that lacks it", "pool/sqlnames.go",
		"	if r.has(st) {\n		return true\n", "	if r.has(st) || st.tail != \"\" {\n		return true\n",
	},
	{
		"a client goes on before it is known what a PREPARE did", "pool/request.go",
		"|| v.pending != nil && m.owes != 0", "|| v.pending != nil && m.owes == owedFunction",
	},
	{
		"a PREPARE that failed is not undone", "pool/prepared.go",
		"		case refRegister, refBoth:\n			c.forget(r.name)\n", "		case refRegister:\n			c.forget(r.name)\n",
	},
	{
		"a name that was deallocated is kept", "pool/sqlnames.go",
		"	if r.what == refDrop && c.names[r.name] == r.st {\n", "	if r.what == refDrop && c.names[r.name] == nil {\n",
	},
	{
		"a batch is asked again though an answer was told", "pool/reply.go",
		"		v.again = v.again[:0] // an answer is told\n", "		_ = v.again\n",
	},
	{
		"a batch is asked again with others behind it", "pool/again.go",
		"|| l.n != 1 ||", "|| l.n < 1 ||",
	},
	{
		"a statement is used though its rows may be others than its client was told", "pool/shape.go",
		"st.told() == 0 || c.server", "st.told() != 1 || c.server",
	},
	{
		"a statement is used though its rows are others than its client was told", "pool/shape.go",
		"(e == nil || e.shape != st.told())", "e == nil",
	},
	{
		"a statement that nobody has any more is kept", "pool/statements.go",
		"st.holders == 0 && t.byKey", "st.holders < 0 && t.byKey",
	},
	{
		"what is executed makes room for what executes it", "pool/prepared.go",
		"limit = max(limit, 2)", "limit = max(limit, 1)",
	},
	{
		"a cancel request does not wait until its query is under way", "pool/cancel.go",
		"	if wait <= 0 {\n", "	if wait <= underway {\n",
	},
	{
		"an unnamed statement is anybody's", "pool/unnamed.go",
		`(v.bareOf != c.id || v.bare == nil || v.bare != c.names[""])`, "(v.bareOf != c.id && false)",
	},
	{
		"a login counts for ever", "pool/seat.go",
		"	t.count(0, -1, 0)\n", "",
	},
	{
		"a drain does not wait for the end of a transaction", "pool/drain.go",
		"v.status == wire.TxIdle && v.ledger", "v.ledger",
	},
	{
		"a buffer is given back before it was read", "pool/client.go",
		"		c.take(b)\n		c.w.drop(b)\n", "		c.w.drop(b)\n		c.take(b)\n",
	},
	{
		"a cancel request whose outcome is unknown is forgotten", "pool/cancel.go",
		"if err != nil && v.state != ServerClosed {", "if err != nil && v.state == ServerClosed {",
	},
	{
		"a farewell gives its slot away at once", "pool/farewell.go",
		"	if !limited {\n", "	if limited || !limited {\n",
	},
	{
		"a farewell never ends", "pool/farewell.go",
		"		if now >= f.until {\n", "		if now < f.until-f.until {\n",
	},
	{
		"an unnamed statement is lost by any error", "pool/unnamed.go",
		"	if !l.lostBare {\n", "	if l.n < 0 {\n",
	},
}

// TestMutationsApply checks that each rule that is to be broken stands where it is
// looked for, once.
func TestMutationsApply(t *testing.T) {
	for _, m := range slices.Concat(mutations, shareMutations, ruleMutations) {
		text, err := os.ReadFile(filepath.Join("../..", m.file))
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), m.find); n != 1 {
			t.Errorf("%s: %q is %d times in %s", m.name, m.find, n, m.file)
		}
	}
}

// TestMutations breaks the pooler in a copy of the module, one rule at a time,
// and expects the simulator to notice.
func TestMutations(t *testing.T) {
	noticed := regexp.MustCompile(`seed (\d+ failed .*)|panic: test timed out`)
	testMutations(t, mutations, noticed, "-timeout=2m", "./integration/sim", "-run", "TestSeeds", "-args", fmt.Sprintf("-seeds=%d", *mutationsFlag), "-failures=1")
}

// testMutations breaks the rules in a copy of the module, one at a time, and
// expects `go test` with the given arguments to fail, with words that match
// noticed.
func testMutations(t *testing.T, list []mutation, noticed *regexp.Regexp, args ...string) {
	if *mutationsFlag == 0 {
		t.Skip("no -mutations")
	}
	dir := t.TempDir()
	for _, part := range []string{"go.mod", "go.sum", "wire", "auth", "configs", "pool", "integration/sim", "integration/certificates"} {
		copyTree(t, filepath.Join("../..", part), filepath.Join(dir, part))
	}
	for _, m := range list {
		t.Run(strings.ReplaceAll(m.name, " ", "_"), func(t *testing.T) {
			path := filepath.Join(dir, m.file)
			good, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(strings.Replace(string(good), m.find, m.replace, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			defer os.WriteFile(path, good, 0o600)
			cmd := exec.Command("go", append([]string{"test", "-vet=off", "-count=1"}, args...)...)
			cmd.Dir = dir
			out, err := cmd.CombinedOutput()
			found := noticed.Find(out)
			switch {
			case err == nil:
				t.Error("not noticed")
			case found == nil:
				t.Errorf("no run at all: %s", out)
			default:
				t.Logf("noticed: %s", found)
			}
		})
	}
}

// copyTree copies a file or folder.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if d.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
			return err
		}
		return os.WriteFile(target, content, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}
