package postgres

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/pgweir/pgweir/integration/sandbox"
)

// Standby makes a hot standby of c that streams from it, in the same sandbox
// under a name of its own, and starts it. It has the port of c, so that one
// database entry can name both, and listens on a unix socket and on the
// addresses, which must be others than those of c. The HBA of c must let
// replication connections in, as that of the zero Options does.
func (c *Cluster) Standby(ctx context.Context, name string, addresses ...string) (*Cluster, error) {
	d := &Cluster{Install: c.Install, Port: c.Port, sandbox: c.sandbox, data: c.sandbox.Path(name), settings: maps.Clone(c.settings)}
	var err error
	if d.Socket, err = c.sandbox.Mkdir(name + "-socket"); err != nil {
		return nil, err
	}
	d.settings["listen_addresses"] = strings.Join(addresses, ",")
	d.settings["unix_socket_directories"] = d.Socket
	return d, d.follow(ctx, c)
}

// Follow makes c, which has stopped or was killed, a standby of primary, with
// data copied from there, and starts it where it was.
func (c *Cluster) Follow(ctx context.Context, primary *Cluster) error {
	if err := c.Stop(); err != nil {
		return err
	}
	// Aside, not away: after Kill the backends may need a moment to notice.
	if err := os.Rename(c.data, c.data+"-before-"+filepath.Base(primary.data)); err != nil {
		return err
	}
	return c.follow(ctx, primary)
}

func (c *Cluster) follow(ctx context.Context, primary *Cluster) error {
	name := filepath.Base(c.data)
	if err := primary.copyTo(ctx, name); err != nil {
		return fmt.Errorf("standby %s: %w", name, err)
	}
	if err := c.startAgain(ctx); err != nil {
		return fmt.Errorf("standby %s: %w", name, err)
	}
	return nil
}

// copyTo makes a standby's data folder of a server that runs, by the steps of the
// manual's chapter on low-level base backups: not every installation has
// pg_basebackup.
func (c *Cluster) copyTo(ctx context.Context, name string) error {
	conn, err := c.Connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "select pg_backup_start('standby', true)"); err != nil {
		return err
	}
	data := c.sandbox.Path(name)
	if _, err := c.sandbox.Run(ctx, sandbox.Command{Path: "/bin/cp", Args: []string{"-a", c.data, data}}); err != nil {
		return err
	}
	if _, err := c.sandbox.Run(ctx, sandbox.Command{Path: "/bin/rm", Args: []string{data + "/postmaster.pid"}}); err != nil {
		return err
	}
	var label string
	if err := conn.QueryRow(ctx, "select labelfile from pg_backup_stop(false)").Scan(&label); err != nil {
		return err
	}
	primary := fmt.Sprintf("primary_conninfo = 'host=%s port=%d user=%s'\n", c.Socket, c.Port, Superuser)
	for file, text := range map[string]string{"backup_label": label, "standby.signal": "", "postgresql.auto.conf": primary} {
		if _, err := c.sandbox.WriteFile(name+"/"+file, []byte(text)); err != nil {
			return err
		}
	}
	return nil
}

// Promote makes a primary of a standby, and returns when it is one.
func (c *Cluster) Promote(ctx context.Context) error {
	return c.Exec(ctx, "select pg_promote(true, 60)")
}
