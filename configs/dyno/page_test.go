package dyno

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/pgweir/pgweir/configs"
)

// page returns the rows of docs/heroku.md whose first cell is a variable with
// the prefix: the cells behind it, without the signs of Markdown.
func page(t *testing.T, prefix string) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/heroku.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i, cell := range cells {
			cells[i] = strings.Trim(strings.TrimSpace(cell), "`")
		}
		if len(cells) < 2 || !strings.HasPrefix(cells[0], prefix) {
			continue
		}
		if rows[cells[0]] != nil {
			t.Errorf("%s stands there twice", cells[0])
		}
		rows[cells[0]] = cells[1:]
	}
	return rows
}

// value is what a setting is in a sidecar with the environment env.
func value(t *testing.T, key string, env ...string) string {
	t.Helper()
	s, err := New(append([]string{"DATABASE_URL=postgres://u:p@h/d"}, env...), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if set, ok := s.settings[key]; ok {
		return set.value
	}
	return configs.Find(key).Default
}

// The page has all variables of Heroku's buildpack, with what they are here.
func TestBuildpackVariables(t *testing.T) {
	rows := page(t, theirs)
	names := []string{
		"AUTH_TYPE", "CONFIG_DIR", "DEFAULT_POOL_SIZE", "ENABLED", "IGNORE_STARTUP_PARAMETERS", "LOG_CONNECTIONS",
		"LOG_DISCONNECTIONS", "LOG_POOLER_ERRORS", "MAX_CLIENT_CONN", "MAX_PREPARED_STATEMENTS", "MIN_POOL_SIZE",
		"POOL_MODE", "PREPARED_STATEMENTS", "QUERY_WAIT_TIMEOUT", "RESERVE_POOL_SIZE", "RESERVE_POOL_TIMEOUT",
		"SERVER_IDLE_TIMEOUT", "SERVER_LIFETIME", "SERVER_RESET_QUERY", "SERVER_TLS_SSLMODE", "STATS_PERIOD", "URLS",
	}
	for name := range rows {
		if !slices.Contains(names, strings.TrimPrefix(name, theirs)) {
			t.Errorf("the buildpack has no %s", name)
		}
	}
	for _, name := range names {
		row := rows[theirs+name]
		if row == nil {
			t.Errorf("the page lacks %s", theirs+name)
			continue
		}
		if slices.Contains(others, name) {
			continue
		}
		got := value(t, strings.ToLower(name), theirs+"STATS_PERIOD=60")
		if here := row[2]; here != got && (here != "empty" || got != "") {
			t.Errorf("%s is %q on the page and %q here", theirs+name, here, got)
		}
	}
	for key, want := range buildpack {
		if row := rows[theirs+strings.ToUpper(key)]; row == nil || row[1] != want {
			t.Errorf("%s is %v on the page, and %q in the buildpack", key, row, want)
		}
	}
}

// The page has all variables that are pgweir's alone, and each setting whose
// default is another one beside an app.
func TestOwnVariables(t *testing.T) {
	rows := page(t, ours)
	for _, name := range command {
		if rows[ours+name] == nil {
			t.Errorf("the page lacks %s", ours+name)
		}
	}
	for name, row := range rows {
		rest := strings.TrimPrefix(name, ours)
		if slices.Contains(command, rest) {
			continue
		}
		key := strings.ToLower(rest)
		if alias := aliases[key]; alias != "" {
			key = alias
		}
		if got, want := value(t, key), row[len(row)-1]; got != want && (got != "" || want != "none") {
			t.Errorf("%s is %q on the page and %q here", name, want, got)
		}
	}
	for key := range defaults {
		name := key
		for alias, of := range aliases {
			if of == key {
				name = alias
			}
		}
		if rows[ours+strings.ToUpper(name)] == nil {
			t.Errorf("the page lacks %s%s", ours, strings.ToUpper(name))
		}
	}
	text, err := os.ReadFile("../../docs/heroku.md")
	if err != nil {
		t.Fatal(err)
	}
	if list := "`" + strings.Join(reserved, "`, `") + "`"; !strings.Contains(strings.ReplaceAll(string(text), "\n", " "), list) {
		t.Errorf("the page lacks %s", list)
	}
}
