package dial

import (
	"context"
	"net"
	"time"

	"github.com/pgweir/pgweir/wire"
)

// Chores runs Connect and Cancel in goroutines of their own: the pool's Dialer.
type Chores struct {
	// Detach is what Request.Detach is set to.
	Detach func(net.Conn) (wire.Socket, error)

	// Context ends all chores when it ends.
	Context context.Context

	commands commands
}

// Connect logs in to a server and tells done.
func (c *Chores) Connect(r Request, done func(*Session, error)) {
	r.Detach, r.commands = c.Detach, &c.commands
	go func() { done(Connect(c.Context, r)) }()
}

// Cancel sends a cancel request within timeout (0: no limit). ready is called
// when the connection stands, with a function to be called once: with true to
// send the request, with false to leave it.
func (c *Chores) Cancel(r Request, host string, key []byte, timeout time.Duration, ready func(send func(bool)), done func(error)) {
	ctx, cancel := c.Context, context.CancelFunc(func() {})
	if timeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, timeout)
	}
	go func() {
		defer cancel()
		done(Cancel(ctx, r, host, key, func() bool {
			answer := make(chan bool, 1)
			ready(func(send bool) { answer <- send })
			select {
			case send := <-answer:
				return send
			case <-ctx.Done(): // a loop that has stopped answers no more
				return false
			}
		}))
	}()
}
