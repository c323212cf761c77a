//go:build !linux

package sandbox

import (
	"errors"
	"time"
)

// CPU needs Linux.
func (p *Process) CPU() (user, system time.Duration, err error) {
	return 0, 0, errors.ErrUnsupported
}

// Memory needs Linux.
func (p *Process) Memory() (rss, pss int64, err error) { return 0, 0, errors.ErrUnsupported }

// Descriptors needs Linux.
func (p *Process) Descriptors() ([]string, error) { return nil, errors.ErrUnsupported }
