package auth

import (
	"net/netip"
	"os/user"
	"slices"
	"strconv"

	"github.com/pgweir/pgweir/configs"
)

// Arrival is what an HBA rule is matched with: where a client comes from and
// what it asks for.
type Arrival struct {
	Local       bool       // over a unix socket
	TLS         bool       // with TLS
	Addr        netip.Addr // where it comes from, unless Local
	Database    string
	User        string
	Replication bool // asks for physical replication
}

// Rule returns the first rule of h that matches a, nil if none does.
func Rule(h *configs.HBA, a Arrival) *configs.HBARule {
	if h == nil {
		return nil
	}
	for i := range h.Rules {
		if r := &h.Rules[i]; applies(r, &a) {
			return r
		}
	}
	return nil
}

func applies(r *configs.HBARule, a *Arrival) bool {
	switch r.Conn {
	case configs.HBALocal:
		if !a.Local {
			return false
		}
	case configs.HBAHost, configs.HBAHostSSL, configs.HBAHostNoSSL:
		if a.Local || r.Conn == configs.HBAHostSSL && !a.TLS || r.Conn == configs.HBAHostNoSSL && a.TLS {
			return false
		}
		addr := a.Addr.Unmap().WithZone("") // a network contains no address with a zone
		if !r.AnyAddress && (r.Network != r.Network.Masked() || !r.Network.Contains(addr)) {
			return false
		}
	}
	users := &r.Users
	if !users.All && !slices.Contains(users.Names, a.User) {
		return false
	}
	dbs := &r.Databases
	if a.Replication {
		return dbs.Replication
	}
	return dbs.All || dbs.SameUser && a.Database == a.User || slices.Contains(dbs.Names, a.Database)
}

// MayBe reports whether somebody who the system calls name may log in as user.
// Without a map the names must be equal.
func MayBe(m *configs.IdentMap, name, user string) bool {
	if name == "" {
		return false
	}
	if m == nil {
		return name == user
	}
	return slices.ContainsFunc(m.Pairs, func(p configs.IdentPair) bool {
		return p.System == name && (p.All || p.User == user)
	})
}

// SystemUser returns the name of the system's user with that id, "" if there is
// none. It may block.
func SystemUser(uid int) string {
	if uid < 0 {
		return ""
	}
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return ""
	}
	return u.Username
}
