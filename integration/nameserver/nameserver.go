// Package nameserver is a DNS server for tests. It answers from memory, over
// UDP, whatever the test wants.
package nameserver

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"

	"golang.org/x/net/dns/dnsmessage"
)

// Server is a DNS server on a free port of 127.0.0.1. All methods may be called
// from any goroutine.
type Server struct {
	conn net.PacketConn

	mu      sync.Mutex
	hosts   map[string][]netip.Addr
	serials map[string]uint32
	silent  bool
	asked   int
}

// Start starts a server that knows no name.
func Start() (*Server, error) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Server{conn: conn, hosts: map[string][]netip.Addr{}, serials: map[string]uint32{}}
	go s.serve()
	return s, nil
}

// Close ends the server.
func (s *Server) Close() error { return s.conn.Close() }

// ResolvConf is the line of a resolv.conf that leads here.
func (s *Server) ResolvConf() string {
	at := s.conn.LocalAddr().(*net.UDPAddr)
	return fmt.Sprintf("nameserver [%s]:%d\n", at.IP, at.Port)
}

// Set gives host these addresses; without any there is no such name.
func (s *Server) Set(host string, addrs ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.hosts, host)
	for _, addr := range addrs {
		s.hosts[host] = append(s.hosts[host], netip.MustParseAddr(addr))
	}
}

// SetSerial gives zone a serial number.
func (s *Server) SetSerial(zone string, serial uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serials[zone] = serial
}

// Silence has questions go unanswered from now on, or answered again.
func (s *Server) Silence(silent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent = silent
}

// Asked is how many questions have come.
func (s *Server) Asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func (s *Server) serve() {
	packet := make([]byte, 512)
	for {
		n, from, err := s.conn.ReadFrom(packet)
		if err != nil {
			return // closed
		}
		var m dnsmessage.Message
		if m.Unpack(packet[:n]) != nil || len(m.Questions) != 1 || !s.answer(&m) {
			continue
		}
		stranger := m
		stranger.ID++ // which must not count
		for _, m := range []dnsmessage.Message{stranger, m} {
			if reply, err := m.Pack(); err == nil {
				_, _ = s.conn.WriteTo(reply, from) // who asked may be gone
			}
		}
	}
}

// answer makes an answer of the question m. It reports whether there is one.
func (s *Server) answer(m *dnsmessage.Message) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	m.Response, m.RecursionAvailable = true, true
	m.Additionals = nil
	q := m.Questions[0]
	header := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}
	name := strings.TrimSuffix(q.Name.String(), ".")
	add := func(body dnsmessage.ResourceBody) {
		m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: body})
	}
	addrs, known := s.hosts[name]
	serial, zone := s.serials[name]
	if !known && !zone {
		m.RCode = dnsmessage.RCodeNameError
	}
	if zone && q.Type == dnsmessage.TypeSOA {
		add(&dnsmessage.SOAResource{NS: q.Name, MBox: q.Name, Serial: serial})
	}
	for _, addr := range addrs {
		switch {
		case q.Type == dnsmessage.TypeA && addr.Is4():
			add(&dnsmessage.AResource{A: addr.As4()})
		case q.Type == dnsmessage.TypeAAAA && addr.Is6():
			add(&dnsmessage.AAAAResource{AAAA: addr.As16()})
		}
	}
	return !s.silent
}
