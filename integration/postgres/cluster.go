package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgweir/pgweir/integration/sandbox"
)

// Superuser is the role that a cluster starts with, and Database its database.
const (
	Superuser = "postgres"
	Database  = "postgres"
)

// Options say what a cluster is like. The zero value is a cluster that trusts
// everybody and does not care whether its data survive.
type Options struct {
	// Settings are server settings, given on the command line. They win over
	// the defaults of this package.
	Settings map[string]string

	// HBA is the content of pg_hba.conf. Empty means trust for everybody.
	HBA string

	// Install is the installation to use. Zero means what Find finds.
	Install Install
}

// Cluster is a private Postgres. It listens on 127.0.0.1 and on a unix socket,
// with the same port number.
type Cluster struct {
	Install Install
	Host    string // 127.0.0.1
	Port    int
	Socket  string // the folder of the unix socket

	sandbox  *sandbox.Sandbox
	data     string
	settings map[string]string
	server   *sandbox.Process
}

// startTimeout bounds the start of a server, crash recovery included.
const startTimeout = 60 * time.Second

const trustAll = "local all all trust\nhost all all 127.0.0.1/32 trust\nlocal replication all trust\nhost replication all 127.0.0.1/32 trust\n"

// Start makes a cluster in the sandbox and starts it. It ends with the sandbox.
func Start(ctx context.Context, s *sandbox.Sandbox, o Options) (*Cluster, error) {
	if o.Install.Bin == "" {
		in, err := Find()
		if err != nil {
			return nil, err
		}
		o.Install = in
	}
	c := &Cluster{Install: o.Install, Host: "127.0.0.1", sandbox: s, data: s.Path("data")}
	if err := c.init(ctx, o); err != nil {
		return nil, fmt.Errorf("postgres %s: %w", c.Install.Version, err)
	}
	return c, nil
}

func (c *Cluster) init(ctx context.Context, o Options) error {
	root, err := c.sandbox.Within(c.Install.root())
	if err != nil {
		return err
	}
	c.Install.Bin = filepath.Join(root, "bin")
	if c.Socket, err = c.sandbox.Mkdir("socket"); err != nil {
		return err
	}
	if _, err := c.sandbox.Run(ctx, sandbox.Command{
		Path: c.bin("initdb"),
		Args: []string{"-D", c.data, "-U", Superuser, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"},
	}); err != nil {
		return err
	}
	hba := o.HBA
	if hba == "" {
		hba = trustAll
	}
	if _, err := c.sandbox.WriteFile("data/pg_hba.conf", []byte(hba)); err != nil {
		return err
	}
	c.settings = map[string]string{
		"autovacuum":                 "off",
		"dynamic_shared_memory_type": "mmap", // nothing left in /dev/shm by a kill -9
		"fsync":                      "off",
		"full_page_writes":           "off",
		"jit":                        "off",
		"listen_addresses":           c.Host,
		"max_connections":            "200",
		"synchronous_commit":         "off",
		"timezone":                   "UTC",
		"unix_socket_directories":    c.Socket,
	}
	maps.Copy(c.settings, o.Settings)

	// Another process may take a free port before the server listens on it.
	for attempt := 0; ; attempt++ {
		if c.Port, err = sandbox.FreePort(); err != nil {
			return err
		}
		err = c.start(ctx)
		if err == nil || attempt == 3 || !strings.Contains(err.Error(), "Address already in use") {
			return err
		}
	}
}

func (c *Cluster) bin(name string) string { return filepath.Join(c.Install.Bin, name) }

// start starts the server in the data folder and waits until it answers.
func (c *Cluster) start(ctx context.Context) (err error) {
	args := []string{"-D", c.data, "-p", strconv.Itoa(c.Port)}
	for _, name := range slices.Sorted(maps.Keys(c.settings)) {
		args = append(args, "-c", name+"="+c.settings[name])
	}
	c.server, err = c.sandbox.Start(sandbox.Command{
		Path: c.bin("postgres"),
		Args: args,
		Stop: syscall.SIGINT, // fast shutdown: ends the sessions, keeps the data
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return c.server.Await(ctx, func(ctx context.Context) error {
		conn, err := c.Connect(ctx)
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	})
}

// Connect opens a connection of the superuser, over the unix socket.
func (c *Cluster) Connect(ctx context.Context) (*pgx.Conn, error) {
	return pgx.Connect(ctx, fmt.Sprintf("host=%s port=%d user=%s dbname=%s sslmode=disable", c.Socket, c.Port, Superuser, Database))
}

// DSN is the connection URL of a role and database over TCP.
func (c *Cluster) DSN(role, database string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.User(role),
		Host:     c.Host + ":" + strconv.Itoa(c.Port),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Exec runs statements as the superuser.
func (c *Cluster) Exec(ctx context.Context, sql string) error {
	conn, err := c.Connect(ctx)
	if err != nil {
		return err
	}
	_, err = conn.PgConn().Exec(ctx, sql).ReadAll()
	return errors.Join(err, conn.Close(ctx))
}

// Log is what the server has written so far, over all its starts.
func (c *Cluster) Log() string { return c.server.Log() }

// Stop shuts the server down, ending its sessions. Restart starts it again.
func (c *Cluster) Stop() error { return c.server.Stop() }

// Restart stops the server if it runs, and starts it on the same port.
func (c *Cluster) Restart(ctx context.Context) error {
	if err := c.Stop(); err != nil {
		return err
	}
	return c.startAgain(ctx)
}

// startAgain starts a server whose folder another one may have had just now.
func (c *Cluster) startAgain(ctx context.Context) error {
	// After Kill, the backends may need a moment to notice; until then a new
	// server refuses to start.
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		err := c.start(ctx)
		if err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), "shared memory block") {
			return err
		}
	}
}

// Kill ends the postmaster by SIGKILL, as the kernel does when memory is short.
// Its backends end themselves when they notice. Restart starts it again.
func (c *Cluster) Kill() { c.server.Kill() }

// Freeze makes c a machine that does not answer: what speaks to clients stands
// still, and connections to it are neither refused nor closed. thaw undoes that.
func (c *Cluster) Freeze(ctx context.Context) (thaw func() error, err error) {
	conn, err := c.Connect(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	stopped := []int{c.server.PID()}
	if err := syscall.Kill(stopped[0], syscall.SIGSTOP); err != nil {
		return nil, err
	}
	thaw = func() error {
		var errs []error
		for _, pid := range stopped {
			if err := syscall.Kill(pid, syscall.SIGCONT); err != nil && err != syscall.ESRCH {
				errs = append(errs, err)
			}
		}
		return errors.Join(errs...)
	}
	rows, err := conn.Query(ctx, "select pid from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()")
	if err != nil {
		return thaw, err
	}
	backends, err := pgx.CollectRows(rows, pgx.RowTo[int])
	for _, pid := range backends {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil && err != syscall.ESRCH {
			return thaw, err
		}
		stopped = append(stopped, pid)
	}
	return thaw, err
}

// Psql runs psql with args against a connection URL, DSN's or a pooler's, and
// returns its output without headers and padding.
func (c *Cluster) Psql(ctx context.Context, url string, args ...string) (string, error) {
	return c.tool(ctx, "psql", append([]string{"-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", url}, args...))
}

// Pgbench runs pgbench with args, which say where to connect to, and returns
// its report.
func (c *Cluster) Pgbench(ctx context.Context, args ...string) (string, error) {
	return c.tool(ctx, "pgbench", args)
}

func (c *Cluster) tool(ctx context.Context, name string, args []string) (string, error) {
	path, err := c.Install.Tool(name)
	if err != nil {
		return "", err
	}
	return c.sandbox.Run(ctx, sandbox.Command{Path: path, Args: args})
}
