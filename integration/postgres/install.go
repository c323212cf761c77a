// Package postgres runs private Postgres clusters for tests, benchmarks and the
// demo. A cluster lives in a sandbox, on a port of its own; a Postgres that
// already runs on the machine is neither touched nor needed.
package postgres

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Install is one installation of the server programs.
type Install struct {
	Bin     string // the folder of postgres and initdb
	Version string // as the server tells it, "15.14"
	Major   int
}

// ErrNotFound means that the machine has no Postgres server programs.
var ErrNotFound = errors.New("no Postgres server programs found: apt-get install postgresql, or set PGWEIR_PG_BIN to the folder of postgres and initdb")

// Find returns the installation in $PGWEIR_PG_BIN, else the newest one of the
// usual folders, else the one on the PATH, else ErrNotFound.
func Find() (Install, error) {
	if bin := os.Getenv("PGWEIR_PG_BIN"); bin != "" {
		abs, err := filepath.Abs(bin)
		if err != nil {
			return Install{}, err
		}
		in, err := inspect(abs)
		if err != nil {
			return Install{}, fmt.Errorf("PGWEIR_PG_BIN: %w", err)
		}
		return in, nil
	}
	var found []Install
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin",          // Debian
		"/usr/pgsql-*/bin",                   // the PGDG packages for RHEL
		"/opt/homebrew/opt/postgresql@*/bin", // macOS
	} {
		bins, err := filepath.Glob(pattern)
		if err != nil {
			return Install{}, err
		}
		for _, bin := range bins {
			if in, err := inspect(bin); err == nil {
				found = append(found, in)
			}
		}
	}
	if len(found) > 0 {
		return slices.MaxFunc(found, func(a, b Install) int { return cmp.Compare(a.Major, b.Major) }), nil
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		return inspect(filepath.Dir(path))
	}
	return Install{}, ErrNotFound
}

var versionLine = regexp.MustCompile(`^postgres \(PostgreSQL\) ((\d+)\S*)`)

func inspect(bin string) (Install, error) {
	if _, err := os.Stat(filepath.Join(bin, "initdb")); err != nil {
		return Install{}, err
	}
	out, err := exec.Command(filepath.Join(bin, "postgres"), "--version").Output()
	if err != nil {
		return Install{}, fmt.Errorf("%s/postgres --version: %w", bin, err)
	}
	m := versionLine.FindStringSubmatch(string(out))
	if m == nil {
		return Install{}, fmt.Errorf("%s/postgres --version says %q", bin, out)
	}
	major, err := strconv.Atoi(m[2])
	return Install{Bin: bin, Version: m[1], Major: major}, err
}

// Tool returns the path of a client program, psql or pgbench: the
// installation's own, else the newest of Debian's (whose /usr/bin/psql is a
// wrapper that looks for clusters), else the one on the PATH.
func (in Install) Tool(name string) (string, error) {
	debian, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if err != nil {
		return "", err
	}
	slices.SortFunc(debian, func(a, b string) int { return cmp.Compare(majorOf(b), majorOf(a)) })
	for _, path := range append([]string{filepath.Join(in.Bin, name)}, debian...) {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("no %s found: apt-get install postgresql: %w", name, err)
	}
	return path, nil
}

// majorOf returns the 15 of /usr/lib/postgresql/15/bin/psql.
func majorOf(path string) int {
	n, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
	if err != nil {
		return 0
	}
	return n
}

// root is the folder to copy when the installation must move: the one that
// holds bin, lib and share.
func (in Install) root() string { return strings.TrimSuffix(in.Bin, "/bin") }
