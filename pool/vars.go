package pool

import (
	"strings"
	"unique"

	"github.com/pgweir/pgweir/pool/sql"
)

// tracked is the list of parameters whose values follow a client from server
// to server, in the order in which a vars holds them. It is made once, at
// start.
type tracked struct {
	names []string       // as Postgres spells them
	index map[string]int // by name, as Postgres spells it and in lower case
}

// newTracked makes the list from names, each in the spelling of Postgres.
func newTracked(names []string) *tracked {
	t := &tracked{names: names, index: make(map[string]int, len(names))}
	for i, name := range names {
		t.index[name], t.index[strings.ToLower(name)] = i, i
	}
	return t
}

// lookup finds a name in any case.
func (t *tracked) lookup(name string) (i int, ok bool) {
	i, ok = t.index[name]
	if !ok {
		i, ok = t.index[strings.ToLower(name)]
	}
	return i, ok
}

// vars are the values of the tracked parameters as one session has them, each
// known or unknown. Equal vars are equal values: comparing two costs one
// comparison of pointers, and ten thousand clients of one application share
// one copy. The zero vars knows nothing.
type vars struct{ h unique.Handle[string] }

// A handle's string holds, for each parameter in order, either "-" (unknown)
// or "=" and the value, followed by NUL.

func makeVars(values []value) vars {
	n := 0
	for _, v := range values {
		n += len(v.text) + 2
	}
	b := make([]byte, 0, n)
	for _, v := range values {
		if v.known {
			b = append(append(b, '='), v.text...)
		} else {
			b = append(b, '-')
		}
		b = append(b, 0)
	}
	return vars{unique.Make(string(b))}
}

// value is one parameter's value, if it is known.
type value struct {
	text  string
	known bool
}

// values takes v apart, one for each name of t. The strings stay valid.
func (v vars) values(t *tracked) []value {
	out := make([]value, len(t.names))
	if v == (vars{}) {
		return out
	}
	s := v.h.Value()
	for i := range out {
		end := strings.IndexByte(s, 0)
		if end < 0 {
			break
		}
		out[i] = value{text: s[1:end], known: s[0] == '='}
		s = s[end+1:]
	}
	return out
}

// get is the value of the i-th parameter.
func (v vars) get(t *tracked, i int) value { return v.values(t)[i] }

// with is v with the i-th parameter set.
func (v vars) with(t *tracked, i int, text string) vars {
	all := v.values(t)
	all[i] = value{text, true}
	return makeVars(all)
}

// adopt is v after a server was told the values in which it differed: what the
// server made of them in the place of those ("ISO" becomes "ISO, MDY"). had is
// what the server had before, canon what it has now. What the server was not
// told stays as it is in v, also if it has changed on the server meanwhile.
func (v vars) adopt(t *tracked, had, canon vars) vars {
	all, before, now := v.values(t), had.values(t), canon.values(t)
	for i := range all {
		told := before[i].known && !sameValue(t.names[i], all[i].text, before[i].text)
		if all[i].known && now[i].known && (told || sameValue(t.names[i], all[i].text, now[i].text)) {
			all[i] = now[i]
		}
	}
	return makeVars(all)
}

// appendSets appends the statements that make a session with the values of
// have one with the values of want: nothing if there is no difference. What
// have does not know was never reported by the server and is not set.
func appendSets(dst []byte, t *tracked, have, want vars) []byte {
	if have == want {
		return dst
	}
	h, w := have.values(t), want.values(t)
	for i, name := range t.names {
		if !h[i].known || !w[i].known || sameValue(name, h[i].text, w[i].text) {
			continue
		}
		dst = sql.AppendSet(dst, name, w[i].text)
	}
	return dst
}

// sameValue reports whether two values of a parameter mean the same: most may be
// spelled in any case, but not those that name something.
func sameValue(name, a, b string) bool {
	switch name {
	case "application_name", "role", "search_path", "session_authorization":
		return a == b
	}
	return strings.EqualFold(a, b)
}
