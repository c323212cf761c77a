package params

import (
	"cmp"
	"slices"
	"strings"
	"unique"

	"github.com/pgweir/pgweir/pool/sql"
)

// Extras are the parameters that a client asked for in its StartupMessage and
// that the server reports nothing of: statement_timeout, extra_float_digits. A
// server is told those of its client, and what it was told for a client before
// is put back. They may be compared by ==. The zero Extras are none.
type Extras struct{ h unique.Handle[string] }

// Extra is one of them.
type Extra struct{ Name, Value string }

// MakeExtras makes an Extras of list, of which the last counts where names are
// equal but for case. Each name must be one by [IsName].
func MakeExtras(list []Extra) Extras {
	if len(list) == 0 {
		return Extras{}
	}
	list = slices.Clone(list)
	for i := range list {
		list[i].Name = strings.ToLower(list[i].Name)
	}
	slices.SortStableFunc(list, func(a, b Extra) int { return cmp.Compare(a.Name, b.Name) })
	var b strings.Builder
	for i, e := range list {
		if i+1 < len(list) && list[i+1].Name == e.Name {
			continue
		}
		b.WriteString(e.Name)
		b.WriteByte(0)
		b.WriteString(e.Value)
		b.WriteByte(0)
	}
	return Extras{unique.Make(b.String())}
}

// List is what x holds, in order of the names, which are in lower case.
func (x Extras) List() (all []Extra) {
	if x == (Extras{}) {
		return nil
	}
	for s := x.h.Value(); s != ""; {
		var e Extra
		e.Name, s, _ = strings.Cut(s, "\x00")
		e.Value, s, _ = strings.Cut(s, "\x00")
		all = append(all, e)
	}
	return all
}

// AppendExtras appends the statements that make a server with have one with
// want. anew has all be told, for have may not hold any more.
func AppendExtras(dst []byte, have, want Extras, anew bool) []byte {
	if have == want && !anew {
		return dst
	}
	had, wanted := have.List(), want.List()
	for _, e := range had {
		if !slices.ContainsFunc(wanted, func(o Extra) bool { return o.Name == e.Name }) {
			dst = append(append(append(dst, "RESET "...), e.Name...), ';')
		}
	}
	for _, e := range wanted {
		if !anew && slices.Contains(had, e) {
			continue
		}
		dst = sql.AppendSet(dst, e.Name, e.Value)
	}
	return dst
}

// maxName is the length of the longest name of a parameter.
const maxName = 127

// IsName reports whether s can be the name of a parameter: words of letters,
// digits and underscores, with dots between them, so that it may stand in a
// statement as it is.
func IsName(s string) bool {
	if len(s) > maxName {
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
