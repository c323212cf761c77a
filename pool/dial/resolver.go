package dial

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// SystemResolvConf is where the system says which name servers to ask.
const SystemResolvConf = "/etc/resolv.conf"

// resolvConf is what a file says that has resolv.conf(5)'s format.
type resolvConf struct {
	servers []string // with ports
	search  []string
	ndots   int
}

// readResolvConf reads the file at path. What it does not know it ignores, as
// every resolver does. A name server may have a port, as in [10.0.0.1]:5353.
func readResolvConf(path string) (resolvConf, error) {
	c := resolvConf{ndots: 1}
	f, err := os.Open(path)
	if err != nil {
		return c, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line, _, _ := strings.Cut(lines.Text(), "#")
		line, _, _ = strings.Cut(line, ";")
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		switch words[0] {
		case "nameserver":
			if server, ok := nameServer(words[1]); ok {
				c.servers = append(c.servers, server)
			}
		case "domain", "search":
			c.search = words[1:]
		case "options":
			for _, option := range words[1:] {
				if text, ok := strings.CutPrefix(option, "ndots:"); ok {
					if n, err := strconv.Atoi(text); err == nil {
						c.ndots = max(0, min(n, 15))
					}
				}
			}
		}
	}
	return c, lines.Err()
}

// nameServer is the address and the port of a name server. c-ares and OpenBSD
// have the form with a port, and with it brackets.
func nameServer(text string) (server string, ok bool) {
	if _, err := netip.ParseAddr(text); err == nil {
		return net.JoinHostPort(text, "53"), true
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return "", false
	}
	if _, err := netip.ParseAddr(host); err != nil {
		return "", false
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", false
	}
	return net.JoinHostPort(host, port), true
}

// candidates are the full names to try for host, in their order.
func (c *resolvConf) candidates(host string) []string {
	if strings.HasSuffix(host, ".") {
		return []string{host}
	}
	var all []string
	for _, domain := range c.search {
		all = append(all, host+"."+strings.TrimSuffix(domain, ".")+".")
	}
	if strings.Count(host, ".") >= c.ndots {
		return append([]string{host + "."}, all...)
	}
	return append(all, host+".")
}

// NewResolver returns a Resolver that asks as the file at path says
// (resolv_conf), or the system's own way if path is empty. The file is read anew
// for each question; while it can't be, it counts as it was.
func NewResolver(path string) (Resolver, error) {
	if path == "" {
		return &systemResolver{}, nil
	}
	c, err := readResolvConf(path)
	if err != nil {
		return nil, fmt.Errorf("resolv_conf: %w", err)
	}
	if len(c.servers) == 0 {
		return nil, fmt.Errorf("resolv_conf: %s names no nameserver", path)
	}
	return &fileResolver{path: path, conf: c}, nil
}

// systemResolver asks as every program on the system does.
type systemResolver struct{}

func (*systemResolver) Addrs(ctx context.Context, host string) ([]netip.Addr, error) {
	return lookup(ctx, net.DefaultResolver, host)
}

func (*systemResolver) Serial(ctx context.Context, zone string) (uint32, error) {
	c, err := readResolvConf(SystemResolvConf)
	if err != nil {
		return 0, err
	}
	return serial(ctx, &c, zone)
}

// fileResolver asks the name servers of a file.
type fileResolver struct {
	path string

	mu   sync.Mutex
	conf resolvConf // as it was last read
	good string     // the name server that answered last
}

// read returns what the file says, with the name server first that answered
// last: one that is silent is not to cost time again and again.
func (r *fileResolver) read() resolvConf {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c, err := readResolvConf(r.path); err == nil && len(c.servers) > 0 {
		r.conf = c
	}
	c := r.conf
	if i := slices.Index(c.servers, r.good); i > 0 {
		c.servers = slices.Insert(slices.Delete(slices.Clone(c.servers), i, i+1), 0, r.good)
	}
	return c
}

// answered notes that server did.
func (r *fileResolver) answered(server string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.good = server
}

func (r *fileResolver) Addrs(ctx context.Context, host string) (addrs []netip.Addr, err error) {
	c := r.read()
	for _, full := range c.candidates(host) {
		err = c.ask(ctx, func(ctx context.Context, server string) (err error) {
			asks := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, server)
			}}
			if addrs, err = lookup(ctx, &asks, full); err == nil || missing(err) {
				r.answered(server)
			}
			return err
		})
		if err == nil || !missing(err) {
			break
		}
	}
	return addrs, err
}

func (r *fileResolver) Serial(ctx context.Context, zone string) (uint32, error) {
	c := r.read()
	return serial(ctx, &c, zone)
}

// lookup asks for all addresses.
func lookup(ctx context.Context, r *net.Resolver, host string) ([]netip.Addr, error) {
	addrs, err := r.LookupNetIP(ctx, "ip", host)
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	return addrs, err
}

// answerTimeout bounds the wait for one name server.
const answerTimeout = 3 * time.Second

// ask has fn ask one name server after the other, until one has answered, and be
// it that there is no such name.
func (c *resolvConf) ask(ctx context.Context, fn func(ctx context.Context, server string) error) error {
	err := errors.New("no name server is known")
	for _, server := range c.servers {
		err = func() error {
			ctx, cancel := context.WithTimeout(ctx, answerTimeout)
			defer cancel()
			return fn(ctx, server)
		}()
		if err == nil || missing(err) || ctx.Err() != nil {
			break
		}
	}
	return err
}

// serial asks for the serial number in a zone's SOA record. Package net asks for
// addresses only.
func serial(ctx context.Context, c *resolvConf, zone string) (serial uint32, err error) {
	err = c.ask(ctx, func(ctx context.Context, server string) (err error) {
		serial, err = serialFrom(ctx, server, zone)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("serial number of zone %s: %w", zone, err)
	}
	return serial, nil
}

func serialFrom(ctx context.Context, server, zone string) (uint32, error) {
	name, err := dnsmessage.NewName(strings.TrimSuffix(zone, ".") + ".")
	if err != nil {
		return 0, err
	}
	question := dnsmessage.Question{Name: name, Type: dnsmessage.TypeSOA, Class: dnsmessage.ClassINET}
	id := uint16(rand.Uint32())
	query := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions: []dnsmessage.Question{question},
	}
	packet, err := query.Pack()
	if err != nil {
		return 0, err
	}
	conn, err := new(net.Dialer).DialContext(ctx, "udp", server)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	defer interruptible(ctx, conn)()
	if _, err := conn.Write(packet); err != nil {
		return 0, err
	}
	answer := make([]byte, 4<<10)
	for {
		n, err := conn.Read(answer)
		if err != nil {
			return 0, err
		}
		if serial, ours, err := readSerial(answer[:n], id, question); ours {
			return serial, err
		}
	}
}

// readSerial reads the answer to question. ours is false if it is to another
// one: whoever is late, or makes answers up.
func readSerial(packet []byte, id uint16, question dnsmessage.Question) (serial uint32, ours bool, err error) {
	var p dnsmessage.Parser
	header, err := p.Start(packet)
	if err != nil || !header.Response || header.ID != id {
		return 0, false, nil
	}
	if q, err := p.Question(); err != nil || q.Type != question.Type || q.Class != question.Class ||
		!strings.EqualFold(q.Name.String(), question.Name.String()) {
		return 0, false, nil
	}
	if header.RCode != dnsmessage.RCodeSuccess {
		return 0, true, fmt.Errorf("the name server says %v", header.RCode)
	}
	if err := p.SkipAllQuestions(); err != nil {
		return 0, true, err
	}
	for {
		h, err := p.AnswerHeader()
		if err != nil {
			return 0, true, errors.New("the name server has no SOA record of it")
		}
		if h.Type != dnsmessage.TypeSOA {
			if err := p.SkipAnswer(); err != nil {
				return 0, true, err
			}
			continue
		}
		soa, err := p.SOAResource()
		return soa.Serial, true, err
	}
}
