package pool

// ClientState is where a client stands. (*Client).move is the only place that
// changes it, and the client stands in the list of its state.
type ClientState uint8

// The states of a client.
const (
	// ClientLogin: accepted, and not yet welcomed. It reads the startup packet
	// and the answers of the authentication. It leaves to ClientIdle
	// (welcomed), to ClientWaiting (nobody knows yet what the server would say
	// in its welcome; replication, and there is no slot yet), to ClientActive
	// (replication, when its server is logged in), to ClientCancel (it turned
	// out to be a cancel request), or to ClientClosed.
	ClientLogin ClientState = iota
	// ClientIdle: no server, and nothing asked. It leaves to ClientActive or
	// ClientWaiting when a request begins, or to ClientClosed.
	ClientIdle
	// ClientWaiting: it has begun a request, or a login, and no server. It is
	// not read from. It leaves to ClientActive (server granted), to ClientIdle
	// (a login that is answered from what another server said; a request that
	// was cancelled), to ClientLogin (replication: a server of its own is being
	// logged in to), or to ClientClosed (a timeout, gone, refused).
	ClientWaiting
	// ClientActive: paired with one server. It leaves to ClientIdle when the
	// server is released, or to ClientClosed.
	ClientActive
	// ClientConsole: logged in to the admin console. It leaves to ClientClosed.
	ClientConsole
	// ClientCancel: a cancel request under way to its server. It leaves to
	// ClientClosed.
	ClientCancel
	// ClientClosed is terminal.
	ClientClosed
)

// clientExits holds, for each state, the set of states it may leave to.
var clientExits = [...]uint8{
	ClientLogin:   1<<ClientIdle | 1<<ClientWaiting | 1<<ClientActive | 1<<ClientConsole | 1<<ClientCancel | 1<<ClientClosed,
	ClientIdle:    1<<ClientActive | 1<<ClientWaiting | 1<<ClientClosed,
	ClientWaiting: 1<<ClientActive | 1<<ClientIdle | 1<<ClientLogin | 1<<ClientClosed,
	ClientActive:  1<<ClientIdle | 1<<ClientClosed,
	ClientConsole: 1 << ClientClosed,
	ClientCancel:  1 << ClientClosed,
	ClientClosed:  0,
}

func (s ClientState) String() string {
	return [...]string{"login", "idle", "waiting", "active", "active", "active_cancel_req", "closed"}[s]
}

// ServerState is where a server stands. (*Server).move is the only place that
// changes it, and the server stands in the list of its state. A server that is
// being connected and logged in is no Server yet: see opening.
type ServerState uint8

// The states of a server.
const (
	// ServerLoose: between two states, within one turn: handed over by the
	// chore that logged it in, released by its client, or on its way to
	// another loop. In no list. It leaves to any state but ServerLoose.
	ServerLoose ServerState = iota
	// ServerIdle: ready for anybody. It leaves to ServerActive, to ServerUsed
	// (idle for longer than server_check_delay), to ServerTested (asked whether
	// it is still what target_session_attrs wants), to ServerLoose (moving to
	// another loop) or to ServerClosed.
	ServerIdle
	// ServerUsed: to be checked before it is used again. It leaves to
	// ServerTested or to ServerClosed.
	ServerUsed
	// ServerTested: a query of pgweir's own runs: a reset, a check, a
	// connect_query, what the server is. It leaves to ServerIdle, ServerActive, ServerLoose (moving
	// to another loop) or ServerClosed.
	ServerTested
	// ServerActive: paired with one client. It leaves to ServerLoose (released)
	// or ServerClosed.
	ServerActive
	// ServerBeingCanceled: released while a cancel request to it is still
	// under way. It leaves to where a released server goes when that has
	// ended, or to ServerClosed.
	ServerBeingCanceled
	// ServerClosed is terminal.
	ServerClosed
)

var serverExits = [...]uint8{
	ServerLoose:         1<<ServerIdle | 1<<ServerUsed | 1<<ServerTested | 1<<ServerActive | 1<<ServerBeingCanceled | 1<<ServerClosed,
	ServerIdle:          1<<ServerActive | 1<<ServerUsed | 1<<ServerTested | 1<<ServerLoose | 1<<ServerClosed,
	ServerUsed:          1<<ServerTested | 1<<ServerClosed,
	ServerTested:        1<<ServerIdle | 1<<ServerActive | 1<<ServerLoose | 1<<ServerClosed,
	ServerActive:        1<<ServerLoose | 1<<ServerClosed,
	ServerBeingCanceled: 1<<ServerLoose | 1<<ServerClosed,
	ServerClosed:        0,
}

func (s ServerState) String() string {
	return [...]string{"new", "idle", "used", "tested", "active", "being_canceled", "closed"}[s]
}
