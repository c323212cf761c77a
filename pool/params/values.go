package params

import (
	"strings"
	"unique"

	"github.com/pgweir/pgweir/pool/sql"
)

// Tracked is the list of parameters whose values follow a client from server
// to server, in the order in which a [Values] holds them. It is made once, at
// start, and must not be changed.
type Tracked struct {
	Names []string // as Postgres spells them

	index map[string]int // by name, as Postgres spells it and in lower case
}

// NewTracked makes the list from names, each in the spelling of Postgres.
func NewTracked(names []string) *Tracked {
	t := &Tracked{Names: names, index: make(map[string]int, len(names))}
	for i, name := range names {
		t.index[name], t.index[strings.ToLower(name)] = i, i
	}
	return t
}

// Lookup finds a name in any case. i is its place in Names.
func (t *Tracked) Lookup(name string) (i int, ok bool) {
	i, ok = t.index[name]
	if !ok {
		i, ok = t.index[strings.ToLower(name)]
	}
	return i, ok
}

// Find is Lookup for the spelling of Postgres, and lower case: the two in which
// almost everybody writes a name. It allocates nothing.
func (t *Tracked) Find(name []byte) (i int, ok bool) {
	i, ok = t.index[string(name)]
	return i, ok
}

// Values are those of the tracked parameters as one session has them, each known
// or unknown. They may be compared by ==, which costs one comparison of
// pointers, and ten thousand clients of one application share one copy. The zero
// Values knows nothing.
type Values struct{ h unique.Handle[string] }

// A handle's string holds, for each parameter in order, either "-" (unknown)
// or "=" and the value, followed by NUL.

// MakeValues makes a Values of list, which has one value for each name of the
// Tracked it is used with.
func MakeValues(values []Value) Values {
	n := 0
	for _, v := range values {
		n += len(v.Text) + 2
	}
	b := make([]byte, 0, n)
	for _, v := range values {
		if v.Known {
			b = append(append(b, '='), v.Text...)
		} else {
			b = append(b, '-')
		}
		b = append(b, 0)
	}
	return Values{unique.Make(string(b))}
}

// Value is one parameter's value, if it is known.
type Value struct {
	Text  string
	Known bool
}

// List takes v apart, one for each name of t. The strings stay valid.
func (v Values) List(t *Tracked) []Value {
	out := make([]Value, len(t.Names))
	if v == (Values{}) {
		return out
	}
	s := v.h.Value()
	for i := range out {
		end := strings.IndexByte(s, 0)
		if end < 0 {
			break
		}
		out[i] = Value{Text: s[1:end], Known: s[0] == '='}
		s = s[end+1:]
	}
	return out
}

// Get is the value of the i-th parameter.
func (v Values) Get(t *Tracked, i int) Value { return v.List(t)[i] }

// With is v with the i-th parameter set.
func (v Values) With(t *Tracked, i int, text string) Values {
	all := v.List(t)
	all[i] = Value{text, true}
	return MakeValues(all)
}

// Adopt is v after a server was told the values in which it differed: what the
// server made of them in the place of those ("ISO" becomes "ISO, MDY"). had is
// what the server had before, canon what it has now. What the server was not
// told stays as it is in v, also if it has changed on the server meanwhile.
func (v Values) Adopt(t *Tracked, had, canon Values) Values {
	all, before, now := v.List(t), had.List(t), canon.List(t)
	for i := range all {
		told := before[i].Known && !sameValue(t.Names[i], all[i].Text, before[i].Text)
		if all[i].Known && now[i].Known && (told || sameValue(t.Names[i], all[i].Text, now[i].Text)) {
			all[i] = now[i]
		}
	}
	return MakeValues(all)
}

// AppendSets appends the statements that make a session with the values of
// have one with the values of want: nothing if there is no difference. What
// have does not know was never reported by the server and is not set.
func AppendSets(dst []byte, t *Tracked, have, want Values) []byte {
	if have == want {
		return dst
	}
	h, w := have.List(t), want.List(t)
	for i, name := range t.Names {
		if !h[i].Known || !w[i].Known || sameValue(name, h[i].Text, w[i].Text) {
			continue
		}
		dst = sql.AppendSet(dst, name, w[i].Text)
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
