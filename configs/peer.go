package configs

import "fmt"

// Peer is an entry of section [peers]: another pooler process that cancel
// requests are passed on to.
type Peer struct {
	ID       int // 1 to 65535
	Host     string
	Port     int
	PoolSize int // Inherit: default_pool_size
}

func newPeer(name string) (*Peer, error) {
	id, plain := atoi(name)
	if !plain || id < 1 || id > 65535 {
		return nil, fmt.Errorf("invalid peer id %q: must be 1 to 65535", name)
	}
	return &Peer{ID: id, Port: 6432, PoolSize: Inherit}, nil
}

var peerParams = []param[Peer]{
	text("host", "", "Name, address or unix socket of the peer; required.", func(p *Peer) *string { return &p.Host }),
	{
		name: "port", def: "6432", meaning: "Its port.",
		set: func(p *Peer, v string) (note string, err error) { p.Port, note, err = port(v); return },
	},
	count("pool_size", "`default_pool_size`", "Cancel requests under way to it at once.", Inherit, func(p *Peer) *int { return &p.PoolSize }),
}

// Peer returns the entry of section [peers] with that id, nil if there is none.
func (s *Snapshot) Peer(id int) *Peer {
	for _, p := range s.Peers {
		if p.ID == id {
			return p
		}
	}
	return nil
}

// PeerPoolSize is how many cancel requests may be under way to p at once; 0:
// without limit.
func (s *Snapshot) PeerPoolSize(p *Peer) int { return firstSet(p.PoolSize, s.Main.DefaultPoolSize) }
