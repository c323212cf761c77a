package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/pgweir/pgweir/integration/load"
)

// A storm of TLS handshakes meets clients that are connected already. It comes
// from a process of its own, which has less of a claim to the processors: what
// is measured is how much the pooler makes the others wait.
const (
	stormWork     = "a storm of TLS handshakes"
	stormSize     = 2000 // clients that come at once, log in and go
	stormTogether = 200  // of them are under way at any time
	stormNice     = 10
	stormGoal     = 20 * time.Millisecond
)

// stormFigures are the latencies of one client's queries, and how long the
// storm took.
type stormFigures struct {
	calm, storm time.Duration // p99 before and during the storm
	length      time.Duration
}

// delay is what the storm adds to the p99.
func (f stormFigures) delay() time.Duration { return f.storm - f.calm }

// measureStorm measures the storm for pgweir and PgBouncer.
func (b *bench) measureStorm(ctx context.Context) (map[string]stormFigures, error) {
	if !b.only.MatchString(stormWork) {
		return nil, nil
	}
	all := map[string]stormFigures{}
	for _, name := range []string{pgweir, pgbouncer} {
		var rounds []stormFigures
		for range b.rounds {
			f, err := b.storm(ctx, name)
			if err != nil {
				return nil, fmt.Errorf("%s: %s: %w", stormWork, name, err)
			}
			rounds = append(rounds, f)
		}
		slices.SortFunc(rounds, func(a, b stormFigures) int { return cmp.Compare(a.delay(), b.delay()) })
		all[name] = rounds[len(rounds)/2]
	}
	return all, nil
}

// storm lets one client ask all the time, at first alone and then in a storm.
func (b *bench) storm(ctx context.Context, name string) (f stormFigures, err error) {
	fmt.Printf("\n%s: %s\n", stormWork, name)
	w := b.encrypted(keyRSA, work{})
	t, err := b.start(ctx, name, w.settings)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, t.stop()) }()
	c, err := load.Dial(ctx, t.login(w))
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	ask := func(over <-chan struct{}) (time.Duration, error) {
		var h load.Histogram
		for {
			select {
			case <-over:
				return h.Quantile(0.99), nil
			default:
			}
			began := time.Now()
			if _, err := c.Query("select 1"); err != nil {
				return 0, err
			}
			h.Record(time.Since(began))
		}
	}
	calm, cancel := context.WithTimeout(ctx, b.length/2)
	defer cancel()
	if f.calm, err = ask(calm.Done()); err != nil {
		return f, err
	}

	over, failed := make(chan struct{}), error(nil)
	began := time.Now()
	go func() {
		defer close(over)
		failed = b.unleash(ctx, t)
		f.length = time.Since(began)
	}()
	f.storm, err = ask(over)
	<-over
	if err = errors.Join(err, failed); err != nil {
		return f, err
	}
	fmt.Printf("  p99 %v, in the storm of %v: %v\n", f.calm.Round(10*time.Microsecond), f.length.Round(time.Millisecond), f.storm.Round(10*time.Microsecond))
	return f, nil
}

// The environment of the process that is the storm.
const (
	stormTarget = "BENCH_STORM"
	stormCA     = "BENCH_STORM_CA"
)

// unleash runs this program again, as the storm.
func (b *bench) unleash(ctx context.Context, t *target) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), stormTarget+"="+t.address, stormCA+"="+b.certs.ca)
	var out bytes.Buffer
	cmd.Stderr = &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w: %s", err, out.Bytes())
	}
	return nil
}

// beStorm is the storm on the pooler at address.
func beStorm(ctx context.Context, address, ca string) error {
	if err := syscall.Setpriority(syscall.PRIO_PROCESS, 0, stormNice); err != nil {
		return err
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	to := load.Login{
		Address: address, User: trustedUser, Database: database,
		TLS: &tls.Config{RootCAs: roots, ServerName: certName},
	}
	errs := make([]error, stormTogether)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() {
			for range stormSize / stormTogether {
				c, err := load.Dial(ctx, to)
				if err == nil {
					err = c.Close()
				}
				if err != nil {
					errs[i] = err
					return
				}
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}
