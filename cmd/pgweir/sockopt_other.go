//go:build !linux

package main

import "errors"

// systemOptions are Linux's alone.
var systemOptions []sockopt

// sharePort fails: other systems let processes share a port, but don't spread
// the clients over them.
func sharePort(int) error { return errors.ErrUnsupported }
