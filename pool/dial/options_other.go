//go:build !linux

package dial

import "time"

// setUserTimeout has no counterpart outside of Linux.
func setUserTimeout(int, time.Duration) error { return nil }
