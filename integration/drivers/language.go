package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pgweir/pgweir/integration/sandbox"
)

// driver is a line of the table.
type driver struct {
	name string

	// language is in what the driver's program is written; nil means that run
	// does it.
	language *language

	// run does the tasks, for drivers that are programs themselves.
	run func(context.Context, tools, target) row

	// tasks are what run reports; nil means tasks.
	tasks []task
}

var drivers = []driver{
	{name: "psql", run: runPsql},
	{name: "psycopg", language: python},
	{name: "psycopg2", language: python},
	{name: "asyncpg", language: python},
	{name: "sqlalchemy", language: python},
	{name: "django", language: python},
	{name: "pgx", language: golang},
	{name: "lib-pq", language: golang},
	{name: "jdbc", language: java},
	{name: "node-postgres", language: node},
	{name: "postgres.js", language: node},
	{name: "tokio-postgres", language: rust},
	{name: "pgbench", run: runPgbench, tasks: pgbenchTasks},
	{name: "pg_dump", run: runDump, tasks: dumpTasks},
}

// language says how the programs in a language are made and run.
type language struct {
	name string

	// pins is the file that names the versions, within the source.
	pins string

	// make installs what the programs need, when pins has changed or nothing is
	// there yet.
	make func(context.Context, shop) error

	// build is called each time, after make. It may be nil.
	build func(context.Context, shop) error

	// command is what runs a driver, and what is added to its environment.
	command func(shop, string) (command, env []string)
}

// shop is where things are.
type shop struct{ source, cache string }

// in returns a path below the source.
func (s shop) in(elem ...string) string { return filepath.Join(append([]string{s.source}, elem...)...) }

// to returns a path below the cache.
func (s shop) to(elem ...string) string { return filepath.Join(append([]string{s.cache}, elem...)...) }

// sh runs a command in dir. Its output is shown when it fails.
func sh(ctx context.Context, dir string, command ...string) error {
	cmd := newCommand(ctx, command, nil)
	cmd.Dir = dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(command[0]), err, lastLines(out.String(), 30))
	}
	return nil
}

// install makes the language's programs ready. What is there already, of the
// same pins, stays.
func (l *language) install(ctx context.Context, s shop) error {
	if l.make != nil {
		pins, err := os.ReadFile(s.in(l.pins))
		if err != nil {
			return err
		}
		stamp := s.to(l.name, "installed")
		if done, err := os.ReadFile(stamp); err != nil || !bytes.Equal(done, pins) {
			if err := sandbox.Retry(ctx, func() error {
				if err := os.RemoveAll(s.to(l.name)); err != nil {
					return err
				}
				if err := os.MkdirAll(s.to(l.name), 0o755); err != nil {
					return err
				}
				return l.make(ctx, s)
			}); err != nil {
				return err
			}
			if err := os.WriteFile(stamp, pins, 0o644); err != nil {
				return err
			}
		}
	}
	if l.build == nil {
		return nil
	}
	return l.build(ctx, s)
}

var python = &language{
	name: "python",
	pins: "python/requirements.txt",
	make: func(ctx context.Context, s shop) error {
		if err := sh(ctx, "", "python3", "-m", "venv", s.to("python", "venv")); err != nil {
			return err
		}
		return sh(ctx, "", s.to("python", "venv", "bin", "pip"), "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:", "-r", s.in("python", "requirements.txt"))
	},
	command: func(s shop, driver string) ([]string, []string) {
		return []string{s.to("python", "venv", "bin", "python"), "-B", s.in("python", "run.py"), driver}, nil
	},
}

var node = &language{
	name: "node",
	pins: "node/package-lock.json",
	make: func(ctx context.Context, s shop) error {
		for _, name := range []string{"package.json", "package-lock.json"} {
			data, err := os.ReadFile(s.in("node", name))
			if err != nil {
				return err
			}
			if err := os.WriteFile(s.to("node", name), data, 0o644); err != nil {
				return err
			}
		}
		return sh(ctx, s.to("node"), "npm", "ci", "--silent", "--ignore-scripts", "--no-audit", "--no-fund")
	},
	command: func(s shop, driver string) ([]string, []string) {
		return []string{"node", s.in("node", "run.js"), driver}, []string{"NODE_PATH=" + s.to("node", "node_modules")}
	},
}

var golang = &language{
	name: "go",
	build: func(ctx context.Context, s shop) error {
		return sh(ctx, s.in("go"), "go", "build", "-o", s.to("go", "drivers"), ".")
	},
	command: func(s shop, driver string) ([]string, []string) {
		return []string{s.to("go", "drivers"), driver}, nil
	},
}

// java's one dependency is fetched by Maven's own plugin; the compiler is part
// of the JDK.
var java = &language{
	name: "java",
	pins: "java/pom.xml",
	make: func(ctx context.Context, s shop) error {
		return sh(ctx, s.to("java"), "mvn", "-q", "-B", "-f", s.in("java", "pom.xml"), "-Dmaven.repo.local="+s.to("java", "repository"),
			"org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies", "-DoutputDirectory="+s.to("java", "lib"))
	},
	build: func(ctx context.Context, s shop) error {
		return sh(ctx, s.to("java"), "javac", "-cp", s.to("java", "lib", "*"), "-d", s.to("java", "classes"), s.in("java", "Drivers.java"))
	},
	command: func(s shop, _ string) ([]string, []string) {
		return []string{"java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", s.to("java", "lib", "*") + string(os.PathListSeparator) + s.to("java", "classes"), "Drivers"}, nil
	},
}

var rust = &language{
	name: "rust",
	build: func(ctx context.Context, s shop) error {
		return sh(ctx, "", "cargo", "build", "--quiet", "--locked", "--manifest-path", s.in("rust", "Cargo.toml"), "--target-dir", s.to("rust"))
	},
	command: func(s shop, _ string) ([]string, []string) {
		return []string{s.to("rust", "debug", "drivers")}, nil
	},
}
