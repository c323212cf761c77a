// Package pam asks the system's PAM about passwords. Everything here may block:
// it runs in chores, never on a loop.
//
// PAM is a library in C. It is there in binaries that were built with cgo and
// the build tag pam:
//
//	CGO_ENABLED=1 go build -tags pam ./cmd/pgweir
package pam

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Service is the name of PgBouncer's rules in /etc/pam.d, and pgweir's.
const Service = "pgbouncer"

// Timeout bounds a login: client_login_timeout is no longer, unless it was set
// to be.
const Timeout = time.Minute

// ErrMissing says that the binary was built without PAM.
var ErrMissing = errors.New("this binary was built without PAM")

// places bound how many threads PAM keeps busy: its modules may block as long as
// they like, and can't be told to stop.
var places = make(chan struct{}, 20)

// Check returns nil if and only if PAM says that password is user's, and that
// the user may come in, from host. It returns when PAM has answered, when ctx
// ends, or after Timeout. An error holds no password.
func Check(ctx context.Context, user, password, host string) error {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	return limited(ctx, func() error { return authenticate(Service, "", user, password, host) })
}

// limited runs check when a place is free, and waits for it as long as ctx
// allows.
func limited(ctx context.Context, check func() error) error {
	select {
	case places <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("%d logins are waiting for PAM: %w", cap(places), ctx.Err())
	}
	answer := make(chan error, 1)
	go func() {
		defer func() { <-places }()
		answer <- check()
	}()
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return fmt.Errorf("PAM does not answer: %w", ctx.Err())
	}
}
