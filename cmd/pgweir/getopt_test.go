package main

import (
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

func TestArrange(t *testing.T) {
	flags := []cli.Flag{
		&cli.BoolFlag{Name: "daemon", Aliases: []string{"d"}},
		&cli.StringFlag{Name: "user", Aliases: []string{"u"}},
		&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}},
		&cli.BoolFlag{Name: "version", Aliases: []string{"V"}},
		&cli.BoolFlag{Name: "help", Aliases: []string{"h"}},
	}
	for _, test := range []struct{ args, want string }{
		{"", "--"},
		{"a.ini", "-- a.ini"},
		{"a.ini -d", "--daemon -- a.ini"},
		{"-d a.ini -v b.ini", "--daemon --verbose -- a.ini b.ini"},
		{"-vvd a.ini", "--verbose --verbose --daemon -- a.ini"},
		{"-u pg a.ini", "--user=pg -- a.ini"},
		{"-upg a.ini", "--user=pg -- a.ini"},
		{"-vdupg a.ini", "--verbose --daemon --user=pg -- a.ini"},
		{"-vu pg a.ini", "--verbose --user=pg -- a.ini"},
		{"-u -d a.ini", "--user=-d -- a.ini"},
		{"--user pg a.ini", "--user=pg -- a.ini"},
		{"--user=pg a.ini", "--user=pg -- a.ini"},
		{"--user= a.ini", "--user= -- a.ini"},
		{"--us=p=g a.ini", "--user=p=g -- a.ini"},
		{"--d a.ini", "--daemon -- a.ini"},
		{"- a.ini", "-- - a.ini"},
		{"-v -- -d a.ini", "--verbose -- -d a.ini"},
		{"-v -h -x", "--verbose --help"},
		{"-vVx a.ini", "--verbose --version"},
		{"--version --nonsense", "--version"},
	} {
		got, err := arrange(strings.Fields(test.args), flags)
		if err != nil || strings.Join(got, " ") != test.want {
			t.Errorf("arrange(%q) = %q, %v, want %q", test.args, strings.Join(got, " "), err, test.want)
		}
	}
}
