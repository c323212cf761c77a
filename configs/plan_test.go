package configs

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

const planText = `
[databases]
acme = host=10.0.0.1 plan=gold
tiny = host=10.0.0.1 plan=free pool_size=3
own = host=10.0.0.1 plan=none
heroku = host=10.0.0.2 plan=heroku:essential-0
live = host=10.0.0.3 plan=auto
rest = host=10.0.0.4
* = host=10.0.0.4

[plans]
gold = max_server_connections=100 reserve=5 max_client_connections=2000 pool_size=30 pool_mode=transaction query_wait_timeout=7 max_prepared_statements=0
free = max_client_connections=20 scope=database pool_size=0 query_wait_timeout=0

[pgbouncer]
plan = rds:db.t4g.small
`

func TestPlans(t *testing.T) {
	s, err := Parse("plans.ini", planText)
	if err != nil {
		t.Fatal(err)
	}
	for entry, want := range map[string]string{
		"acme": "gold server 100-5 2000", "tiny": "free database 0-0 20", "own": "",
		"heroku": "heroku:essential-0 role 20-2 0", "live": "auto server 0-0 0",
		"rest": "rds:db.t4g.small server 175-8 0",
	} {
		if got := planned(s.Database(entry)); got != want {
			t.Errorf("%s has the plan %q, want %q", entry, got, want)
		}
	}
	if got := planned(s.Auto("other")); got != "rds:db.t4g.small server 175-8 0" {
		t.Errorf("an entry made from the template has the plan %q", got)
	}
	gold := s.Plans["gold"]
	if gold.Source != "plans.ini:12" || gold.Preset() || gold.Budget() != 95 || s.Plans["free"].Budget() != 0 {
		t.Errorf("gold: %+v", gold)
	}
	if p := s.ForPool(s.Database("acme"), "u"); p.PoolSize != 30 || p.PoolMode != PoolTransaction || p.MaxPreparedStatements != 0 {
		t.Errorf("acme: %+v", p)
	}
	if p := s.ForPool(s.Database("rest"), "u"); p.PoolSize != 20 || p.PoolMode != PoolSession || p.MaxPreparedStatements != 200 {
		t.Errorf("rest: %+v", p)
	}
	if p := s.ForPool(s.Database("tiny"), "u"); p.PoolSize != 3 {
		t.Errorf("tiny: %+v", p)
	}
	for entry, want := range map[string]time.Duration{"acme": 7 * time.Second, "tiny": 0, "rest": 2 * time.Minute} {
		if got := s.ForClient(s.Database(entry), "u").QueryWaitTimeout; got != want {
			t.Errorf("clients of %s wait for %v, want %v", entry, got, want)
		}
	}
}

// planned is the plan of an entry in short.
func planned(d *Database) string {
	p := d.Plan
	if p == nil {
		return ""
	}
	return fmt.Sprintf("%s %v %d-%d %d", p.Name, p.Scope, p.MaxServerConnections, p.Reserve, p.MaxClientConnections)
}

// TestPlanChanges sets the global plan while others look on.
func TestPlanChanges(t *testing.T) {
	s, err := Parse("plans.ini", planText)
	if err != nil {
		t.Fatal(err)
	}
	next, err := s.With("plan", "gold")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []*Database{next.Database("rest"), next.AutoDB, next.Auto("other"), next.Database("acme")} {
		if d.Plan != next.Plans["gold"] {
			t.Errorf("%v has the plan %q", d, planned(d))
		}
	}
	if next.Database("own").Plan != nil || planned(next.Database("live")) != "auto server 0-0 0" {
		t.Error("entries with a word of their own on it have another plan now")
	}
	if planned(s.Database("rest")) != "rds:db.t4g.small server 175-8 0" || planned(s.AutoDB) != "rds:db.t4g.small server 175-8 0" {
		t.Error("the old Snapshot has changed")
	}
	for i, d := range next.Databases {
		if next.Database(d.Name) != d || s.Databases[i].Name != d.Name {
			t.Errorf("%v is not found by its name", d)
		}
	}
	if _, err := s.With("plan", "glod"); err == nil || err.Error() != `plan: there is no plan "glod": perhaps you meant gold` {
		t.Errorf("a misspelt name: %v", err)
	}
}

func TestPresetNames(t *testing.T) {
	s, err := Parse("plans.ini", planText)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"heroku:standart-0": "perhaps you meant heroku:standard-0",
		"heruko:standard-0": "perhaps you meant heroku:standard-0",
		"RDS:db.t4g.small":  "perhaps you meant rds:db.t4g.small",
		"rds:t4g.small":     "perhaps you meant rds:db.t4g.small",
		"neon:huge":         "pgweir plans neon lists those there are",
		"nobody:anything":   "pgweir plans lists those there are",
		"fre":               "perhaps you meant free",
		"custom":            "it is not in section [plans]; define it there: custom = max_server_connections=…",
	} {
		if _, err := s.FindPlan(name); err == nil || err.Error() != fmt.Sprintf("there is no plan %q: %s", name, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

var (
	planDate   = regexp.MustCompile(`^20\d\d(-[01]\d(-[0-3]\d)?)?$`)
	rdsFormula = regexp.MustCompile(`^(\d+) GiB: at most (\d+) by`)
)

// TestPresets holds each preset to having what there is to say about it.
func TestPresets(t *testing.T) {
	seen := make(map[string]bool)
	for _, p := range Presets() {
		switch {
		case seen[p.Name]:
			t.Errorf("%s comes twice", p.Name)
		case !p.Preset() || p.Name != strings.ToLower(p.Name):
			t.Errorf("%s is no name for a preset", p.Name)
		case p.Source == "" || !planDate.MatchString(p.Date) || strings.HasSuffix(p.Note, "."):
			t.Errorf("%s: source %q, date %q, note %q", p.Name, p.Source, p.Date, p.Note)
		case p.Reserve < 2 || p.Budget() < 10 || p.MaxServerConnections > 5000:
			t.Errorf("%s: reserve %d of %d", p.Name, p.Reserve, p.MaxServerConnections)
		}
		seen[p.Name] = true
		// AWS' formula is an upper bound, and what is measured not far below.
		if f := rdsFormula.FindStringSubmatch(p.Note); f != nil {
			memory, _ := strconv.Atoi(f[1])
			most := memory << 30 / 9531392
			if limit := p.MaxServerConnections + 6; f[2] != strconv.Itoa(most) || limit > most || limit < most*3/4 {
				t.Errorf("%s: %d connections; the formula over %d GiB says %d", p.Name, limit, memory, most)
			}
		}
	}
	for name, want := range map[string]int{
		"heroku:essential-0": 20, "heroku:essential-2": 40, "heroku:standard-0": 120, "heroku:premium-2": 400,
		"supabase:micro": 57, "neon:1cu": 412, "digitalocean:1gb": 22, "azure:b1ms": 35, "aurora:db.t4g.medium": 399,
	} {
		if p, err := Preset(name); err != nil || p.MaxServerConnections != want {
			t.Errorf("%s: %+v, %v; want %d connections", name, p, err, want)
		}
	}
	if got := strings.Join(Providers(), " "); got != "heroku rds aurora supabase neon digitalocean cloudsql azure ovh" {
		t.Errorf("providers are %s", got)
	}
}

func TestBadPresets(t *testing.T) {
	for text, want := range map[string]string{
		"[a]\nscope = moon\n20 = b": "line 2: scope must be server, role or database",
		"[a]\ntaken = x":            "line 2: taken must be a number",
		"[a]\nb = 20":               "line 2: b is neither a figure nor known",
		"[a":                        "line 1: syntax error: the section name has no closing ]",
	} {
		if _, err := parsePresets(text); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// TestPlanProcesses divides the plans' connections among processes.
func TestPlanProcesses(t *testing.T) {
	s, err := Parse("plans.ini", planText+"plan_processes = 4\n")
	if err != nil {
		t.Fatal(err)
	}
	for entry, want := range map[string]int{"acme": 95 / 4, "tiny": 0, "heroku": 18 / 4, "live": 0, "rest": 167 / 4} {
		if got := s.Database(entry).Plan.Budget(); got != want {
			t.Errorf("%s: %d connections for this process, want %d", entry, got, want)
		}
	}
	next, err := s.With("plan_processes", "50")
	if err != nil {
		t.Fatal(err)
	}
	if got := next.Database("heroku").Plan.Budget(); got != 1 {
		t.Errorf("%d connections for one of too many processes, want 1", got)
	}
	if p := next.Database("live").Plan; p.Share(101) != 2 || p.Share(3) != 1 {
		t.Errorf("of 101 connections the server tells of %d are ours, of 3 %d", p.Share(101), p.Share(3))
	}
	if next.Plans["gold"] != next.Database("acme").Plan || s.Plans["gold"].Processes != 4 {
		t.Error("the plan of section [plans] is not that of its entry, or the old Snapshot has changed")
	}
	if p, err := Preset("heroku:essential-0"); err != nil || p.Processes != 0 {
		t.Errorf("the preset itself has changed: %+v, %v", p, err)
	}
}
