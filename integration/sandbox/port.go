package sandbox

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// given are the ports that FreePort has returned.
var given sync.Map

// FreePort returns a TCP port of 127.0.0.1 on which nothing listens. It is
// taken from below the range of ports that the kernel gives to outgoing
// connections, so a program that is stopped and started again finds its port
// still free. A process is given no port twice. Another process may take it first
// all the same: whoever fails to listen asks for another one.
func FreePort() (int, error) {
	const low, high, attempts = 10_000, 28_000, 100 // those up to 32767 are for the tests of cmd/pgweir
	last := errors.New("each one was given before")
	for range attempts {
		port := low + rand.IntN(high-low)
		if _, given := given.LoadOrStore(port, true); given {
			continue
		}
		l, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return port, l.Close()
		}
		last = err
	}
	return 0, fmt.Errorf("no free port in %d attempts: %w", attempts, last)
}
