package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgweir/pgweir/configs"
)

func TestPlansListsAll(t *testing.T) {
	var stdout bytes.Buffer
	if status := run([]string{"pgweir", "plans"}, &stdout, os.Stderr); status != 0 {
		t.Fatalf("exit status %d", status)
	}
	for _, p := range configs.Presets() {
		if !strings.Contains(stdout.String(), "\n"+p.Name+" ") {
			t.Errorf("%s is not listed", p.Name)
		}
	}
}

func TestPlansExplains(t *testing.T) {
	var stdout bytes.Buffer
	if status := run([]string{"pgweir", "plans", "heroku:essential-0"}, &stdout, os.Stderr); status != 0 {
		t.Fatalf("exit status %d", status)
	}
	const want = `heroku:essential-0

  connections  20  each role on the server has so many
  reserve      2   of them stay free for people and migrations
  pgweir       18  server connections at most, whatever its pools add up to

  source: github.com/heroku/roadmap/issues/292 (2024-05-17)
  Heroku said there that only essential-2 was raised.
`
	if !strings.HasPrefix(stdout.String(), want) {
		t.Errorf("says\n%s", &stdout)
	}
	if !strings.Contains(stdout.String(), "plan = heroku:essential-0\n") || !strings.Contains(stdout.String(), "plan=heroku:essential-0\n") {
		t.Errorf("does not say what to write:\n%s", &stdout)
	}
}

// TestCheckFleet holds a configuration against its plans.
func TestCheckFleet(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fleet.ini")
	text := `[pgbouncer]
auth_type = any
listen_addr = 127.0.0.1
unix_socket_dir =
plan = heroku:standard-0
[databases]
app = host=db user=app
jobs = host=db user=jobs pool_size=5
old = host=old user=app plan=auto
`
	for _, test := range []struct {
		args   string
		more   string // of the file
		status int
		want   string // "…" stands for the file's path
	}{
		{"", "", 0, `plan               on        pools  per process  processes  worst case  room
heroku:standard-0  db:5432   25     25           1          25          114  fits
auto               old:5432  20     20           1          20               as the server says
`},
		{"--dynos=3 --preboot=2", "", 1, `plan               on        pools  per process  processes  worst case  room
heroku:standard-0  db:5432   25     25           5          125         114  too much
auto               old:5432  20     20           5          100              as the server says
…: error: plan heroku:standard-0 on db:5432: 5 processes with up to 25 server connections each make 125, and the plan has room for 114; write plan_processes = 5 into [pgbouncer], and each opens at most 22, or max_db_connections=11 on each of the 2 entries, or take a larger plan, such as heroku:standard-2
`},
		{"--dynos=3 --preboot", "[pgbouncer]\nauth_type = any\nlisten_addr = 127.0.0.1\nunix_socket_dir =\nplan = heroku:standard-0\nplan_processes = 6\n", 0, `plan               on        pools  per process  processes  worst case  room
heroku:standard-0  db:5432   25     19           6          114         114  fits
auto               old:5432  20     20           6          120              as the server says
`},
	} {
		file := text
		if test.more != "" {
			_, entries, _ := strings.Cut(text, "[databases]")
			file = test.more + "[databases]" + entries
		}
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		var stdout bytes.Buffer
		args := append(append([]string{"pgweir", "check"}, strings.Fields(test.args)...), path)
		status := run(args, &stdout, os.Stderr)
		if got := strings.ReplaceAll(stdout.String(), path, "…"); status != test.status || withoutWarnings(got) != test.want {
			t.Errorf("%s: exit status %d, says\n%swant\n%s", test.args, status, got, test.want)
		}
	}
}

func withoutWarnings(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		if !strings.Contains(line, ": warning: ") {
			b.WriteString(line)
		}
	}
	return b.String()
}
