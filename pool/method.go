package pool

import (
	"github.com/pgweir/pgweir/auth"
	"github.com/pgweir/pgweir/configs"
)

// prove has c prove who it is, in the way that auth_type, or the HBA file,
// asks for. known says that there is a user of that name, whose secret is
// secret.
func (c *Client) prove(main *configs.Main, secret auth.Secret, known bool) {
	l, method := c.login, main.AuthType
	var ident *configs.IdentMap
	ldap := c.w.p.Snapshot().LDAP
	if method == configs.AuthHBA {
		rule := auth.Rule(c.w.p.Snapshot().HBA, auth.Arrival{
			Local: c.unix, TLS: c.encrypted(), Addr: c.remote.Addr(), Database: l.database, User: l.user,
			Replication: l.replication == replicatesPhysical,
		})
		if rule == nil {
			c.disconnect(true, "no authentication method is found")
			return
		}
		method, ident, ldap = rule.Method, rule.Map, rule.LDAP
	}
	switch method {
	case configs.AuthAny:
		c.proven(main)
	case configs.AuthTrust:
		if !known {
			c.disconnect(true, `"trust" authentication failed`)
			return
		}
		c.proven(main)
	case configs.AuthPlain:
		c.exchange(auth.MethodPlain, main, secret, known)
	case configs.AuthMD5:
		c.exchange(auth.MethodMD5, main, secret, known)
	case configs.AuthSCRAM:
		c.exchange(auth.MethodSCRAM, main, secret, known)
	case configs.AuthPeer:
		c.peer(main, ident, known)
	case configs.AuthCert:
		c.certificate(main, ident, known)
	case configs.AuthLDAP:
		c.ldap(ldap)
	case configs.AuthPAM:
		c.pam()
	case configs.AuthPassthrough:
		c.passthrough(main, secret, known)
	case configs.AuthReject:
		c.disconnect(true, "login rejected")
	default:
		c.log(Error, "auth_type "+method.String()+" can't be used in this version: login refused")
		c.disconnect(true, reasonConfig)
	}
}

// proven goes on with a client that needs no exchange, or whose exchange is
// over.
func (c *Client) proven(main *configs.Main) {
	c.login.admin = c.exempt(main)
	c.granted(main)
}

// peer lets c in if the process at the other end of its unix socket runs as a
// system user who may be the one that c says.
func (c *Client) peer(main *configs.Main, ident *configs.IdentMap, known bool) {
	uid, name := c.login.uid, ""
	c.chore(func() { name = auth.SystemUser(uid) }, func() {
		if !known || !c.unix || !auth.MayBe(ident, name, c.login.user) {
			if ident != nil {
				c.log(Info, "ident map: "+ident.Name+" does not have a match")
			}
			c.disconnect(true, "unix socket login rejected")
			return
		}
		c.proven(main)
	})
}

// certificate lets c in if its certificate is of somebody who may be the one
// that c says. One that could not be verified has ended the handshake.
func (c *Client) certificate(main *configs.Main, ident *configs.IdentMap, known bool) {
	l := c.login
	if !known || l.stream == nil || !auth.CertifiesUser(ident, l.stream.Peer(), l.user) {
		if ident != nil {
			c.log(Info, "ident map: "+ident.Name+" does not have a match")
		}
		c.disconnect(true, "certificate authentication failed")
		return
	}
	c.proven(main)
}

// ldap lets c in if an LDAP server knows it and the password that it sends.
func (c *Client) ldap(o *configs.LDAP) {
	check, name := c.w.p.opts.LDAP, c.login.user
	if c.login.question.user != "" || o == nil || check == nil {
		c.log(Error, "LDAP can't be asked: it needs auth_ldap_options, and no auth_user for the database")
		c.disconnect(true, reasonConfig)
		return
	}
	c.askFor(func(password string) error { return check(o, name, password) }, "LDAP authentication failed")
}

// pam lets c in if PAM knows it and the password that it sends.
func (c *Client) pam() {
	check, name, host := c.w.p.opts.PAM, c.login.user, ""
	if check == nil {
		c.log(Error, "auth_type pam can't be used: this binary was built without PAM")
		c.disconnect(true, reasonConfig)
		return
	}
	if !c.unix {
		host = c.remote.Addr().Unmap().String()
	}
	c.askFor(func(password string) error { return check(name, password, host) }, "PAM authentication failed")
}

// askFor asks c for its password, and lets it in if check, which may block,
// finds nothing wrong with it. If not, c is told refusal, and the log why.
func (c *Client) askFor(check func(password string) error, refusal string) {
	log, prefix := c.w.p.log, c.prefix()
	c.login.told.judged = true
	c.startExchange(auth.NewChecked(func(password string) bool {
		err := check(password)
		if err != nil {
			log.Log(Warning, prefix, refusal+": "+err.Error())
		}
		return err == nil
	}, refusal))
}
