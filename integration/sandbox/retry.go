package sandbox

import (
	"context"
	"fmt"
	"os"
	"time"
)

// retryAfter are the pauses before Retry tries again.
var retryAfter = []time.Duration{5 * time.Second, 20 * time.Second, time.Minute}

// Retry does what downloads something, and does it again if that fails:
// registries have hiccups. It returns the last error, and says the others on
// standard error.
func Retry(ctx context.Context, download func() error) error {
	for _, pause := range retryAfter {
		err := download()
		if err == nil || ctx.Err() != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "%v\nagain in %v\n", err, pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		}
	}
	return download()
}
