package dyno

import (
	"slices"
	"strings"
	"testing"
)

// none is an environment without variables.
func none(string) string { return "" }

func TestParseURL(t *testing.T) {
	for _, test := range []struct {
		url                      string
		hosts                    string
		port                     int
		user, password, database string
	}{
		{"postgres://u:p@h:5433/d", "h", 5433, "u", "p", "d"},
		{"postgresql://u:p@h/d", "h", 5432, "u", "p", "d"},
		{"POSTGRES://u@h", "h", 5432, "u", "", "u"},
		{"postgres://u@/d", "localhost", 5432, "u", "", "d"},
		{"postgis://u:p@h/d?sslmode=require", "h", 5432, "u", "p", "d"},
		{"postgresql+psycopg://u:p@h/d", "h", 5432, "u", "p", "d"},
		{"postgres://u%40x:p%2Fq%3A%23%25@h/my%20db", "h", 5432, "u@x", "p/q:#%", "my db"},
		{"postgres://u:p+q@h/d", "h", 5432, "u", "p+q", "d"},
		{"postgres://u:p:q@h/d", "h", 5432, "u", "p:q", "d"},
		{"postgres://u:p@q@h/d", "h", 5432, "u", "p@q", "d"},
		{"postgres://u:p?q@h/d?application_name=a@b", "h", 5432, "u", "p?q", "d"},
		{"postgres://u:p@a,b,c:5433/d", "a,b,c", 5433, "u", "p", "d"},
		{"postgres://u:p@a:5433,b:5433/d", "a,b", 5433, "u", "p", "d"},
		{"postgres://u:p@[::1]:5433/d", "::1", 5433, "u", "p", "d"},
		{"postgres://u:p@[fe80::1],b/d", "fe80::1,b", 5432, "u", "p", "d"},
		{"postgres://u:p@%2Fvar%2Frun%2Fpostgresql/d", "/var/run/postgresql", 5432, "u", "p", "d"},
		{"postgres:///d?user=u&password=p%26q&host=a,b&port=5433,5433", "a,b", 5433, "u", "p&q", "d"},
		{"postgres://u:p@h/ignored?dbname=d", "h", 5432, "u", "p", "d"},
		{"jdbc:postgresql://h/d?user=u&password=p", "h", 5432, "u", "p", "d"},
	} {
		c, err := parseURL(test.url, none)
		if err != nil {
			t.Errorf("%s: %v", test.url, err)
			continue
		}
		if got := strings.Join(c.hosts, ","); got != test.hosts || c.port != test.port || c.user != test.user || c.password != test.password || c.database != test.database {
			t.Errorf("%s: %s:%d, user %q, password %q, database %q", test.url, got, c.port, c.user, c.password, c.database)
		}
	}
}

// Libpq's variables say what a URL leaves out.
func TestParseURLEnvironment(t *testing.T) {
	env := func(name string) string {
		return map[string]string{"PGHOST": "h", "PGPORT": "5433", "PGUSER": "u", "PGPASSWORD": "p", "PGDATABASE": "d"}[name]
	}
	c, err := parseURL("postgres://", env)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(c.hosts, []string{"h"}) || c.port != 5433 || c.user != "u" || c.password != "p" || c.database != "d" {
		t.Errorf("%v:%d, user %q, password %q, database %q", c.hosts, c.port, c.user, c.password, c.database)
	}
}

// No error tells the password.
func TestParseURLErrors(t *testing.T) {
	for url, want := range map[string]string{
		"mysql://u:secret@h/d":                    "begins with postgres://",
		"host=h password=secret":                  "begins with postgres://",
		"postgres://u:secret%zz@h/d":              "password: a % is not followed",
		"postgres://u:secret%2@h/d":               "password: a % is not followed",
		"postgres://u:secret@h:x/d":               "its port is not a number",
		"postgres://u:secret@h:65536/d":           "its port is not a number",
		"postgres://u:secret@a:1,b:2/d":           "different ports",
		"postgres://u:secret@[::1/d":              "must stand in brackets",
		"postgres://u:secret@h/d?sslmode":         "must be name=value",
		"postgres://u:secret@h/d?options=%2":      "option options: a % is not followed",
		"postgres://:secret@h/d":                  "names no user",
		"postgres://u:secret%0A@h/d":              "a line break",
		"postgres://u:secret@h/d?dbname=x%00y":    "a zero byte",
		"postgres://u:secret@h/d%0d":              "a line break",
		"postgres://u:secret@h/%":                 "database: a % is not followed",
		"postgres://u:secret@h%/d":                "host: a % is not followed",
		"postgres://%q:secret@h/d?sslmode=prefer": "user: a % is not followed",
	} {
		_, err := parseURL(url, none)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want %q", url, err, want)
		}
	}
}

// The app's URL is what it was, but for the server and what concerns it.
func TestURLTo(t *testing.T) {
	for _, test := range []struct{ url, want string }{
		{"postgres://u:p@h:5432/d", "postgres://u:p@127.0.0.1:7/d?sslmode=disable"},
		{"postgresql://u:p@h/d?sslmode=verify-full&sslrootcert=%2Fca.pem", "postgresql://u:p@127.0.0.1:7/d?sslmode=disable"},
		{"postgres://u:p@h/d?options=-c%20search_path%3Da,b&sslmode=require&application_name=a+b", "postgres://u:p@127.0.0.1:7/d?options=-c%20search_path%3Da,b&application_name=a+b&sslmode=disable"},
		{"postgres://u%40x:p%2Fq@h/my%20db?connect_timeout=3", "postgres://u%40x:p%2Fq@127.0.0.1:7/my%20db?connect_timeout=3&sslmode=disable"},
		{"postgres://u:p@a,b/d?target_session_attrs=primary&load_balance_hosts=random", "postgres://u:p@127.0.0.1:7/d?sslmode=disable"},
		{"jdbc:postgresql://h/d?user=u&password=p%26q&ssl=true&prepareThreshold=1", "jdbc:postgresql://127.0.0.1:7/d?user=u&password=p%26q&prepareThreshold=1&sslmode=disable"},
		{"postgresql+asyncpg://u:p@h/d", "postgresql+asyncpg://u:p@127.0.0.1:7/d"},
		{"postgresql+psycopg://u:p@h/d", "postgresql+psycopg://u:p@127.0.0.1:7/d?sslmode=disable"},
	} {
		c, err := parseURL(test.url, none)
		if err != nil {
			t.Errorf("%s: %v", test.url, err)
			continue
		}
		if got := c.to("127.0.0.1", 7, c.user, c.password, c.database); got != test.want {
			t.Errorf("%s becomes\n%s, want\n%s", test.url, got, test.want)
		}
	}
}
