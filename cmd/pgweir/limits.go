package main

import (
	"fmt"
	"syscall"

	"github.com/pgweir/pgweir/configs"
)

// openFiles tells how many descriptors the process may have, and may need. The
// Go runtime has raised the soft limit to the hard one before main; package
// configs warns when that is too low.
func openFiles(snap *configs.Snapshot) (string, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return "", fmt.Errorf("could not get RLIMIT_NOFILE: %w", err)
	}
	const others = 10 // as PgBouncer adds
	need := snap.Main.MaxClientConn + others
	for _, d := range snap.Databases {
		users := 1
		if d.User == "" {
			users = snap.Auth.Len()
		}
		need += users * snap.ForPool(d, d.User).PoolSize
	}
	return fmt.Sprintf("kernel file descriptor limit: %d (hard: %d); max_client_conn: %d, max expected fd use: %d",
		limit.Cur, limit.Max, snap.Main.MaxClientConn, need), nil
}
