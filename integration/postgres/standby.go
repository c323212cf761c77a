package postgres

import (
	"context"
	"fmt"
	"maps"

	"github.com/pgweir/pgweir/integration/sandbox"
)

// Standby makes a hot standby of c that streams from it, in the same sandbox
// under a name of its own, and starts it. It has the port of c and listens on a
// unix socket alone, so that one database entry can name both. The HBA of c
// must let replication connections in, as that of the zero Options does.
func (c *Cluster) Standby(ctx context.Context, name string) (*Cluster, error) {
	d := &Cluster{Install: c.Install, Port: c.Port, sandbox: c.sandbox, data: c.sandbox.Path(name), settings: maps.Clone(c.settings)}
	var err error
	if d.Socket, err = c.sandbox.Mkdir(name + "-socket"); err != nil {
		return nil, err
	}
	d.settings["listen_addresses"] = ""
	d.settings["unix_socket_directories"] = d.Socket
	if _, err := c.sandbox.Run(ctx, sandbox.Command{
		Path: c.bin("pg_basebackup"),
		Args: []string{"-D", d.data, "-d", fmt.Sprintf("host=%s port=%d user=%s", c.Socket, c.Port, Superuser), "-R", "-X", "stream", "-c", "fast", "--no-sync"},
	}); err != nil {
		return nil, fmt.Errorf("standby %s: %w", name, err)
	}
	if err := d.start(ctx); err != nil {
		return nil, fmt.Errorf("standby %s: %w", name, err)
	}
	return d, nil
}

// Promote makes a primary of a standby, and returns when it is one.
func (c *Cluster) Promote(ctx context.Context) error {
	return c.Exec(ctx, "select pg_promote(true, 60)")
}
