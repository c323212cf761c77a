package configs

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/settings.md")

const pagePath = "../docs/settings.md"

// TestSettingsPage holds docs/settings.md to the tables. With -update it writes
// the page.
func TestSettingsPage(t *testing.T) {
	want := settingsPage()
	if *update {
		if err := os.MkdirAll("../docs", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(pagePath, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(pagePath)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is stale; run go generate ./configs", pagePath)
	}
}

// ownSettings is the first setting in Table that PgBouncer does not know.
const ownSettings = "auth_query_cache"

func settingsPage() string {
	var b strings.Builder
	b.WriteString(`<!-- Written by go generate ./configs. -->

# Settings

A configuration is a file in PgBouncer's dialect, with sections ` + "`[pgbouncer]`, `[databases]`, `[users]`, `[peers]` and `[plans]`" + `.
[configs/pgbouncer.ini](../configs/pgbouncer.ini) shows every setting in its place, and
[configs/minimal.ini](../configs/minimal.ini) how few are needed. ` + "`pgweir check FILE`" + ` tells what is wrong with a file.

- A line whose first character is ` + "`;` or `#`" + ` is a comment. There are no comments behind a value.
- ` + "`%include FILE`" + ` reads another file; its path is relative to the working directory.
- Numbers may be written as ` + "`0x…`; one that begins with `0`" + ` is octal.
- Types: ` + "`bool` is 0 or 1, `sec` is seconds, with a fraction if need be and without a unit, `list`" + ` is separated by commas.
- What changes *live* takes effect on RELOAD and SET; the rest takes effect at start.

## [pgbouncer]

`)
	own := tableIndex[ownSettings]
	writeSettings(&b, Table[:own])
	b.WriteString("\n### pgweir's own\n\nPgBouncer refuses a file that has these.\n\n")
	writeSettings(&b, Table[own:])

	b.WriteString(`
## [databases]

` + "`name = key=value key=value …`" + `, separated by spaces. A name of other characters than letters, digits and ` + "`_.*-`" + `
stands in single quotes, as does a value with spaces, in which two quotes stand for one. An empty value is an error. The entry ` + "`*`" + `
is the template for every name that is not listed. What a user sets wins over what a database sets, which wins over the global setting.

`)
	writeParams(&b, databaseParams)
	b.WriteString(`
## [users]

Limits of single users. An entry does not make a user able to log in. ` + "`max_user_client_connections`, `client_idle_timeout` and `query_wait_timeout`" + `
are those of the user who logged in, the others those of the user as whom queries run.

`)
	writeParams(&b, userParams)
	b.WriteString(`
## [peers]

` + "`id = key=value …`" + `, the id from 1 to 65535. Cancel requests for clients of another process are
passed on to it; that needs ` + "`peer_id`" + `.

`)
	writeParams(&b, peerParams)
	b.WriteString(`
## [plans]

` + "`name = key=value …`" + `, pgweir's own: what a Postgres server allows, or what a tenant gets. ` + "`plan = name`" + ` on an entry or in ` + "`[pgbouncer]`" + `
puts connections under it. Plans of providers need no line here: ` + "`pgweir plans` lists them, and `pgweir plans heroku:standard-0`" + ` explains one.

`)
	writeParams(&b, planParams)
	b.WriteString(`
## auth_file

One line for each user: ` + "`\"name\" \"secret\"`" + `, two quotes inside standing for one. What follows on the line is ignored, and lines that
begin with ` + "`;`" + ` are comments. The secret is a plain password, an md5 hash or a SCRAM secret as Postgres keeps it. Reading ends at the first line
that it can't make out: at start the users before it are known, with a warning; RELOAD fails and keeps the users it had.
`)
	return b.String()
}

func writeSettings(b *strings.Builder, table []Setting) {
	b.WriteString("| setting | type | default | changes | meaning |\n|---|---|---|---|---|\n")
	for i := range table {
		s := &table[i]
		def, changes, meaning := "`"+s.Default+"`", "live", cell(s.Meaning)
		switch {
		case s.Null:
			def = "not set"
		case s.Default == "":
			def = "empty"
		case s.Name == "tcp_defer_accept":
			def = "`1` on Linux, else `0`"
		}
		if s.Restart {
			changes = "at start"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s | %s |\n", s.Name, s.Type(), def, changes, meaning)
	}
}

func writeParams[T any](b *strings.Builder, table []param[T]) {
	b.WriteString("| key | default | meaning |\n|---|---|---|\n")
	for _, p := range table {
		meaning := cell(p.meaning)
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", p.name, p.def, meaning)
	}
}

// cell is text in a table cell of the page.
func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "<", "&lt;", "*", `\*`).Replace(s)
}
