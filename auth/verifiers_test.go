package auth

import (
	"crypto/rand"
	"sync"
	"testing"
)

func TestVerifiers(t *testing.T) {
	c := newVerifiers()
	scram := scramSecret(t, "s3cret", "0123456789abcdef", 4096)
	if v, ok := c.Lookup("joe", scram, 1); !ok || v != scram.verifier {
		t.Error("a SCRAM secret is not its own verifier")
	}
	for _, s := range []Secret{{}, ParseSecret(md5Text)} {
		if v, ok := c.Lookup("joe", s, 1); !ok || !v.mock {
			t.Errorf("%v: %v, %v", s, v, ok)
		}
	}
	if _, ok := c.Lookup("joe", Plain("x"), 10); ok {
		t.Fatal("known before it was derived")
	}
	want := c.Derive("joe", Plain("x"), 10)
	if got, ok := c.Lookup("joe", Plain("x"), 10); !ok || got != want || got.mock || got.stored {
		t.Errorf("%v, %v", got, ok)
	}
	for _, other := range []struct {
		user, password string
		iterations     int
	}{{"jim", "x", 10}, {"joe", "y", 10}, {"joe", "x", 11}} {
		if _, ok := c.Lookup(other.user, Plain(other.password), other.iterations); ok {
			t.Errorf("%v has joe's verifier", other)
		}
	}
}

// TestVerifiersBounded: no more than the size is kept, what was used last
// stays, and what was forgotten comes back with the same salt.
func TestVerifiersBounded(t *testing.T) {
	c := NewVerifiers(2, rand.Reader)
	a := c.Derive("a", Plain("x"), 1)
	c.Derive("b", Plain("x"), 1)
	c.Lookup("a", Plain("x"), 1)
	c.Derive("c", Plain("x"), 1)
	if _, ok := c.Lookup("a", Plain("x"), 1); !ok {
		t.Error("the one used last is gone")
	}
	if _, ok := c.Lookup("b", Plain("x"), 1); ok || c.known.Len() != 2 {
		t.Errorf("%d are kept", c.known.Len())
	}
	c.Derive("b", Plain("x"), 1)
	c.Derive("c", Plain("x"), 1)
	if again := c.Derive("a", Plain("x"), 1); again == a || *again != *a {
		t.Error("another verifier after it was forgotten")
	}
}

// TestDeriveOnce: logins that come together share one derivation.
func TestDeriveOnce(t *testing.T) {
	c := newVerifiers()
	var wg sync.WaitGroup
	got := make([]*Verifier, 20)
	for i := range got {
		wg.Go(func() { got[i] = c.Derive("joe", Plain("x"), 1000) })
	}
	wg.Wait()
	for _, v := range got {
		if v == nil || v != got[0] {
			t.Fatal("derived more than once")
		}
	}
}

// TestServerLoginsDeriveOnce: many logins to servers that store the same secret
// run PBKDF2 once, and one to a server with another salt once more.
func TestServerLoginsDeriveOnce(t *testing.T) {
	c := newVerifiers()
	log := func(salt string) {
		t.Helper()
		server := begin(MethodSCRAM, "joe", scramSecret(t, "s3cret", salt, 4096), false)
		if v, done, err := play(t, server, NewServerExchange("joe", Plain("s3cret"), nil, c, rand.Reader)); v != Accepted || !done {
			t.Fatal(v, err)
		}
	}
	log("0123456789abcdef")
	want := c.keys("s3cret", "0123456789abcdef", 4096)
	for range 5 {
		log("0123456789abcdef")
	}
	if got := c.keys("s3cret", "0123456789abcdef", 4096); got != want || c.known.Len() != 1 {
		t.Errorf("%d derivations are kept", c.known.Len())
	}
	log("fedcba9876543210")
	if c.known.Len() != 2 {
		t.Errorf("%d derivations are kept", c.known.Len())
	}
}

// login is the pooler's part of a whole SCRAM login with a known verifier. The
// client's part is done beforehand, for a source of randomness that repeats
// itself.
func login(tb testing.TB) func() {
	c := newVerifiers()
	secret := Plain("s3cret")
	c.Derive("joe", secret, 4096)
	open := func() Exchange {
		v, ok := c.Lookup("joe", secret, 4096)
		if !ok {
			tb.Fatal("no verifier")
		}
		return New(MethodSCRAM, "joe", secret, false, v, zeroes{})
	}
	client := NewServerExchange("joe", secret, nil, nil, zeroes{})
	answer := func(from []byte) []byte {
		code, body := authMessage(tb, from)
		out, _, err := client.Step(nil, code, body)
		if err != nil {
			tb.Fatal(err)
		}
		_, body = message(tb, out)
		return body
	}
	e := open()
	first := answer(e.Start(nil))
	out, _ := e.Step(nil, first)
	final := answer(out)

	dst := make([]byte, 0, 512)
	return func() {
		e := open()
		e.Start(dst)
		if _, v := e.Step(dst, first); v != More {
			tb.Fatal(v, e.Reason())
		}
		if _, v := e.Step(dst, final); v != Accepted {
			tb.Fatal(v, e.Reason())
		}
	}
}

// zeroes is a source of randomness that repeats itself.
type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func BenchmarkSCRAMLogin(b *testing.B) {
	run := login(b)
	b.ReportAllocs()
	for b.Loop() {
		run()
	}
}

func BenchmarkDerive4096(b *testing.B) {
	for b.Loop() {
		deriveKeys("s3cret", "0123456789abcdef", 4096)
	}
}

// TestLoginAllocs keeps a login with a known verifier cheap.
func TestLoginAllocs(t *testing.T) {
	if n := testing.AllocsPerRun(100, login(t)); n > 40 {
		t.Errorf("%.0f allocations", n)
	}
}
