package auth

import (
	"crypto/rand"
	"testing"
)

func TestChecked(t *testing.T) {
	asked := ""
	start := func() Exchange {
		e := NewChecked(func(password string) bool {
			asked = password
			return password == "right"
		}, "not you")
		if got := string(e.Start(nil)); got != "R\x00\x00\x00\x08\x00\x00\x00\x03" {
			t.Fatalf("begins with %q", got)
		}
		return e
	}
	e := start()
	if _, v := e.Step(nil, []byte("right\x00")); v != Busy {
		t.Fatal(v)
	}
	e.Work()
	if _, v := e.Step(nil, nil); v != Accepted || asked != "right" || !e.Result().Password.Equal(Plain("right")) {
		t.Errorf("%v, asked %q", v, asked)
	}
	if _, v := e.Step(nil, []byte("right\x00")); v != Rejected {
		t.Error("goes on after its end")
	}
	e = start()
	e.Step(nil, []byte("wrong\x00"))
	e.Work()
	if _, v := e.Step(nil, nil); v != Rejected || e.Reason() != "not you" || e.Result().Password.Kind() != KindNone {
		t.Errorf("a wrong password: %v, %q", v, e.Reason())
	}
	// Who goes on before Work was done is not let in.
	e = start()
	e.Step(nil, []byte("right\x00"))
	if _, v := e.Step(nil, nil); v != Rejected {
		t.Errorf("without Work: %v", v)
	}
	for _, body := range []string{"", "\x00", "right", "right\x00x"} {
		asked = ""
		e = start()
		if _, v := e.Step(nil, []byte(body)); v != Rejected || asked != "" {
			t.Errorf("%q: %v", body, v)
		}
	}
}

// TestFits compares passwords with secrets of each kind, and with what a login
// to a server by each method leaves.
func TestFits(t *testing.T) {
	cache := NewVerifiers(10, rand.Reader)
	keys := deriveKeys("tulip", "salt", 4096)
	for _, s := range []Secret{
		Plain("tulip"), ParseSecret(Plain("tulip").md5("nina")), keys.secret(), ParseSecret(keys.secret().text),
	} {
		for range 2 {
			if !s.Fits("nina", Plain("tulip"), cache) || !s.Fits("nina", Plain("tulip"), nil) {
				t.Errorf("%v does not fit", s)
			}
			if s.Fits("nina", Plain("rose"), cache) || s.Fits("nina", Secret{}, cache) {
				t.Errorf("%v fits another password", s)
			}
		}
	}
	if n := cache.known.Len(); n != 1 {
		t.Errorf("%d keys are kept, of one password that is right", n)
	}
	if (Secret{}).Fits("nina", Secret{}, cache) {
		t.Error("no secret fits")
	}
	print := cache.Fingerprint("app", "nina", Plain("tulip"))
	for _, other := range [][3]string{{"ap", "pnina", "tulip"}, {"app", "nin", "atulip"}, {"app", "nina", "rose"}} {
		if cache.Fingerprint(other[0], other[1], Plain(other[2])) == print {
			t.Errorf("%q has the fingerprint of another", other)
		}
	}
}
