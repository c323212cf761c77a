// Package pooler runs pgweir, or a PgBouncer in its place, in a sandbox. Both
// read the same configuration and answer on the same console, so whatever uses
// this package can be held against either.
package pooler

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgweir/pgweir/integration/sandbox"
)

// Admin is the console user of every Pooler. Its password is Pooler.Password.
const Admin = "admin"

// Binary returns the pooler to run: $PGWEIR_BIN if set, otherwise a pgweir that
// is built into the sandbox, with the flags of $PGWEIR_BUILD ("-race" and the
// like) if set.
func Binary(ctx context.Context, s *sandbox.Sandbox) (string, error) {
	if bin := os.Getenv("PGWEIR_BIN"); bin != "" {
		abs, err := filepath.Abs(bin)
		if err != nil {
			return "", err
		}
		return s.Within(abs)
	}
	if err := statSources(ctx); err != nil {
		return "", err
	}
	bin := s.Path("pgweir")
	args := append([]string{"build", "-o", bin}, strings.Fields(os.Getenv("PGWEIR_BUILD"))...)
	out, err := exec.CommandContext(ctx, "go", append(args, "github.com/pgweir/pgweir/cmd/pgweir")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build ./cmd/pgweir: %w\n%s", err, out)
	}
	return bin, nil
}

// statSources looks at pgweir's source files. `go test` notes which files a test
// looks at, and takes a result from its cache only while they are as they were:
// a test that builds pgweir is run again after each change.
func statSources(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/pgweir/pgweir").Output()
	if err != nil {
		return fmt.Errorf("go list -m: %w", err)
	}
	root := strings.TrimSpace(string(out))
	for _, top := range []string{"cmd", "admin", "pool", "auth", "wire", "configs"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			_, err = os.Stat(path)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Config is what goes into the pgbouncer.ini and the userlist.txt.
type Config struct {
	// Settings are keys of [pgbouncer]. They win over the defaults of this
	// package: trust for everybody in the userlist, 127.0.0.1 and a free port,
	// a unix socket in the sandbox.
	Settings map[string]string

	Databases []string // lines of [databases]
	Users     []string // lines of [users]
	Peers     []string // lines of [peers]
	Plans     []string // lines of [plans]

	// Port is the TCP port, 0 for a free one. Several poolers may share one.
	Port int

	// Userlist are the clients that may log in, and their secrets.
	Userlist map[string]string

	// Console are connection parameters of libpq's for the console, where a
	// password does not lead there.
	Console string
}

// Pooler is a running pooler.
type Pooler struct {
	Host   string // 127.0.0.1
	Port   int
	Socket string // the folder of the unix socket

	// Password is the console user's, another one for each Pooler: the machine
	// may have users who should not be admins here.
	Password string

	*sandbox.Process

	sandbox *sandbox.Sandbox
	name    string
	binary  string
	env     []string
	config  Config
}

// Start starts the pooler binary under a name of its own, which its files in
// the sandbox carry, and waits until it serves. The environment env is added
// to the caller's.
func Start(ctx context.Context, s *sandbox.Sandbox, name, binary string, c Config, env ...string) (*Pooler, error) {
	p := &Pooler{Host: "127.0.0.1", Password: rand.Text(), sandbox: s, name: name, binary: binary, env: env, config: c}
	var err error
	if p.Socket, err = s.Mkdir(name); err != nil {
		return nil, err
	}
	if p.Port = c.Port; p.Port != 0 {
		if err := p.start(ctx); err != nil {
			return nil, err
		}
		return p, nil
	}
	// Another process may take a free port before the pooler listens on it.
	for attempt := 0; ; attempt++ {
		if p.Port, err = sandbox.FreePort(); err != nil {
			return nil, err
		}
		err = p.start(ctx)
		if err == nil {
			return p, nil
		}
		if attempt == 3 || !strings.Contains(err.Error(), "ddress already in use") {
			return nil, err
		}
	}
}

func (p *Pooler) start(ctx context.Context) error {
	if err := p.write(); err != nil {
		return err
	}
	var err error
	p.Process, err = p.sandbox.Start(sandbox.Command{
		Path: p.binary,
		Args: []string{p.file(".ini")},
		Env:  p.env,
		Name: p.name,
		Stop: syscall.SIGQUIT, // at once, whatever the clients do
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return p.Await(ctx, func(ctx context.Context) error {
		_, err := p.Console(ctx, "SHOW VERSION")
		return err
	})
}

func (p *Pooler) file(ext string) string { return p.sandbox.Path(p.name + ext) }

// write writes the configuration and the userlist.
func (p *Pooler) write() error {
	settings := map[string]string{
		"admin_users":     Admin,
		"auth_file":       p.file(".txt"),
		"auth_type":       "trust",
		"listen_addr":     p.Host,
		"listen_port":     strconv.Itoa(p.Port),
		"unix_socket_dir": p.Socket,
	}
	maps.Copy(settings, p.config.Settings)
	var ini strings.Builder
	ini.WriteString("[pgbouncer]\n")
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&ini, "%s = %s\n", key, settings[key])
	}
	fmt.Fprintf(&ini, "[databases]\n%s\n", strings.Join(p.config.Databases, "\n"))
	fmt.Fprintf(&ini, "[users]\n%s\n", strings.Join(p.config.Users, "\n"))
	if len(p.config.Peers) > 0 { // PgBouncer knows the section from 1.19 on
		fmt.Fprintf(&ini, "[peers]\n%s\n", strings.Join(p.config.Peers, "\n"))
	}
	if len(p.config.Plans) > 0 { // pgweir's own
		fmt.Fprintf(&ini, "[plans]\n%s\n", strings.Join(p.config.Plans, "\n"))
	}

	var list strings.Builder
	quote := strings.NewReplacer(`"`, `""`)
	fmt.Fprintf(&list, "\"%s\" \"%s\"\n", Admin, p.Password)
	for _, user := range slices.Sorted(maps.Keys(p.config.Userlist)) {
		fmt.Fprintf(&list, "\"%s\" \"%s\"\n", quote.Replace(user), quote.Replace(p.config.Userlist[user]))
	}
	if _, err := p.sandbox.WriteFile(p.name+".txt", []byte(list.String())); err != nil {
		return err
	}
	_, err := p.sandbox.WriteFile(p.name+".ini", []byte(ini.String()))
	return err
}

// Reload changes the configuration files and has the pooler read them.
func (p *Pooler) Reload(ctx context.Context, c Config) error {
	p.config = c
	if err := p.write(); err != nil {
		return err
	}
	_, err := p.Console(ctx, "RELOAD")
	return err
}

// DSN is the connection URL of a user and database over TCP. An empty password
// means none.
func (p *Pooler) DSN(user, password, database string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.User(user),
		Host:     p.Host + ":" + strconv.Itoa(p.Port),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	if password != "" {
		u.User = url.UserPassword(user, password)
	}
	return u.String()
}

// Row is one row of a SHOW command: column name to value.
type Row map[string]string

// Console runs one command on the console, over a connection of its own.
func (p *Pooler) Console(ctx context.Context, command string) (_ []Row, err error) {
	conn, err := pgconn.Connect(ctx, fmt.Sprintf("host=%s port=%d user=%s password=%s dbname=pgbouncer sslmode=prefer %s", p.Host, p.Port, Admin, p.Password, p.config.Console))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	results, err := conn.Exec(ctx, command).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("console: %s: %w", command, err)
	}
	var rows []Row
	for _, result := range results {
		for _, values := range result.Rows {
			row := Row{}
			for i, column := range result.FieldDescriptions {
				row[column.Name] = string(values[i])
			}
			rows = append(rows, row)
		}
	}
	return rows, nil
}
