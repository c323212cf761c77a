package sandbox

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// FreePort returns a TCP port of 127.0.0.1 on which nothing listens. It is
// taken from below the range of ports that the kernel gives to outgoing
// connections, so a program that is stopped and started again finds its port
// still free. Another process may take it first all the same: whoever fails to
// listen asks for another one.
func FreePort() (int, error) {
	const low, high, attempts = 10 << 10, 32 << 10, 100
	var last error
	for range attempts {
		port := low + rand.IntN(high-low)
		l, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return port, l.Close()
		}
		last = err
	}
	return 0, fmt.Errorf("no free port in %d attempts: %w", attempts, last)
}
