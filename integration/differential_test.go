package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgweir/pgweir/integration/postgres"
)

// TestRandomScripts plays scripts of random messages directly and through the
// pooler, many at a time over three servers that keep four statements each, and
// wants the same answers. PGWEIR_SCRIPTS=n plays so many, and
// PGWEIR_SCRIPT=seed that one alone.
func TestRandomScripts(t *testing.T) {
	begin(t)
	if suite.pgbouncer {
		t.Skip("PgBouncer has no statements of SQL, and ends sessions for what Postgres calls an error")
	}
	const together = 12
	first, scripts := 1, 40
	if n, err := strconv.Atoi(os.Getenv("PGWEIR_SCRIPTS")); err == nil {
		scripts = n
	}
	if n, err := strconv.Atoi(os.Getenv("PGWEIR_SCRIPT")); err == nil {
		first, scripts = n, 1
	}
	db := ownPostgres(t)
	// Who gets a statement that its server has already does not hear again what
	// Postgres thinks of its strings.
	if err := db.Exec(testContext(t), "alter database "+postgres.Database+" set escape_string_warning = off"); err != nil {
		t.Fatal(err)
	}
	p := startPooler(t, config(db, postgres.Database, map[string]string{
		"pool_mode": "transaction", "default_pool_size": "3", "max_prepared_statements": "4",
	}))
	base := atRest(t, p, postgres.Database)
	// difference is nothing if a script has the same answers both ways.
	difference := func(lines []line, cut int) string {
		ctx, cancel := context.WithTimeout(context.Background(), patience/2)
		defer cancel()
		s, err := makeScript(lines)
		if err != nil {
			return err.Error()
		}
		want, err := s.play(ctx, db, fmt.Sprintf("%s:%d", db.Host, db.Port), postgres.Superuser, 0)
		if err != nil {
			return directly + err.Error()
		}
		got, err := s.play(ctx, db, fmt.Sprintf("%s:%d", p.Host, p.Port), user, cut)
		if err != nil {
			return err.Error()
		}
		return differAsFar(batches(got), batches(want))
	}
	seeds := make(chan int)
	var mu sync.Mutex
	var wrong []int // seeds
	var players sync.WaitGroup
	for range together {
		players.Go(func() {
			for seed := range seeds {
				lines, cut := randomScript(seed)
				if d := difference(lines, cut); d != "" {
					mu.Lock()
					wrong = append(wrong, seed)
					mu.Unlock()
					t.Errorf("seed %d: %s\n%s", seed, d, show(lines))
				}
			}
		})
	}
	for seed := first; seed < first+scripts && !t.Failed(); seed++ {
		seeds <- seed
	}
	close(seeds)
	players.Wait()
	if len(wrong) > 0 {
		seed := wrong[0]
		lines, cut := randomScript(seed)
		least := shrink(lines, func(lines []line) bool {
			d := difference(lines, cut)
			return d != "" && !strings.HasPrefix(d, directly)
		})
		t.Logf("seed %d, as short as it gets: %s\n%s", seed, difference(least, cut), show(least))
	}
	base.check(t)
}

// directly begins what is said of a script that makes no sense.
const directly = "directly to Postgres: "

// shrink leaves out lines as long as what is left is still wrong, and there is
// time.
func shrink(lines []line, wrong func([]line) bool) []line {
	until := time.Now().Add(patience)
	for size := len(lines) / 2; size > 0; size /= 2 {
		for i := len(lines) - size; i >= 0 && time.Now().Before(until); i -= size {
			if less := slices.Delete(slices.Clone(lines), i, i+size); wrong(less) {
				lines = less
			}
		}
	}
	return lines
}

// A line is one of a script: a message and its arguments, or "await" for all
// that is due.
type line []string

func (l line) String() string {
	text := l[0]
	for _, word := range l[1:] {
		switch _, err := strconv.Atoi(word); {
		case word == null:
			text += " NULL"
		case err == nil && l[0] != "Bind":
			text += " " + word
		default:
			text += " " + strconv.Quote(word)
		}
	}
	return text
}

func show(lines []line) string {
	var b strings.Builder
	for i, l := range lines {
		fmt.Fprintf(&b, "%4d  %v\n", i+1, l)
	}
	return b.String()
}

func makeScript(lines []line) (*script, error) {
	s := &script{}
	due := 0 // ReadyForQuery messages
	for i, l := range append(lines, line{"Sync"}, line{"await"}) {
		if l[0] == "await" {
			s.steps = append(s.steps, step{line: i + 1, await: strings.Repeat("Z", due)})
			due = 0
			continue
		}
		message, err := encode(l)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		s.steps = append(s.steps, step{line: i + 1, send: message})
		if l[0] == "Query" || l[0] == "Sync" {
			due++
		}
	}
	return s, nil
}

// batches cuts replies behind each ReadyForQuery, and leaves out what need not
// be the same: ParameterStatus messages, for a client hears of its own changes
// alone, and in errors the place in the source of Postgres.
func batches(replies []reply) (all [][]reply) {
	var batch []reply
	for _, r := range replies {
		switch r.typ {
		case 'S':
			continue
		case 'E':
			fields := strings.Split(string(r.body), "\x00")
			fields = slices.DeleteFunc(fields, func(f string) bool { return f != "" && strings.Contains("FLR", f[:1]) })
			r.body = []byte(strings.Join(fields, "\x00"))
		}
		if batch = append(batch, r); r.typ == 'Z' {
			all, batch = append(all, batch), nil
		}
	}
	return all
}

// differAsFar is differ for batches. Where one was refused because the
// transaction had failed, only its end is compared: a server that has to be told
// a statement refuses that, and not what follows.
func differAsFar(got, want [][]reply) string {
	for i := range min(len(got), len(want)) {
		g, w := got[i], want[i]
		if refused(g) || refused(w) {
			g, w = g[len(g)-1:], w[len(w)-1:]
		}
		if d := differ(g, w); d != "" {
			return d
		}
	}
	return ""
}

func refused(batch []reply) bool {
	return slices.ContainsFunc(batch, func(r reply) bool {
		return r.typ == 'E' && strings.Contains(string(r.body), "\x00C25P02\x00")
	})
}

// randomScript makes a script of batches and queries, in which mistakes are
// frequent, and says in what pieces it is to be sent.
func randomScript(seed int) (_ []line, cut int) {
	g := &scriptMaker{random: rand.New(rand.NewPCG(uint64(seed), 2))}
	for range 5 + g.random.IntN(25) {
		if g.random.IntN(3) == 0 {
			g.query()
		} else {
			g.batch()
		}
		if g.random.IntN(4) > 0 {
			g.add("await")
		}
	}
	return g.lines, seed % 5 / 4
}

// scriptMaker makes one script.
type scriptMaker struct {
	random *rand.Rand
	lines  []line
}

func (g *scriptMaker) add(words ...string) { g.lines = append(g.lines, words) }

func (g *scriptMaker) oneOf(choices ...string) string { return choices[g.random.IntN(len(choices))] }

// name is a name for a prepared statement of the protocol.
func (g *scriptMaker) name() string {
	return g.oneOf("", "a", "a", "b", "c", "Odd; \"name", "transaction", "utility")
}

// sqlName is one of SQL, as it is written there.
func (g *scriptMaker) sqlName() string {
	return g.oneOf("a", "A", "b", `"c"`, `"Odd; ""name"`, "transaction", "d")
}

// number is a parameter: at times none, or no number.
func (g *scriptMaker) number() string { return g.oneOf("0", "1", "2", "7", "7", "7", "x", null) }

// prepared is a text with one parameter of type int, or none. It has a name in it,
// for an error that concerns a statement with two names may have either.
func (g *scriptMaker) prepared(name string) (text string, parameters int) {
	text, parameters = g.plain()
	return text + " -- " + name, parameters
}

func (g *scriptMaker) plain() (text string, parameters int) {
	switch g.random.IntN(8) {
	case 0:
		return "select 1 as one", 0
	case 1:
		return "select 12 / $1::int as quotient", 1
	case 2:
		return "select generate_series(1, $1::int)", 1
	case 3:
		return "select 'a\\b', $1::int, 'it''s; execute a'", 1
	case 4:
		return "select " + fmt.Sprint(g.random.IntN(6)) + " as some, $1::int as own", 1
	case 5:
		return "values (1), (2), (3)", 0
	case 6:
		return "select nothing from nowhere", 0
	}
	return "select $1::int /* a comment */", 1
}

// statement is a statement of SQL without parameters.
func (g *scriptMaker) statement() string {
	arguments := func() string {
		return g.oneOf("", "", "(1)", "(0)", "(7)", "('7')", "(null)", "(1, 2)", "(nothing)")
	}
	switch g.random.IntN(16) {
	case 0, 1, 2:
		name := g.sqlName()
		text, _ := g.plain()
		types := ""
		if strings.Contains(text, "$1") {
			types = g.oneOf("", " (int)", "(integer)", " /* ; */ (int4)")
		}
		return g.oneOf("prepare ", "PREPARE ", "prepare /* as */ ") + name + types + " /* " + name + " */ as " + text
	case 3, 4, 5, 6:
		return g.oneOf("execute ", "Execute\n", "explain (costs off) execute ") + g.sqlName() + arguments()
	case 7, 8:
		return g.oneOf("deallocate ", "deallocate prepare ") + g.sqlName()
	case 9:
		return g.oneOf("deallocate all", "deallocate prepare all", "select 1/0", "selec", "discard all")
	case 10:
		return g.oneOf("set standard_conforming_strings = off", "set standard_conforming_strings = on",
			"show standard_conforming_strings")
	case 11:
		return g.oneOf("select 'x\\'", "select '\\'; execute a --'", "select $$; execute a$$, E'\\'; execute b'")
	case 12:
		return "create temp table made on commit drop as execute " + g.sqlName() + arguments()
	case 13:
		return g.oneOf("", "-- nothing", "select pg_notify('nobody', '')", "listen nobody; unlisten nobody")
	}
	return "select " + fmt.Sprint(g.random.IntN(100))
}

// transaction is what begins or ends one.
func (g *scriptMaker) transaction() string {
	return g.oneOf("begin", "begin isolation level serializable", "commit", "commit", "rollback", "rollback")
}

// query adds a Query of one statement or of several.
func (g *scriptMaker) query() {
	text := g.statement()
	switch g.random.IntN(5) {
	case 0:
		text = g.oneOf(g.transaction(), g.transaction(), "savepoint s", "rollback to s")
	case 1:
		for range 1 + g.random.IntN(3) {
			text += g.oneOf("; ", ";", " ;; ") + g.oneOf(g.statement(), g.statement(), g.transaction())
		}
	}
	g.add("Query", text)
}

// batch adds messages of the extended protocol up to a Sync. The unnamed
// statement is only used in the batch that prepares it, or in the next one: a
// pooler does not keep it for longer.
func (g *scriptMaker) batch() {
	bare := false
	for range 1 + g.random.IntN(5) {
		name, portal := g.name(), g.oneOf("", "", "", "p")
		what := g.random.IntN(13)
		if name == "" && what > 3 && !bare {
			name = "a"
		}
		switch what {
		case 0, 1, 2: // as drivers do
			text, parameters := g.prepared(name)
			if g.random.IntN(4) == 0 {
				// EXECUTE runs no statement that PREPARE does not take, unless
				// the server has met it: it gets a name that SQL does not use.
				text, parameters, name = g.statement(), 0, g.oneOf("", "utility")
				if g.random.IntN(3) == 0 {
					text, name = g.transaction(), ""
				}
			}
			bare = bare || name == ""
			g.add("Parse", name, text)
			if g.random.IntN(2) == 0 {
				g.add("Describe", "S", name)
			}
			if g.random.IntN(5) > 0 {
				g.run(portal, name, parameters)
			}
		case 3:
			bare = bare || name == ""
			text, parameters := g.prepared(name)
			words := []string{"Parse", name, text}
			if parameters > 0 {
				words = append(words, g.oneOf("23", "25", "0", "1007"))
			}
			g.add(words...)
		case 4, 5:
			g.run(portal, name, g.random.IntN(2))
		case 6:
			g.add("Bind", portal, name)
		case 7:
			g.add("Describe", g.oneOf("S", "S", "P"), name)
		case 8:
			g.add("Close", g.oneOf("S", "S", "P"), name)
		case 9:
			g.add("Execute", portal, g.oneOf("0", "0", "1", "2"))
		case 10:
			g.add("Flush")
		case 11:
			g.add("Sync")
			bare = false
		case 12: // as lib/pq does
			text, parameters := g.plain()
			g.add("Sync")
			g.add("Parse", "", text)
			g.add("Describe", "S", "")
			g.add("Sync")
			if g.random.IntN(4) > 0 {
				g.add("await")
			}
			g.run("", "", parameters)
			bare = true
		}
	}
	g.add("Sync")
}

// run adds what binds a statement and executes it.
func (g *scriptMaker) run(portal, name string, parameters int) {
	words := []string{"Bind", portal, name}
	for range parameters {
		words = append(words, g.number())
	}
	g.add(words...)
	if g.random.IntN(2) == 0 {
		g.add("Describe", "P", portal)
	}
	g.add("Execute", portal, g.oneOf("0", "0", "1", "2"))
	if portal != "" {
		g.add("Close", "P", portal)
	}
}
