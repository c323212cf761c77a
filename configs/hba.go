package configs

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// HBA is the content of an auth_hba_file: rules, of which the first that
// matches a login says how the client has to prove who it is. Matching is
// package auth's business. A nil HBA has no rules.
type HBA struct {
	Rules []HBARule
}

// HBARule is one line.
type HBARule struct {
	Line      int
	Conn      HBAConn
	Databases HBANames
	Users     HBANames

	// AnyAddress is ADDRESS all. Otherwise, but for HBALocal, the client's
	// address must be in Network. A Network with bits set behind its length
	// holds no address.
	AnyAddress bool
	Network    netip.Prefix

	// Method is one of AuthTrust, AuthReject, AuthMD5, AuthPlain (password),
	// AuthPeer, AuthCert, AuthSCRAM, AuthLDAP and AuthPassthrough.
	Method AuthType
	Map    *IdentMap // map=, nil without
	LDAP   *LDAP     // AuthLDAP: whom to ask
}

// HBAConn says for which connections a rule is.
type HBAConn uint8

// The kinds of connections.
const (
	HBALocal     HBAConn = iota // unix sockets
	HBAHost                     // TCP
	HBAHostSSL                  // TCP with TLS
	HBAHostNoSSL                // TCP without
)

var hbaConns = names{HBALocal: "local", HBAHost: "host", HBAHostSSL: "hostssl", HBAHostNoSSL: "hostnossl"}

// String returns the first word of the line.
func (c HBAConn) String() string { return hbaConns.name(uint8(c)) }

// hbaMethods are the methods by name.
var hbaMethods = map[string]AuthType{
	"trust": AuthTrust, "reject": AuthReject, "md5": AuthMD5, "password": AuthPlain, "peer": AuthPeer,
	"cert": AuthCert, "scram-sha-256": AuthSCRAM, "ldap": AuthLDAP, "passthrough": AuthPassthrough,
}

// HBANames is a list of databases or users.
type HBANames struct {
	All         bool
	SameUser    bool // sameuser: a database named as the user
	Replication bool // replication: physical replication
	Names       []string
}

// Ident is the content of an auth_ident_file: maps by name. A nil Ident has
// none.
type Ident struct {
	Maps map[string]*IdentMap
}

// IdentMap says which system users, or owners of certificates, may log in as
// which users.
type IdentMap struct {
	Name  string
	Pairs []IdentPair
}

// IdentPair is one line of a map.
type IdentPair struct {
	System string
	User   string // "" with All
	All    bool   // may log in as anybody
}

// lineProblems collects what is wrong with the lines of a file.
type lineProblems struct {
	file string
	all  []Problem
}

func (l *lineProblems) add(line int, format string, args ...any) {
	l.all = append(l.all, Problem{File: l.file, Line: line, Severity: Warning, Text: fmt.Sprintf(format, args...)})
}

// ParseIdent reads src as the auth_ident_file of that name. Lines that can't be
// read are left out; problems tells of each.
func ParseIdent(name, src string) (m *Ident, problems []Problem) {
	m = &Ident{Maps: map[string]*IdentMap{}}
	told := lineProblems{file: name}
	n := 0
	for line := range strings.SplitSeq(src, "\n") {
		n++
		words, err := hbaWords(line)
		switch {
		case err != nil:
		case len(words) == 0:
			continue
		case len(words) != 3 || slices.ContainsFunc(words, func(w hbaWord) bool { return w.more }):
			err = errors.New("a line is: map, system user, database user")
		case !words[1].quoted && strings.HasPrefix(words[1].text, "/"):
			err = errors.New("regular expressions are not supported")
		case !words[2].quoted && strings.HasPrefix(words[2].text, "+"):
			err = errors.New("groups (+name) are not supported")
		}
		if err != nil {
			told.add(n, "could not parse ident config line %d: %v; it is left out", n, err)
			continue
		}
		p := IdentPair{System: words[1].text, User: words[2].text}
		if words[2].is("all") {
			p.User, p.All = "", true
		}
		of := m.Maps[words[0].text]
		if of == nil {
			of = &IdentMap{Name: words[0].text}
			m.Maps[of.Name] = of
		}
		of.Pairs = append(of.Pairs, p)
	}
	return m, told.all
}

// ParseHBA reads src as the auth_hba_file of that name, whose map= options name
// maps of ident. Lines that can't be read are left out; problems tells of each.
// read reads the files that @file names.
func ParseHBA(name, src string, ident *Ident, read func(path string) ([]byte, error)) (h *HBA, problems []Problem) {
	h = &HBA{}
	told := lineProblems{file: name}
	n := 0
	for line := range strings.SplitSeq(src, "\n") {
		n++
		words, err := hbaWords(line)
		if err == nil && len(words) == 0 {
			continue
		}
		var rule HBARule
		if err == nil {
			p := hbaParser{words: words, line: line, ident: ident, read: read, dir: filepath.Dir(name)}
			rule, err = p.rule()
		}
		if err != nil {
			told.add(n, "could not parse hba config line %d: %v; it is left out", n, err)
			continue
		}
		rule.Line = n
		switch { // rules that let nobody in, and others behind them don't either
		case rule.Method == AuthPeer && rule.Conn != HBALocal:
			told.add(n, "peer lets in nobody but over unix sockets (local)")
		case rule.Method == AuthPassthrough && rule.Conn == HBAHostNoSSL:
			told.add(n, "passthrough lets in nobody but over TLS (hostssl) and unix sockets (local)")
		}
		if rule.Conn != HBALocal && !rule.AnyAddress && rule.Network != rule.Network.Masked() {
			told.add(n, "%v has bits set behind its length, and matches no address; %v would", rule.Network, rule.Network.Masked())
		}
		h.Rules = append(h.Rules, rule)
	}
	return h, told.all
}

// hbaWord is one word of a line.
type hbaWord struct {
	text   string
	quoted bool // stands for itself, whatever it is
	more   bool // a comma follows: the next word belongs to the same list
	end    int  // where in the line it ends
}

// is reports whether w is that keyword.
func (w hbaWord) is(keyword string) bool { return !w.quoted && w.text == keyword }

// shown is the part of w that an error may tell: what follows an equals sign may
// be a password.
func (w hbaWord) shown() string {
	name, _, _ := strings.Cut(w.text, "=")
	return name
}

// hbaWords splits a line at blanks and commas, up to a comment.
func hbaWords(line string) (words []hbaWord, err error) {
	for i := 0; i < len(line); {
		switch c := line[i]; {
		case c == '#':
			return words, nil
		case c == ',':
			if len(words) == 0 {
				return nil, errors.New("it begins with a comma")
			}
			words[len(words)-1].more = true
			i++
		case strings.IndexByte(isspace, c) >= 0:
			i++
		case c == 0:
			return nil, errors.New("a zero byte; the file must be plain text")
		case c == '"':
			text, rest, ok := cutQuoted(line[i+1:], '"')
			if !ok {
				return nil, errors.New("a quote is not closed")
			}
			i = len(line) - len(rest)
			words = append(words, hbaWord{text: text, quoted: true, end: i})
		default:
			n := strings.IndexAny(line[i:], isspace+",#\"")
			if n < 0 {
				n = len(line) - i
			}
			words = append(words, hbaWord{text: line[i : i+n], end: i + n})
			i += n
		}
	}
	return words, nil
}

// hbaParser reads one line.
type hbaParser struct {
	words []hbaWord
	line  string
	ident *Ident
	read  func(path string) ([]byte, error)
	dir   string
	end   int // of the word read last
}

func (p *hbaParser) next(what string) (hbaWord, error) {
	if len(p.words) == 0 {
		return hbaWord{}, fmt.Errorf("the %s is missing", what)
	}
	w := p.words[0]
	p.words, p.end = p.words[1:], w.end
	return w, nil
}

func (p *hbaParser) rule() (r HBARule, err error) {
	kind, err := p.next("type")
	if err != nil {
		return r, err
	}
	i := slices.Index(hbaConns, kind.text)
	if i < 0 {
		return r, fmt.Errorf("unknown type %q: must be %v", kind.text, hbaConns)
	}
	r.Conn = HBAConn(i)
	if r.Databases, err = p.names("database"); err != nil {
		return r, err
	}
	if r.Users, err = p.names("user"); err != nil {
		return r, err
	}
	if r.Conn != HBALocal {
		if err = p.address(&r); err != nil {
			return r, err
		}
	}
	method, err := p.next("method")
	if err != nil {
		return r, err
	}
	var ok bool
	if r.Method, ok = hbaMethods[method.text]; !ok {
		return r, fmt.Errorf("method %q is not supported", method.shown())
	}
	switch {
	case r.Method == AuthLDAP:
		r.LDAP, err = parseLDAP(strings.Trim(p.line[p.end:], isspace))
		return r, err
	}
	for len(p.words) > 0 {
		option, _ := p.next("option")
		name, ok := strings.CutPrefix(option.text, "map=")
		if !ok || r.Method != AuthPeer && r.Method != AuthCert {
			return r, fmt.Errorf("option %q is not supported", option.shown())
		}
		if name == "" { // map="name"
			value, err := p.next("map")
			if err != nil {
				return r, err
			}
			name = value.text
		}
		if p.ident != nil {
			r.Map = p.ident.Maps[name]
		}
		if r.Map == nil {
			return r, fmt.Errorf("there is no map %q in auth_ident_file", name)
		}
	}
	return r, nil
}

// names reads a list of databases or users.
func (p *hbaParser) names(what string) (n HBANames, err error) {
	for {
		w, err := p.next(what)
		if err != nil {
			return n, err
		}
		if err := n.add(w, p.dir, p.read, 0); err != nil {
			return n, err
		}
		if !w.more {
			return n, nil
		}
	}
}

// maxHBADepth bounds files that name each other by @file.
const maxHBADepth = 10

// add adds what w stands for to the list.
func (n *HBANames) add(w hbaWord, dir string, read func(string) ([]byte, error), depth int) error {
	file, included := strings.CutPrefix(w.text, "@")
	switch {
	case w.quoted:
		n.Names = append(n.Names, w.text)
	case w.text == "all":
		n.All = true
	case w.text == "sameuser":
		n.SameUser = true
	case w.text == "replication":
		n.Replication = true
	case w.text == "samerole" || w.text == "samegroup" || strings.HasPrefix(w.text, "+"):
		return fmt.Errorf("%s: roles and groups are not supported", w.text)
	case included:
		return n.include(file, dir, read, depth+1)
	default:
		n.Names = append(n.Names, w.text)
	}
	return nil
}

// include adds the names in a file.
func (n *HBANames) include(file, dir string, read func(string) ([]byte, error), depth int) error {
	if depth > maxHBADepth {
		return fmt.Errorf("@%s: more than %d files name each other", file, maxHBADepth)
	}
	if !filepath.IsAbs(file) {
		file = filepath.Join(dir, file)
	}
	src, err := read(file)
	if err != nil {
		return errors.New(reason(err))
	}
	for line := range strings.SplitSeq(string(src), "\n") {
		words, err := hbaWords(line)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		for _, w := range words {
			if err := n.add(w, filepath.Dir(file), read, depth); err != nil {
				return err
			}
		}
	}
	return nil
}

// address reads the addresses of a rule: all, ADDRESS/bits, or ADDRESS MASK.
func (p *hbaParser) address(r *HBARule) error {
	w, err := p.next("address")
	if err != nil {
		return err
	}
	if w.is("all") {
		r.AnyAddress = true
		return nil
	}
	text, bits, ok := strings.Cut(w.text, "/")
	addr, err := netip.ParseAddr(text)
	if err != nil || addr.Zone() != "" {
		return fmt.Errorf("%q is no IP address: names, samehost and samenet are not supported", w.shown())
	}
	n := -1
	if ok {
		if n, err = strconv.Atoi(bits); err != nil || n < 0 || n > addr.BitLen() {
			return fmt.Errorf("/%s is no length of a mask", bits)
		}
	} else {
		mask, err := p.next("mask")
		if err != nil {
			return err
		}
		if n, err = maskBits(mask.text, addr); err != nil {
			return err
		}
	}
	r.Network = netip.PrefixFrom(addr, n)
	return nil
}

// maskBits is how many ones the mask for addr begins with.
func maskBits(mask string, addr netip.Addr) (n int, err error) {
	m, err := netip.ParseAddr(mask)
	if err != nil || m.BitLen() != addr.BitLen() {
		return 0, fmt.Errorf("%q is no mask for %v", mask, addr)
	}
	for n < m.BitLen() {
		p, _ := m.Prefix(n + 1) // n is in range
		if ones := netip.PrefixFrom(allOnes(m), n+1).Masked(); p.Addr() != ones.Addr() {
			break
		}
		n++
	}
	if p, _ := m.Prefix(n); p.Addr() != m {
		return 0, fmt.Errorf("%q is no mask: ones behind zeros", mask)
	}
	return n, nil
}

// allOnes is the highest address of m's family.
func allOnes(m netip.Addr) netip.Addr {
	b := m.AsSlice()
	for i := range b {
		b[i] = 0xff
	}
	ones, _ := netip.AddrFromSlice(b)
	return ones
}

// hba reads the auth_ident_file and the auth_hba_file, where the auth_type asks
// for them. One that can't be read lets nobody in, and is an error on RELOAD,
// as is a broken line: half a set of rules is another set of rules.
func (l *loader) hba() {
	m := &l.snap.Main
	if m.AuthType != AuthHBA {
		return
	}
	var ident *Ident
	if src, ok := l.rulesFile("auth_ident_file", m.AuthIdentFile, "no map is known"); ok {
		var problems []Problem
		ident, problems = ParseIdent(m.AuthIdentFile, src)
		l.broken(problems)
	}
	switch {
	case m.AuthHBAFile != "":
	case l.old == nil:
		l.warn("auth_type", "hba needs auth_hba_file; nobody can log in")
		return
	default:
		l.errorAt(l.settingAt("auth_type"), "auth_type: hba needs auth_hba_file")
		return
	}
	if src, ok := l.rulesFile("auth_hba_file", m.AuthHBAFile, "nobody can log in"); ok {
		var problems []Problem
		l.snap.HBA, problems = ParseHBA(m.AuthHBAFile, src, ident, l.read)
		l.broken(problems)
		if !m.asksForCertificates() {
			l.vain(l.snap.HBA)
		}
	}
}

// vain warns of rules by certificate where clients show none.
func (l *loader) vain(h *HBA) {
	for _, r := range h.Rules {
		if r.Method == AuthCert {
			l.warnAt(pos{l.snap.Main.AuthHBAFile, r.Line}, "cert: nobody is asked for a certificate, so nobody gets in; set client_tls_ca_file and client_tls_sslmode")
		}
	}
}

// rulesFile reads the file that a setting names, if it does.
func (l *loader) rulesFile(key, path, otherwise string) (src string, ok bool) {
	if path == "" {
		return "", false
	}
	b, err := l.read(path)
	switch {
	case err == nil:
		return string(b), true
	case l.old == nil:
		l.warn(key, "%s; %s", reason(err), otherwise)
	default:
		l.errorAt(l.settingAt(key), key+": "+reason(err))
	}
	return "", false
}

// broken tells of lines: at start they are left out, a reload fails for them.
func (l *loader) broken(problems []Problem) {
	for _, p := range problems {
		if l.old != nil && strings.HasPrefix(p.Text, "could not parse") {
			p.Severity = Error
		}
		l.problems = append(l.problems, p)
	}
}
