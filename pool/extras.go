package pool

import (
	"github.com/pgweir/pgweir/pool/params"
	"github.com/pgweir/pgweir/wire"
)

// wantExtra notes that c asks for a parameter that is not tracked. It reports
// whether name can be one.
func (c *Client) wantExtra(name, value string) bool {
	if !params.IsName(name) {
		return false
	}
	c.login.extra = append(c.login.extra, params.Extra{Name: name, Value: value})
	return true
}

// told notes that a command may have changed what v was told: the client's own
// SET or RESET, a reset of the whole session.
func (v *Server) told(msg []byte) {
	if v.extras == (params.Extras{}) || v.job == jobSets {
		return
	}
	switch string(msg[wire.HeaderLen:]) {
	case "SET\x00", "RESET\x00", "DISCARD ALL\x00":
		v.strayed = true
	}
}

// longTag is the length of the longest CommandComplete that must be seen whole.
const longTag = wire.HeaderLen + len("DEALLOCATE ALL\x00")
