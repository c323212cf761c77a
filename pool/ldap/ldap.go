// Package ldap asks LDAP servers about passwords. Everything here may block: it
// runs in chores, never on a loop.
package ldap

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/pgweir/pgweir/configs"
)

// Timeout bounds each step: connecting, and each answer.
const Timeout = 3 * time.Second

// places bound the logins that ask at once, each for Patience at most: an LDAP
// server that hangs must not take all descriptors.
var places = make(chan struct{}, 100)

// Patience bounds a login, the wait for a place included.
const Patience = time.Minute

// ErrPassword says that the server knows no user of that name and password.
var ErrPassword = errors.New("no such user, or the wrong password")

// Check returns nil if and only if an LDAP server says that password is that of
// user. Servers that can't be asked are passed over. It returns when one has
// answered or none can be asked, when ctx ends, or after Patience. An error
// holds no password.
func Check(ctx context.Context, o *configs.LDAP, user, password string) error {
	if password == "" {
		return ErrPassword // a bind without one is anonymous, and always works
	}
	if o.Search() && strings.ContainsAny(user, `*()\/`) {
		return errors.New("the name has characters that a search may not have")
	}
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	select {
	case places <- struct{}{}:
		defer func() { <-places }()
	case <-ctx.Done():
		return fmt.Errorf("%d logins are waiting for LDAP: %w", cap(places), ctx.Err())
	}
	servers := o.Servers
	if len(servers) == 0 {
		var err error
		if servers, err = lookup(ctx, o.BaseDN); err != nil {
			return err
		}
	}
	err := errors.New("no LDAP server")
	for _, server := range servers {
		var conn *ldap.Conn
		if conn, err = dial(ctx, o, server); err != nil {
			continue
		}
		err = check(conn, o, user, password)
		conn.Close() // the error is of no interest any more
		if err == nil || !ldap.IsErrorWithCode(err, ldap.ErrorNetwork) {
			return err
		}
	}
	return err
}

// lookup finds the servers that the DNS names for a base DN: those of the domain
// that its dc say.
func lookup(ctx context.Context, base string) ([]string, error) {
	dn, err := ldap.ParseDN(base)
	if err != nil {
		return nil, fmt.Errorf("ldapbasedn: %w", err)
	}
	var labels []string
	for _, r := range dn.RDNs {
		for _, a := range r.Attributes {
			if strings.EqualFold(a.Type, "dc") {
				labels = append(labels, a.Value)
			}
		}
	}
	if len(labels) == 0 {
		return nil, errors.New("no ldapserver, and no dc in ldapbasedn to look one up by")
	}
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	_, found, err := net.DefaultResolver.LookupSRV(ctx, "ldap", "tcp", strings.Join(labels, "."))
	if err != nil {
		return nil, err
	}
	var servers []string
	for _, s := range found {
		servers = append(servers, net.JoinHostPort(strings.TrimSuffix(s.Target, "."), strconv.Itoa(int(s.Port))))
	}
	return servers, nil
}

// dial connects to a server. All that follows has to be over in the time of a
// few steps.
func dial(ctx context.Context, o *configs.LDAP, server string) (*ldap.Conn, error) {
	host, port, err := net.SplitHostPort(server)
	if err != nil {
		host, port = strings.Trim(server, "[]"), strconv.Itoa(o.Port)
	}
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	plain, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, err
	}
	if err := plain.SetDeadline(time.Now().Add(4 * Timeout)); err != nil {
		plain.Close()
		return nil, err
	}
	secure := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	over := plain
	if o.TLS {
		over = tls.Client(plain, secure) // its handshake comes with the first request
	}
	conn := ldap.NewConn(over, o.TLS)
	conn.Start()
	conn.SetTimeout(Timeout)
	if o.Start {
		if err := conn.StartTLS(secure); err != nil {
			conn.Close()
			return nil, err
		}
	}
	return conn, nil
}

// check binds as the user, whom it looks for first if need be.
func check(conn *ldap.Conn, o *configs.LDAP, user, password string) error {
	dn := o.Prefix + user + o.Suffix
	if o.Search() {
		var err error
		if dn, err = find(conn, o, user); err != nil {
			return err
		}
	}
	err := conn.Bind(dn, password)
	if ldap.IsErrorWithCode(err, ldap.LDAPResultInvalidCredentials) {
		return ErrPassword
	}
	return err
}

// find is the DN of the one entry of user.
func find(conn *ldap.Conn, o *configs.LDAP, user string) (dn string, err error) {
	if o.BindDN != "" {
		err = conn.Bind(o.BindDN, o.BindPassword)
	} else {
		err = conn.UnauthenticatedBind("")
	}
	if err != nil {
		return "", fmt.Errorf("the bind before the search: %w", err)
	}
	filter := "(" + o.Attribute + "=" + ldap.EscapeFilter(user) + ")"
	if o.Filter != "" {
		filter = strings.ReplaceAll(o.Filter, "$username", ldap.EscapeFilter(user))
	}
	scope := map[configs.LDAPScope]int{
		configs.LDAPSub: ldap.ScopeWholeSubtree, configs.LDAPBase: ldap.ScopeBaseObject, configs.LDAPOne: ldap.ScopeSingleLevel,
	}[o.Scope]
	result, err := conn.Search(ldap.NewSearchRequest(o.BaseDN, scope, ldap.NeverDerefAliases, 2, int(Timeout/time.Second), false, filter, []string{"1.1"}, nil))
	switch {
	case ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded), err == nil && len(result.Entries) > 1:
		return "", errors.New("the search finds more than one entry")
	case err != nil:
		return "", fmt.Errorf("the search: %w", err)
	case len(result.Entries) == 0:
		return "", ErrPassword
	}
	return result.Entries[0].DN, nil
}
