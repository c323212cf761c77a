package pool

import (
	"cmp"
	"slices"
	"strings"
	"unique"

	"github.com/pgweir/pgweir/pool/sql"
	"github.com/pgweir/pgweir/wire"
)

// extras are the parameters that a client asked for in its StartupMessage and
// that the server reports nothing of: statement_timeout, extra_float_digits. A
// server is told those of its client, and what it was told for a client before
// is put back. As with vars, equal extras are one string, so that the usual
// question is one comparison. The zero extras are none.
type extras struct{ h unique.Handle[string] }

// parameter is one of them.
type parameter struct{ name, value string }

// makeExtras makes one of list, of which the last counts where names are equal
// but for case.
func makeExtras(list []parameter) extras {
	if len(list) == 0 {
		return extras{}
	}
	list = slices.Clone(list)
	for i := range list {
		list[i].name = strings.ToLower(list[i].name)
	}
	slices.SortStableFunc(list, func(a, b parameter) int { return cmp.Compare(a.name, b.name) })
	var b strings.Builder
	for i, e := range list {
		if i+1 < len(list) && list[i+1].name == e.name {
			continue
		}
		b.WriteString(e.name)
		b.WriteByte(0)
		b.WriteString(e.value)
		b.WriteByte(0)
	}
	return extras{unique.Make(b.String())}
}

// list is what x holds, in order of the names.
func (x extras) list() (all []parameter) {
	if x == (extras{}) {
		return nil
	}
	for s := x.h.Value(); s != ""; {
		var e parameter
		e.name, s, _ = strings.Cut(s, "\x00")
		e.value, s, _ = strings.Cut(s, "\x00")
		all = append(all, e)
	}
	return all
}

// appendExtras appends the statements that make a server with have one with
// want. anew has all be told, for have may not hold any more.
func appendExtras(dst []byte, have, want extras, anew bool) []byte {
	if have == want && !anew {
		return dst
	}
	had, wanted := have.list(), want.list()
	for _, e := range had {
		if !slices.ContainsFunc(wanted, func(o parameter) bool { return o.name == e.name }) {
			dst = append(append(append(dst, "RESET "...), e.name...), ';')
		}
	}
	for _, e := range wanted {
		if !anew && slices.Contains(had, e) {
			continue
		}
		dst = sql.AppendSet(dst, e.name, e.value)
	}
	return dst
}

// wantExtra notes that c asks for a parameter that is not tracked. It reports
// whether name can be one: words of letters, digits and underscores, with dots
// between them, so that it may stand in a statement as it is.
func (c *Client) wantExtra(name, value string) bool {
	if !parameterName(name) {
		return false
	}
	c.login.extra = append(c.login.extra, parameter{name, value})
	return true
}

// maxParameterName is the length of the longest name of a parameter.
const maxParameterName = 127

func parameterName(s string) bool {
	if len(s) > maxParameterName {
		return false
	}
	for word := range strings.SplitSeq(s, ".") {
		for i := range len(word) {
			switch ch := word[i] | 0x20; {
			case 'a' <= ch && ch <= 'z', word[i] == '_', i > 0 && '0' <= word[i] && word[i] <= '9':
			default:
				return false
			}
		}
		if word == "" {
			return false
		}
	}
	return true
}

// told notes that a command may have changed what v was told: the client's own
// SET or RESET, a reset of the whole session.
func (v *Server) told(msg []byte) {
	if v.extras == (extras{}) || v.job == jobSets {
		return
	}
	switch string(msg[wire.HeaderLen:]) {
	case "SET\x00", "RESET\x00", "DISCARD ALL\x00":
		v.strayed = true
	}
}

// longTag is the length of the longest CommandComplete that must be seen whole.
const longTag = wire.HeaderLen + len("DEALLOCATE ALL\x00")
