package auth

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pgweir/pgweir/wire"
)

// The example of RFC 7677 section 3.
const (
	rfcSalt64      = "W22ZaJ0SNY7soEsUEjb6gQ=="
	rfcClientNonce = "rOprNGfwEbeRWgbNEkqO"
	rfcNonce       = rfcClientNonce + "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	rfcServerFirst = "r=" + rfcNonce + ",s=" + rfcSalt64 + ",i=4096"
	rfcClientFinal = "c=biws,r=" + rfcNonce + ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
	rfcServerFinal = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
)

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%v, want %v", err, want)
	}
}

func unhex64(t testing.TB, s string) string {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestRFC7677(t *testing.T) {
	t.Run("exchange", func(t *testing.T) {
		e := newSCRAM(&deriveKeys("pencil", unhex64(t, rfcSalt64), 4096).Verifier, rand.Reader)
		header, nonce, bare, ok := readClientFirst("n,,n=user,r=" + rfcClientNonce)
		if !ok || nonce != rfcClientNonce || header != gs2None {
			t.Fatalf("header %q, nonce %q, %v", header, nonce, ok)
		}
		first := serverFirst(rfcNonce, e.verifier)
		if first != rfcServerFirst {
			t.Fatalf("%q", first)
		}
		e.random, e.nonce, e.binding, e.signed = nil, rfcNonce, "biws", bare+","+first+","
		out, v := e.Step(nil, []byte(rfcClientFinal))
		if v != Accepted {
			t.Fatalf("%s: %s", v, e.Reason())
		}
		if code, body := authMessage(t, out); code != authSASLFinal || string(body) != rfcServerFinal {
			t.Fatalf("%d %q", code, body)
		}
	})
	t.Run("server exchange", func(t *testing.T) {
		e := &ServerExchange{secret: Plain("pencil"), state: serverSASL, nonce: rfcClientNonce, bound: gs2None, bare: "n=user,r=" + rfcClientNonce}
		out, done, err := e.Step(nil, authSASLContinue, []byte(rfcServerFirst))
		if done || err != nil {
			t.Fatal(done, err)
		}
		if _, body := message(t, out); string(body) != rfcClientFinal {
			t.Fatalf("%q", body)
		}
		if _, _, err := e.Step(nil, authSASLFinal, []byte(rfcServerFinal)); err != nil {
			t.Fatal(err)
		}
		if _, done, err := e.Step(nil, authOK, nil); !done || err != nil {
			t.Fatal(done, err)
		}
	})
}

// initial is the body of a SASLInitialResponse.
func initial(mechanism, message string) []byte {
	b := wire.AppendString(nil, mechanism)
	b = binary.BigEndian.AppendUint32(b, uint32(len(message)))
	return append(b, message...)
}

func TestClientFirst(t *testing.T) {
	for body, want := range map[string]string{
		string(initial(mechanism, "n,,n=,r=abc")):                           "",
		string(initial(mechanism, "y,,n=,r=abc")):                           "",
		string(initial(mechanism, "n,,n=joe,r=abc,x=ext")):                  "",
		string(initial("SCRAM-SHA-256-PLUS", "n,,n=,r=abc")):                reasonMechanism,
		string(initial("", "n,,n=,r=abc")):                                  reasonMechanism,
		string(initial(mechanism, "p=tls-unique,,n=,r=abc")):                reasonSASL, // no PLUS here
		string(initial(mechanism, "n,a=root,n=,r=abc")):                     reasonSASL, // authzid
		string(initial(mechanism, "y,a=root,n=,r=abc")):                     reasonSASL,
		string(initial(mechanism, "n,,m=ext,n=,r=abc")):                     reasonSASL, // mandatory extension
		string(initial(mechanism, "n,,n=,m=ext,r=abc")):                     reasonSASL,
		string(initial(mechanism, "n,,n=")):                                 reasonSASL,
		string(initial(mechanism, "n,,n=,r=")):                              reasonSASL,
		string(initial(mechanism, "n,,n=,r=a b")):                           reasonSASL,
		string(initial(mechanism, "n,,n=,r=a\x00b")):                        reasonSASL,
		string(initial(mechanism, "n,,n=,r=ä")):                             reasonSASL,
		string(initial(mechanism, "n,,r=abc")):                              reasonSASL,
		string(initial(mechanism, "z,,n=,r=abc")):                           reasonSASL,
		string(initial(mechanism, "n")):                                     reasonSASL,
		string(initial(mechanism, "")):                                      reasonSASL,
		"":                                                                  reasonSASL,
		mechanism:                                                           reasonSASL, // no NUL
		mechanism + "\x00":                                                  reasonSASL, // no length
		mechanism + "\x00\xff\xff\xff\xff":                                  reasonSASL, // no initial response
		mechanism + "\x00\xff\xff\xff\xffn,,n=,r=abc":                       reasonSASL,
		mechanism + "\x00\x80\x00\x00\x0bn,,n=,r=abc":                       reasonSASL, // length ≥ 2³¹
		mechanism + "\x00\x00\x00\x00\x0cn,,n=,r=abc":                       reasonSASL, // length beyond the body
		mechanism + "\x00\x00\x00\x00\x0an,,n=,r=abc":                       reasonSASL, // bytes beyond the length
		string(initial(mechanism, "n,,n=,r="+strings.Repeat("a", maxSASL))): reasonSASL,
	} {
		e := begin(MethodSCRAM, "joe", Plain("s3cret"), false)
		out, v := e.Step(nil, []byte(body))
		if want == "" {
			if v != More || e.Reason() != "" {
				t.Errorf("%q: %s, %q", body, v, e.Reason())
			}
			continue
		}
		if v != Rejected || e.Reason() != want || len(out) != 0 {
			t.Errorf("%q: %s, %q, output %q", body, v, e.Reason(), out)
		}
	}
}

// TestClientFinal sends client-final-messages whose proof is right, or would
// be, and which must be refused for another reason.
func TestClientFinal(t *testing.T) {
	secret := scramSecret(t, "s3cret", "0123456789abcdef", 4096)
	keys := deriveKeys("s3cret", "0123456789abcdef", 4096)
	for _, test := range []struct {
		name, header string
		final        func(nonce string) string // up to the proof
		mangle       func(proof string) string
		ok           bool
	}{
		{"right", "n,,", func(n string) string { return "c=biws,r=" + n }, nil, true},
		{"right, y", "y,,", func(n string) string { return "c=eSws,r=" + n }, nil, true},
		{"extension", "n,,", func(n string) string { return "c=biws,r=" + n + ",x=y,z=" }, nil, true},
		{"no nonce", "n,,", func(string) string { return "c=biws" }, nil, false},
		{"empty nonce", "n,,", func(string) string { return "c=biws,r=" }, nil, false},
		{"client's part of the nonce", "n,,", func(string) string { return "c=biws,r=abc" }, nil, false},
		{"longer nonce", "n,,", func(n string) string { return "c=biws,r=" + n + "x" }, nil, false},
		{"nonce of another", "n,,", func(n string) string { return "c=biws,r=abc" + newNonce(rand.Reader) }, nil, false},
		{"nonce not second", "n,,", func(n string) string { return "c=biws,x=y,r=" + n }, nil, false},
		{"binding of y", "n,,", func(n string) string { return "c=eSws,r=" + n }, nil, false},
		{"binding of n", "y,,", func(n string) string { return "c=biws,r=" + n }, nil, false},
		{"binding of p", "n,,", func(n string) string { return "c=cD10bHMtdW5pcXVlLCw=,r=" + n }, nil, false},
		{"no binding", "n,,", func(n string) string { return "r=" + n }, nil, false},
		{"proof too short", "n,,", func(n string) string { return "c=biws,r=" + n }, func(p string) string { return p[4:] }, false},
		{"proof too long", "n,,", func(n string) string { return "c=biws,r=" + n }, func(p string) string { return "AAAA" + p }, false},
		{"proof not last", "n,,", func(n string) string { return "c=biws,r=" + n }, func(p string) string { return p + ",x=y" }, false},
		{"two proofs", "n,,", func(n string) string { return "c=biws,r=" + n }, func(p string) string { return p + ",p=" + p }, false},
		{"NUL after the proof", "n,,", func(n string) string { return "c=biws,r=" + n }, func(p string) string { return p + "\x00" }, false},
		{"line break in the proof", "n,,", func(n string) string { return "c=biws,r=" + n }, func(p string) string { return p[:40] + "\n" + p[41:] }, false},
		{"no proof", "n,,", func(n string) string { return "c=biws,r=" + n }, func(string) string { return "" }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := begin(MethodSCRAM, "joe", secret, false)
			out, v := e.Step(nil, initial(mechanism, test.header+"n=joe,r=abc"))
			if v != More {
				t.Fatal(v, e.Reason())
			}
			_, body := authMessage(t, out)
			nonce, _, _, err := readServerFirst(string(body), "abc")
			if err != nil {
				t.Fatal(err)
			}
			final := test.final(nonce)
			proof := xor(keys.clientKey, mac(keys.storedKey[:], "n=joe,r=abc,", string(body), ",", final))
			proof64 := base64.StdEncoding.EncodeToString(proof[:])
			if test.mangle != nil {
				proof64 = test.mangle(proof64)
			}
			_, v = e.Step(nil, []byte(final+",p="+proof64))
			if (v == Accepted) != test.ok || v != Accepted && e.Reason() != reasonSASL {
				t.Fatalf("%s, %q", v, e.Reason())
			}
		})
	}
}

// TestMockLooksReal: for a user who doesn't exist, salt and iteration count
// are there, stay the same through the process's life, and differ from user to
// user and from process to process.
func TestMockLooksReal(t *testing.T) {
	cache := newVerifiers()
	challenge := func(c *Verifiers, user string, s Secret) (salt string) {
		e := New(MethodSCRAM, user, s, s.Kind() == KindNone, c.Derive(user, s, 1234), rand.Reader)
		out, _ := e.Step(nil, initial(mechanism, "n,,n=,r=abc"))
		_, body := authMessage(t, out)
		_, raw, count, err := readServerFirst(string(body), "abc")
		if err != nil || count != 1234 || len(raw) != 16 {
			t.Fatalf("%d iterations, salt of %d bytes, %v", count, len(raw), err)
		}
		return string(raw)
	}
	mock := challenge(cache, "joe", Secret{})
	if challenge(cache, "joe", Secret{}) != mock {
		t.Error("the mock salt changes")
	}
	if challenge(cache, "joe", Plain("s3cret")) != mock || challenge(cache, "joe", Plain("other")) != mock {
		t.Error("the mock salt is not the one that the user would have")
	}
	if challenge(cache, "jim", Secret{}) == mock {
		t.Error("two users share a mock salt")
	}
	if challenge(newVerifiers(), "joe", Secret{}) == mock {
		t.Error("two processes share a mock salt")
	}
}

func TestServerMessages(t *testing.T) {
	type message struct {
		code int32
		body string
	}
	const us = "b3VyX25vbmNlX29mXzE4Xzg5"
	mechanisms := message{authSASL, "SCRAM-SHA-256-PLUS\x00SCRAM-SHA-256\x00\x00"}
	first := func(format string, args ...any) message {
		return message{authSASLContinue, fmt.Sprintf(format, args...)}
	}
	good := first("r=%sserver,s=c2FsdA==,i=4096", us)
	for _, test := range []struct {
		name   string
		secret Secret
		want   error // of the last message
		script []message
	}{
		{"trust", Secret{}, nil, []message{{authOK, ""}}},
		{"ok twice", Secret{}, ErrAuthRequest, []message{{authOK, ""}, {authOK, ""}}},
		{"request after ok", Plain("x"), ErrAuthRequest, []message{{authOK, ""}, {authCleartext, ""}}},
		{"cleartext twice", Plain("x"), ErrAuthRequest, []message{{authCleartext, ""}, {authCleartext, ""}}},
		{"md5 then cleartext", Plain("x"), ErrAuthRequest, []message{{authMD5, "salt"}, {authCleartext, ""}}},
		{"md5 salt short", Plain("x"), ErrAuthRequest, []message{{authMD5, "sal"}}},
		{"md5 salt long", Plain("x"), ErrAuthRequest, []message{{authMD5, "salty"}}},
		{"GSS", Plain("x"), ErrAuthRequest, []message{{7, ""}}},
		{"negative", Plain("x"), ErrAuthRequest, []message{{-1, ""}}},
		{"only PLUS", Plain("x"), ErrNoMechanism, []message{{authSASL, "SCRAM-SHA-256-PLUS\x00\x00"}}},
		{"no mechanism", Plain("x"), ErrNoMechanism, []message{{authSASL, "\x00"}}},
		{"mechanism after the end", Plain("x"), ErrNoMechanism, []message{{authSASL, "\x00SCRAM-SHA-256\x00"}}},
		{"unterminated", Plain("x"), ErrNoMechanism, []message{{authSASL, "SCRAM-SHA-256"}}},
		{"continue at once", Plain("x"), ErrAuthRequest, []message{good}},
		{"final at once", Plain("x"), ErrAuthRequest, []message{{authSASLFinal, rfcServerFinal}}},
		{"ok instead of continue", Plain("x"), ErrAuthRequest, []message{mechanisms, {authOK, ""}}},
		{"ok instead of final", Plain("x"), ErrAuthRequest, []message{mechanisms, good, {authOK, ""}}},
		{"continue twice", Plain("x"), ErrAuthRequest, []message{mechanisms, good, good}},
		{"final of another", Plain("x"), ErrServerSignature, []message{mechanisms, good, {authSASLFinal, rfcServerFinal}}},
		{"final with an error", Plain("x"), ErrAuthRequest, []message{mechanisms, good, {authSASLFinal, "e=invalid-proof"}}},
		{"final without signature", Plain("x"), ErrAuthRequest, []message{mechanisms, good, {authSASLFinal, "v="}}},
		{"final empty", Plain("x"), ErrAuthRequest, []message{mechanisms, good, {authSASLFinal, ""}}},
		{"nonce of another", Plain("x"), ErrAuthRequest, []message{mechanisms, first("r=somebody_elses_nonce_______,s=c2FsdA==,i=4096")}},
		{"nonce not extended", Plain("x"), ErrAuthRequest, []message{mechanisms, first("r=%s,s=c2FsdA==,i=4096", us)}},
		{"nonce with a blank", Plain("x"), ErrAuthRequest, []message{mechanisms, first("r=%s x,s=c2FsdA==,i=4096", us)}},
		{"mandatory extension", Plain("x"), ErrAuthRequest, []message{mechanisms, first("m=x,r=%sx,s=c2FsdA==,i=4096", us)}},
		{"no salt", Plain("x"), ErrAuthRequest, []message{mechanisms, first("r=%sx,i=4096", us)}},
		{"empty salt", Plain("x"), ErrAuthRequest, []message{mechanisms, first("r=%sx,s=,i=4096", us)}},
		{"bad salt", Plain("x"), ErrAuthRequest, []message{mechanisms, first("r=%sx,s=c2FsdA,i=4096", us)}},
		{"huge salt", Plain("x"), ErrAuthRequest, []message{mechanisms, first("r=%sx,s=%s,i=1", us, strings.Repeat("AAAA", maxSalt))}},
		{"no count", Plain("x"), ErrAuthRequest, []message{mechanisms, first("r=%sx,s=c2FsdA==", us)}},
		{"count 0", Plain("x"), ErrAuthRequest, []message{mechanisms, first("r=%sx,s=c2FsdA==,i=0", us)}},
		{"count negative", Plain("x"), ErrAuthRequest, []message{mechanisms, first("r=%sx,s=c2FsdA==,i=-1", us)}},
		{"count beyond the limit", Plain("x"), ErrAuthRequest, []message{mechanisms, first("r=%sx,s=c2FsdA==,i=1000001", us)}},
		{"count of 2³²+1", Plain("x"), ErrAuthRequest, []message{mechanisms, first("r=%sx,s=c2FsdA==,i=4294967297", us)}},
	} {
		t.Run(test.name, func(t *testing.T) {
			raw, err := base64.StdEncoding.DecodeString(us)
			if err != nil {
				t.Fatal(err)
			}
			e := NewServerExchange("joe", test.secret, nil, nil, bytes.NewReader(raw))
			var done bool
			for i, m := range test.script {
				if err != nil {
					t.Fatalf("message %d: %v", i-1, err)
				}
				_, done, err = e.Step(nil, m.code, []byte(m.body))
			}
			if !errors.Is(err, test.want) || done != (test.want == nil) {
				t.Fatalf("%v, done %v", err, done)
			}
			if _, done, err := e.Step(nil, authOK, nil); done || err == nil {
				t.Fatal("AuthenticationOk was taken after the end")
			}
		})
	}
}

// TestServerIterationsAtTheLimit: the limit itself is allowed.
func TestServerIterationsAtTheLimit(t *testing.T) {
	if _, _, n, err := readServerFirst("r=abc,s=c2FsdA==,i=1000000", "a"); n != MaxServerIterations || err != nil {
		t.Fatal(n, err)
	}
}

func FuzzSCRAMServer(f *testing.F) {
	f.Add(initial(mechanism, "n,,n=,r=abc"), []byte("c=biws,r=abc,p=AAAA"))
	f.Add(initial(mechanism, "y,,n=joe,r=abc,x=y"), []byte("c=eSws,r=,p="))
	f.Add(initial(mechanism, "n,a=root,n=,r=abc"), []byte(rfcClientFinal))
	verifier := newVerifiers().Derive("joe", Plain("s3cret"), 1)
	f.Fuzz(func(t *testing.T, first, final []byte) {
		e := New(MethodSCRAM, "joe", Plain("s3cret"), false, verifier, rand.Reader)
		out, v := e.Step(nil, first)
		if v == More {
			code, body := authMessage(t, out)
			if code != authSASLContinue {
				t.Fatalf("answer %d", code)
			}
			if _, _, n, err := readServerFirst(string(body), ""); n != 1 || err != nil {
				t.Fatalf("%q: %v", body, err)
			}
			out, v = e.Step(nil, final)
		}
		if v != Rejected || len(out) != 0 || e.Reason() == "" {
			t.Fatalf("%s, %q, %q", v, out, e.Reason())
		}
	})
}

func FuzzSCRAMClient(f *testing.F) {
	const us = "AAAAAAAAAAAAAAAAAAAAAAAA"
	f.Add([]byte("SCRAM-SHA-256\x00\x00"), []byte("r="+us+"x,s=c2FsdA==,i=1"), []byte("v=AAAA"))
	f.Add([]byte("\x00"), []byte("r="+us+"x,s=c2FsdA==,i=999999999"), []byte("e=x"))
	f.Add([]byte("SCRAM-SHA-256-PLUS\x00SCRAM-SHA-256\x00\x00"), []byte("r="+us+",s=,i=-1"), []byte(rfcServerFinal))
	// Keys instead of a password: no PBKDF2, whatever the server asks for.
	secret := scramSecret(f, "s3cret", "salt", 1)
	keys := deriveKeys("s3cret", "salt", 1)
	f.Fuzz(func(t *testing.T, mechanisms, first, final []byte) {
		e := NewServerExchange("joe", secret, keys, nil, bytes.NewReader(make([]byte, nonceLen)))
		for i, m := range [][]byte{mechanisms, first, final} {
			out, done, err := e.Step(nil, int32(authSASL+i), m)
			if done {
				t.Fatal("done without AuthenticationOk")
			}
			if err != nil {
				if len(out) != 0 {
					t.Fatalf("an error and output %q", out)
				}
				if _, _, err := e.Step(nil, authOK, nil); err == nil {
					t.Fatal("AuthenticationOk after an error")
				}
				return
			}
			if i < 2 {
				if typ, _ := message(t, out); typ != wire.Password {
					t.Fatalf("answer %q", out)
				}
			}
		}
		t.Fatal("a signature was guessed")
	})
}
