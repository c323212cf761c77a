// Package latency counts durations, by what took its time, such that percentiles
// can be told. Counting one takes a few nanoseconds and allocates nothing, so
// that each transaction on a loop can do it.
//
// Nothing here has a lock, and nothing knows the time: whoever has a histogram
// sees to both.
package latency

// Kind is what took its time.
type Kind uint8

// The kinds.
const (
	// Wait is the wait of a client that wants to ask for a server: until
	// it has one, or gives up. One that gets a server at once has waited for 0.
	Wait Kind = iota

	// Query is a query, or a pipelined batch, on its server: until the
	// last ReadyForQuery. It begins with the request; after a wait, with the
	// end of that.
	Query

	// Transaction is a transaction as the application sees it: from its
	// first request to its end, a wait for a server included.
	Transaction

	// Login is the login of a client, from accept to its welcome.
	Login

	// Connect is connecting and logging in to a server, if it succeeds.
	Connect

	// Kinds is how many there are.
	Kinds
)

// String is the kind's name in SHOW LATENCY and the metrics.
func (k Kind) String() string {
	return [Kinds]string{"wait", "query", "transaction", "login", "connect"}[k]
}

// Histograms are one for each kind. The zero value is empty.
type Histograms [Kinds]Histogram

// Add counts all that other has counted.
func (h *Histograms) Add(other *Histograms) {
	for k := range h {
		h[k].Add(&other[k])
	}
}
