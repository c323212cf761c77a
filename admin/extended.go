package admin

import (
	"encoding/binary"
	"fmt"

	"github.com/pgweir/pgweir/wire"
)

// What a session may hold at once. A portal may hold a whole result.
const (
	maxPrepared = 1000
	maxPortals  = 16
)

// prepared is a prepared statement.
type prepared struct {
	plan  plan
	empty bool // a query of nothing but blanks
}

// portal is a bound statement, and where its execution stands.
type portal struct {
	*prepared
	formats []format

	ran  bool
	tag  string
	rows []row // still to be sent
}

// extended answers a message of the extended protocol. The caller has dealt
// with Sync, and with everything that an error makes it skip.
func (s *session) extended(done <-chan struct{}, typ byte, body, out []byte) (reply []byte, end bool) {
	m := reader{rest: body}
	var err error
	switch typ {
	case wire.Parse:
		out, err = s.parse(&m, out)
	case wire.Bind:
		out, err = s.bind(&m, out)
	case wire.Describe:
		out, err = s.describe(&m, out)
	case wire.Execute:
		out, end, err = s.execute(done, &m, out)
	case wire.Close:
		out, err = s.close(&m, out)
	case wire.Flush:
		m.end() // what there is to send is sent anyway
	}
	if m.broken {
		return s.fatal(out)
	}
	if err != nil {
		s.skipping = true
		out = s.fail(out, err)
	}
	return out, end
}

// parse answers a Parse: name, query, parameter types. The types say nothing,
// for a query with a parameter is refused.
func (s *session) parse(m *reader, out []byte) ([]byte, error) {
	name, query := m.str(), m.str()
	for range m.count() {
		m.int32()
	}
	if m.end(); m.broken {
		return out, nil
	}
	if name == "" {
		delete(s.statements, name)
	} else if s.statements[name] != nil {
		return out, &failure{code: codeDupStmt, message: fmt.Sprintf("prepared statement \"%s\" already exists", name)}
	}
	if len(s.statements) >= maxPrepared {
		return out, &failure{code: codeLimit, message: fmt.Sprintf("the console keeps at most %d prepared statements: close some", maxPrepared)}
	}
	st, err := prepare(query)
	if err != nil {
		return out, err
	}
	s.statements[name] = st
	return append(out, wire.ParseComplete, 0, 0, 0, 4), nil
}

func prepare(query string) (*prepared, error) {
	list := split(query)
	switch len(list) {
	case 0:
		return &prepared{empty: true}, nil
	case 1:
		list[0].text = query
		p, err := parse(list[0])
		return &prepared{plan: p}, err
	default:
		return nil, &failure{code: "42601", message: "cannot insert multiple commands into a prepared statement"}
	}
}

// bind answers a Bind: portal, statement, parameter formats, parameters,
// result formats.
func (s *session) bind(m *reader, out []byte) ([]byte, error) {
	name, from := m.str(), m.str()
	for range m.count() {
		m.int16()
	}
	params := m.count()
	for range params {
		if n := m.int32(); n > 0 {
			m.skip(int(n))
		}
	}
	formats := make([]format, 0, 1)
	for range m.count() {
		formats = append(formats, format(m.int16()))
	}
	if m.end(); m.broken {
		return out, nil
	}
	st := s.statements[from]
	if st == nil {
		return out, noStatement(from)
	}
	if params > 0 {
		return out, &failure{code: codeProtocol, message: fmt.Sprintf(
			"bind message supplies %d parameters, but prepared statement \"%s\" requires 0", params, from)}
	}
	for _, f := range formats {
		if f != formatText && f != formatBinary {
			return out, &failure{code: "22023", message: fmt.Sprintf("unsupported format code: %d", f)}
		}
	}
	if n := len(formats); n > 1 && n != len(st.plan.columns) {
		return out, &failure{code: codeProtocol, message: fmt.Sprintf(
			"bind message has %d result formats but query has %d columns", n, len(st.plan.columns))}
	}
	if name != "" && s.portals[name] != nil {
		return out, &failure{code: codeDupCursor, message: fmt.Sprintf("cursor \"%s\" already exists", name)}
	}
	if len(s.portals) >= maxPortals {
		return out, &failure{code: codeLimit, message: fmt.Sprintf("the console keeps at most %d portals: close some, or send Sync", maxPortals)}
	}
	s.portals[name] = &portal{prepared: st, formats: formats}
	return append(out, wire.BindComplete, 0, 0, 0, 4), nil
}

// describe answers a Describe of a statement or a portal.
func (s *session) describe(m *reader, out []byte) ([]byte, error) {
	kind, name := m.byte(), m.str()
	if m.end(); m.broken {
		return out, nil
	}
	var st *prepared
	var formats []format
	switch kind {
	case 'S':
		if st = s.statements[name]; st == nil {
			return out, noStatement(name)
		}
		out = append(out, wire.ParameterDescription, 0, 0, 0, 6, 0, 0)
	case 'P':
		p := s.portals[name]
		if p == nil {
			return out, noPortal(name)
		}
		st, formats = p.prepared, p.formats
	default:
		m.broken = true
		return out, nil
	}
	if st.plan.columns == nil {
		return append(out, wire.NoData, 0, 0, 0, 4), nil
	}
	return appendRowDescription(out, st.plan.columns, formats), nil
}

// execute answers an Execute: portal, and the most rows to send, 0 for all.
func (s *session) execute(done <-chan struct{}, m *reader, out []byte) (reply []byte, end bool, err error) {
	name, limit := m.str(), int(m.int32())
	if m.end(); m.broken {
		return out, false, nil
	}
	p := s.portals[name]
	switch {
	case p == nil:
		return out, false, noPortal(name)
	case p.empty:
		return append(out, wire.EmptyQueryResponse, 0, 0, 0, 4), false, nil
	case p.ran && p.plan.columns == nil:
		return out, false, &failure{code: codeState, message: fmt.Sprintf("portal \"%s\" cannot be run", name)}
	case !p.ran:
		r, err := p.plan.run(s, done)
		if err != nil {
			return out, false, err
		}
		if r.silent {
			return out, true, nil
		}
		p.ran, p.tag, p.rows = true, r.tag, r.rows
		out = appendNotice(out, r)
	}
	n := len(p.rows)
	if limit > 0 {
		n = min(n, limit)
	}
	for _, cells := range p.rows[:n] {
		out = appendDataRow(out, p.plan.columns, cells, p.formats)
	}
	p.rows = p.rows[n:]
	if n == limit && n > 0 {
		// As in Postgres: it does not look whether there is a next row.
		return append(out, wire.PortalSuspended, 0, 0, 0, 4), false, nil
	}
	return wire.AppendCommandComplete(out, p.tag), false, nil
}

// close answers a Close of a statement or a portal. It is no error if there is
// none.
func (s *session) close(m *reader, out []byte) ([]byte, error) {
	kind, name := m.byte(), m.str()
	if m.end(); m.broken {
		return out, nil
	}
	switch kind {
	case 'S':
		s.dropStatement(name)
	case 'P':
		delete(s.portals, name)
	default:
		m.broken = true
		return out, nil
	}
	return append(out, wire.CloseComplete, 0, 0, 0, 4), nil
}

// dropStatement forgets a statement and the portals made from it.
func (s *session) dropStatement(name string) {
	st := s.statements[name]
	delete(s.statements, name)
	for at, p := range s.portals {
		if p.prepared == st {
			delete(s.portals, at)
		}
	}
}

// dropPortals ends all portals, unless a transaction keeps them.
func (s *session) dropPortals() {
	if s.status == wire.TxIdle {
		clear(s.portals)
	}
}

// dropUnnamed forgets the unnamed statement and portal, as a simple Query does.
func (s *session) dropUnnamed() {
	s.dropStatement("")
	delete(s.portals, "")
}

func noStatement(name string) error {
	return &failure{code: codeNoStatement, message: fmt.Sprintf("prepared statement \"%s\" does not exist", name)}
}

func noPortal(name string) error {
	return &failure{code: codeNoCursor, message: fmt.Sprintf("portal \"%s\" does not exist", name)}
}

func unsupported(typ byte) error {
	return &failure{code: codeProtocol, message: fmt.Sprintf("unsupported packet type for admin console: %d", typ)}
}

// reader takes a message body apart. After the first thing that is missing,
// broken is set, and it yields zeros.
type reader struct {
	rest   []byte
	broken bool
}

func (r *reader) skip(n int) []byte {
	if r.broken || n > len(r.rest) {
		r.broken, r.rest = true, nil
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.skip(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) int16() int16 {
	if b := r.skip(2); b != nil {
		return int16(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (r *reader) int32() int32 {
	if b := r.skip(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

// count reads the length of a list, which is never negative.
func (r *reader) count() int { return int(uint16(r.int16())) }

func (r *reader) str() string {
	s, rest, ok := wire.CutString(r.rest)
	if r.broken || !ok {
		r.broken, r.rest = true, nil
		return ""
	}
	r.rest = rest
	return string(s)
}

// end marks the message as broken if anything is left of it.
func (r *reader) end() {
	if len(r.rest) > 0 {
		r.broken = true
	}
}
