package auth

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/pgweir/pgweir/wire"
)

const iterations = 4096

// scramSecret is the secret that Postgres would store for password.
func scramSecret(t testing.TB, password, salt string, iterations int) Secret {
	t.Helper()
	k := deriveKeys(password, salt, iterations)
	b64 := base64.StdEncoding.EncodeToString
	s := ParseSecret(fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, b64([]byte(salt)), b64(k.storedKey[:]), b64(k.serverKey[:])))
	if s.Kind() != KindSCRAM {
		t.Fatalf("%v is no SCRAM secret", s)
	}
	return s
}

// newVerifiers makes a cache with real randomness.
func newVerifiers() *Verifiers { return NewVerifiers(100, rand.Reader) }

// begin opens an exchange as the pool does.
func begin(m Method, user string, s Secret, mock bool) Exchange {
	var v *Verifier
	if NeedsVerifier(m, s) {
		v = newVerifiers().Derive(user, s, iterations)
	}
	return New(m, user, s, mock, v, rand.Reader)
}

// message takes the one message that b must be apart.
func message(t testing.TB, b []byte) (typ byte, body []byte) {
	t.Helper()
	typ, size, ok, err := wire.Peek(b, 64<<10)
	if err != nil || !ok || size != len(b) {
		t.Fatalf("not one message: %q (%v)", b, err)
	}
	return typ, b[wire.HeaderLen:]
}

// authMessage takes one Authentication message apart.
func authMessage(t testing.TB, b []byte) (code int32, body []byte) {
	t.Helper()
	typ, body := message(t, b)
	if typ != wire.Authentication || len(body) < 4 {
		t.Fatalf("not an Authentication message: %q", b)
	}
	return int32(binary.BigEndian.Uint32(body)), body[4:]
}

// step runs a Step, and its Work if there is any.
func step(e Exchange, body []byte) (out []byte, v Verdict) {
	out, v = e.Step(nil, body)
	if v == Busy {
		e.Work()
		out, v = e.Step(out, nil)
	}
	return out, v
}

// play lets the two halves of this package talk until either gives up. err is
// the server exchange's, verdict the client exchange's.
func play(t testing.TB, e Exchange, s *ServerExchange) (verdict Verdict, done bool, err error) {
	t.Helper()
	ask := e.Start(nil)
	for verdict = More; ; {
		code, body := authMessage(t, ask)
		answer, _, err := s.Step(nil, code, body)
		if err != nil {
			return verdict, false, err
		}
		if verdict == Accepted {
			break
		}
		_, body = message(t, answer)
		if ask, verdict = step(e, body); verdict == Rejected {
			if len(ask) != 0 || e.Reason() == "" {
				t.Fatalf("rejected with output %q and reason %q", ask, e.Reason())
			}
			return verdict, false, nil
		}
		if len(ask) == 0 {
			break
		}
	}
	_, done, err = s.Step(nil, authOK, nil)
	return verdict, done, err
}

func TestBothHalves(t *testing.T) {
	plain := Plain("s3cret")
	md5 := ParseSecret(plain.md5("joe"))
	scram := scramSecret(t, "s3cret", "0123456789abcdef", 4096)
	keys := deriveKeys("s3cret", "0123456789abcdef", 4096)
	tests := []struct {
		method         Method
		stored, server Secret
		keys           *Keys
		err            error
	}{
		{MethodPlain, plain, plain, nil, nil},
		{MethodPlain, md5, plain, nil, nil},
		{MethodPlain, scram, plain, nil, nil},
		{MethodPlain, plain, md5, nil, ErrWrongPasswordType},
		{MethodPlain, plain, scram, keys, ErrWrongPasswordType},
		{MethodMD5, plain, plain, nil, nil},
		{MethodMD5, plain, md5, nil, nil},
		{MethodMD5, md5, plain, nil, nil},
		{MethodMD5, md5, md5, nil, nil},
		{MethodMD5, plain, scram, keys, ErrWrongPasswordType},
		{MethodMD5, scram, plain, nil, nil},
		{MethodMD5, scram, md5, nil, ErrWrongPasswordType},
		{MethodSCRAM, plain, plain, nil, nil},
		{MethodSCRAM, scram, plain, nil, nil},
		{MethodSCRAM, scram, scram, keys, nil},
		{MethodSCRAM, scram, scram, nil, ErrWrongPasswordType},
		{MethodSCRAM, plain, scram, keys, ErrWrongPasswordType}, // another salt
		{MethodSCRAM, plain, md5, nil, ErrWrongPasswordType},
	}
	for _, test := range tests {
		t.Run(fmt.Sprintf("%s %s by %s", test.method, test.stored.Kind(), test.server.Kind()), func(t *testing.T) {
			e := begin(test.method, "joe", test.stored, false)
			v, done, err := play(t, e, NewServerExchange("joe", test.server, test.keys, newVerifiers(), rand.Reader))
			if test.err != nil {
				wantErr(t, err, test.err)
				return
			}
			if v != Accepted || !done || err != nil {
				t.Fatalf("%s, done %v, %v", v, done, err)
			}
			if e.Reason() != "" {
				t.Errorf("accepted with reason %q", e.Reason())
			}
		})
	}
}

// TestRefused plays every way of not getting in: the exchange goes its whole
// length and ends in the reason of its method, whatever is wrong.
func TestRefused(t *testing.T) {
	right, wrong := Plain("s3cret"), Plain("guess")
	md5 := ParseSecret(right.md5("joe"))
	scram := scramSecret(t, "s3cret", "0123456789abcdef", 4096)
	tests := []struct {
		name   string
		method Method
		stored Secret
		mock   bool
		typed  Secret
		want   string
	}{
		{"wrong", MethodPlain, right, false, wrong, reasonPassword},
		{"wrong", MethodPlain, md5, false, wrong, reasonPassword},
		{"wrong", MethodPlain, scram, false, wrong, reasonPassword},
		{"unknown", MethodPlain, Secret{}, true, right, reasonPassword},
		{"mock", MethodPlain, right, true, right, reasonPassword},
		{"mock", MethodPlain, scram, true, right, reasonPassword},
		{"empty stored", MethodPlain, Secret{}, false, right, reasonPassword},
		{"empty sent", MethodPlain, right, false, Secret{}, reasonEmpty},
		{"digest sent", MethodPlain, md5, false, Plain(md5.text), reasonPassword},
		{"verifier sent", MethodPlain, scram, false, Plain(scram.text), reasonPassword},
		{"wrong", MethodMD5, right, false, wrong, reasonPassword},
		{"wrong", MethodMD5, md5, false, wrong, reasonPassword},
		{"wrong", MethodMD5, scram, false, wrong, reasonSASL},
		{"unknown", MethodMD5, Secret{}, true, right, reasonPassword},
		{"mock", MethodMD5, right, true, right, reasonPassword},
		{"empty stored", MethodMD5, Secret{}, false, Secret{}, reasonPassword},
		{"wrong", MethodSCRAM, right, false, wrong, reasonSASL},
		{"wrong", MethodSCRAM, scram, false, wrong, reasonSASL},
		{"md5 stored", MethodSCRAM, md5, false, right, reasonSASL},
		{"unknown", MethodSCRAM, Secret{}, true, right, reasonSASL},
		{"mock", MethodSCRAM, right, true, right, reasonSASL},
		{"mock", MethodSCRAM, scram, true, right, reasonSASL},
		{"empty stored", MethodSCRAM, Secret{}, false, Secret{}, reasonSASL},
	}
	for _, test := range tests {
		t.Run(fmt.Sprintf("%s %s %s", test.method, test.stored.Kind(), test.name), func(t *testing.T) {
			e := begin(test.method, "joe", test.stored, test.mock)
			v, _, err := play(t, e, NewServerExchange("joe", test.typed, nil, nil, rand.Reader))
			if err != nil || v != Rejected || e.Reason() != test.want {
				t.Fatalf("%s, %q, %v", v, e.Reason(), err)
			}
			if r := e.Result(); r.Keys != nil || r.Password.Kind() != KindNone {
				t.Errorf("a rejection left %v", r)
			}
			if _, v := step(e, []byte("s3cret\x00")); v != Rejected || e.Reason() != test.want {
				t.Errorf("after the rejection: %s, %q", v, e.Reason())
			}
		})
	}
}

// TestKeysPassThrough: what a client's SCRAM login leaves behind opens a
// server that stores the same secret, and nothing else.
func TestKeysPassThrough(t *testing.T) {
	scram := scramSecret(t, "s3cret", "0123456789abcdef", 4096)
	e := begin(MethodSCRAM, "joe", scram, false)
	if v, _, err := play(t, e, NewServerExchange("joe", Plain("s3cret"), nil, nil, rand.Reader)); v != Accepted || err != nil {
		t.Fatalf("%s, %v", v, err)
	}
	keys := e.Result().Keys
	if keys == nil || *keys != (Keys{Verifier: *scram.verifier, clientKey: deriveKeys("s3cret", "0123456789abcdef", 4096).clientKey}) {
		t.Fatalf("recovered %v", keys)
	}
	server := begin(MethodSCRAM, "joe", scram, false)
	if v, done, err := play(t, server, NewServerExchange("joe", scram, keys, nil, rand.Reader)); v != Accepted || !done || err != nil {
		t.Fatalf("same secret: %s, %v, %v", v, done, err)
	}
	for name, other := range map[string]Secret{
		"salt":       scramSecret(t, "s3cret", "fedcba9876543210", 4096),
		"iterations": scramSecret(t, "s3cret", "0123456789abcdef", 4097),
	} {
		server := begin(MethodSCRAM, "joe", other, false)
		_, _, err := play(t, server, NewServerExchange("joe", scram, keys, nil, rand.Reader))
		t.Run(name, func(t *testing.T) { wantErr(t, err, ErrWrongPasswordType) })
	}
}

// TestResult: a plain login hands on the password, one by an ad-hoc verifier
// hands on nothing.
func TestResult(t *testing.T) {
	scram := scramSecret(t, "s3cret", "0123456789abcdef", 4096)
	for _, stored := range []Secret{Plain("s3cret"), scram} {
		e := begin(MethodPlain, "joe", stored, false)
		if _, v := step(e, []byte("s3cret\x00")); v != Accepted || !e.Result().Password.Equal(Plain("s3cret")) {
			t.Errorf("%v: %s, %v", stored, v, e.Result())
		}
	}
	e := begin(MethodSCRAM, "joe", Plain("s3cret"), false)
	if v, _, err := play(t, e, NewServerExchange("joe", Plain("s3cret"), nil, nil, rand.Reader)); v != Accepted || err != nil {
		t.Fatalf("%s, %v", v, err)
	}
	if r := e.Result(); r.Keys != nil {
		t.Errorf("an ad-hoc verifier left keys")
	}
}

// TestBusyWithoutWork: bytes that come while Work has not run are not a password.
func TestBusyWithoutWork(t *testing.T) {
	e := begin(MethodPlain, "joe", scramSecret(t, "s3cret", "0123456789abcdef", 4096), false)
	if _, v := e.Step(nil, []byte("s3cret\x00")); v != Busy {
		t.Fatal(v)
	}
	if _, v := e.Step(nil, []byte("s3cret\x00")); v != Rejected {
		t.Fatal(v)
	}
}

func TestMalformedPassword(t *testing.T) {
	for _, m := range []Method{MethodPlain, MethodMD5} {
		for body, want := range map[string]string{
			"":                reasonPassword,
			"s3cret":          reasonPassword,
			"s3cret\x00x\x00": reasonPassword,
			"s3cret\x00\x00":  reasonPassword,
			"\x00":            reasonEmpty,
			"\x00s3cret\x00":  reasonPassword,
		} {
			e := begin(m, "joe", Plain("s3cret"), false)
			if _, v := step(e, []byte(body)); v != Rejected || e.Reason() != want {
				t.Errorf("%s %q: %s, %q", m, body, v, e.Reason())
			}
		}
	}
}

// TestStart checks the opening messages byte by byte.
func TestStart(t *testing.T) {
	salt := bytes.NewReader([]byte{1, 2, 3, 4})
	for want, e := range map[string]Exchange{
		"R\x00\x00\x00\x08\x00\x00\x00\x03":                      begin(MethodPlain, "joe", Plain("x"), false),
		"R\x00\x00\x00\x0c\x00\x00\x00\x05\x01\x02\x03\x04":      New(MethodMD5, "joe", Plain("x"), false, nil, salt),
		"R\x00\x00\x00\x17\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00": begin(MethodSCRAM, "joe", Plain("x"), false),
	} {
		if got := e.Start([]byte("before")); string(got) != "before"+want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
