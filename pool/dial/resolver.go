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
	"strconv"
	"strings"
	"sync/atomic"
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
// every resolver does.
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
			if _, err := netip.ParseAddr(words[1]); err == nil {
				c.servers = append(c.servers, net.JoinHostPort(words[1], "53"))
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
// (resolv_conf), or the system's own way if path is empty.
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
	return newFileResolver(c), nil
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
	return serial(ctx, c.servers, zone)
}

// fileResolver asks the name servers of a file.
type fileResolver struct {
	conf resolvConf
	ask  net.Resolver
}

func newFileResolver(c resolvConf) *fileResolver {
	r := &fileResolver{conf: c}
	var turn atomic.Uint32
	r.ask.PreferGo = true
	r.ask.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		// An attempt that was in vain is followed by one with the next server.
		return d.DialContext(ctx, network, c.servers[int(turn.Add(1)-1)%len(c.servers)])
	}
	return r
}

func (r *fileResolver) Addrs(ctx context.Context, host string) (addrs []netip.Addr, err error) {
	for _, full := range r.conf.candidates(host) {
		if addrs, err = lookup(ctx, &r.ask, full); err == nil || !missing(err) {
			break
		}
	}
	return addrs, err
}

func (r *fileResolver) Serial(ctx context.Context, zone string) (uint32, error) {
	return serial(ctx, r.conf.servers, zone)
}

// lookup asks for all addresses.
func lookup(ctx context.Context, r *net.Resolver, host string) ([]netip.Addr, error) {
	addrs, err := r.LookupNetIP(ctx, "ip", host)
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	return addrs, err
}

// serialTimeout bounds the wait for one name server.
const serialTimeout = 3 * time.Second

// serial asks each of the servers for the serial number in a zone's SOA record,
// until one knows it. Package net asks for addresses only.
func serial(ctx context.Context, servers []string, zone string) (serial uint32, err error) {
	err = errors.New("no name server is known")
	for _, server := range servers {
		if serial, err = serialFrom(ctx, server, zone); err == nil {
			return serial, nil
		}
	}
	return 0, fmt.Errorf("serial number of zone %s: %w", zone, err)
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
	ctx, cancel := context.WithTimeout(ctx, serialTimeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "udp", server)
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
