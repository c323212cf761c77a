package auth

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

const (
	md5Text   = "md5" + "0123456789abcdef0123456789abcdef"
	scramText = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
)

func TestParseSecret(t *testing.T) {
	for text, want := range map[string]Kind{
		"":                           KindNone,
		"x":                          KindPlain,
		md5Text:                      KindMD5,
		strings.ToUpper(md5Text):     KindPlain,
		md5Text[:34]:                 KindPlain,
		md5Text + "0":                KindPlain,
		md5Text[:34] + "g":           KindPlain,
		md5Text[:34] + "A":           KindPlain,
		scramText:                    KindSCRAM,
		scramText + "=":              KindPlain,
		scramText[:len(scramText)-1]: KindPlain,
		strings.Replace(scramText, "256$", "512$", 1):                 KindPlain,
		strings.Replace(scramText, "4096", "0", 1):                    KindPlain,
		strings.Replace(scramText, "4096", "-1", 1):                   KindPlain,
		strings.Replace(scramText, "4096", "+4096", 1):                KindPlain,
		strings.Replace(scramText, "4096", "", 1):                     KindPlain,
		strings.Replace(scramText, "4096", "2147483647", 1):           KindSCRAM,
		strings.Replace(scramText, "4096", "2147483648", 1):           KindPlain,
		strings.Replace(scramText, "4096", "4294971392", 1):           KindPlain,
		strings.Replace(scramText, "W22", "\nW22", 1):                 KindPlain,
		strings.Replace(scramText, "W22ZaJ0SNY7soEsUEjb6gQ==", "", 1): KindPlain,
		strings.Replace(scramText, "gQ==", "gR==", 1):                 KindPlain, // stray bits
		strings.Replace(scramText, "qY=:", ":", 1):                    KindPlain,
		strings.Replace(scramText, "2dU=", "2dU", 1):                  KindPlain,
		"SCRAM-SHA-256$4096":                                          KindPlain,
		"SCRAM-SHA-256$4096:$:":                                       KindPlain,
	} {
		if got := ParseSecret(text); got.Kind() != want {
			t.Errorf("%q: %s, want %s", text, got.Kind(), want)
		}
	}
}

func TestMD5(t *testing.T) {
	// Postgres: select 'md5'||md5('s3cret'||'joe')
	const want = "md5bdcb91d516e17e91091c380c8a95bcca"
	if got := Plain("s3cret").md5("joe"); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := ParseSecret(want).md5("anyone"); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestRedacted: no way of printing shows a secret.
func TestRedacted(t *testing.T) {
	keys := deriveKeys("hunter22", "saltsaltsaltsalt", 2)
	var b strings.Builder
	log := slog.New(slog.NewJSONHandler(&b, nil))
	for _, text := range []string{"hunter22", md5Text, scramText} {
		s := ParseSecret(text)
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			for _, x := range []any{s, &s, struct{ S Secret }{s}, []Secret{s}, Result{Password: s, Keys: keys}, keys, &keys.Verifier} {
				fmt.Fprintf(&b, verb+"\n", x)
			}
		}
		log.Info("msg", "secret", s, "pointer", &s, "result", Result{Password: s, Keys: keys}, "keys", keys)
	}
	for _, leak := range []string{
		"hunter22", fmt.Sprintf("%x", "hunter22"), md5Text[3:], fmt.Sprintf("%x", md5Text), "WG5d8oPm",
		fmt.Sprintf("%x", keys.clientKey[:]), fmt.Sprintf("%X", keys.storedKey[:]), fmt.Sprint(keys.clientKey[:4])[1:],
	} {
		if strings.Contains(b.String(), leak) {
			t.Errorf("%q was printed", leak)
		}
	}
}

func TestEqual(t *testing.T) {
	if !ParseSecret(scramText).Equal(ParseSecret(scramText)) {
		t.Error("a SCRAM secret differs from itself")
	}
	if ParseSecret(md5Text).Equal(Plain(md5Text)) {
		t.Error("a digest equals a password of the same text")
	}
}

func FuzzParseSecret(f *testing.F) {
	for _, seed := range []string{"", "x", md5Text, scramText, "SCRAM-SHA-256$1:YQ==$:"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s := ParseSecret(text)
		if (s.Kind() == KindNone) != (text == "") {
			t.Fatalf("%q is %s", text, s.Kind())
		}
		if (s.Kind() == KindSCRAM) != (s.verifier != nil) {
			t.Fatalf("%s with verifier %v", s.Kind(), s.verifier)
		}
		if s.Kind() == KindSCRAM && (s.verifier.iterations < 1 || s.verifier.salt == "") {
			t.Fatalf("%q gave %d iterations, %d bytes of salt", text, s.verifier.iterations, len(s.verifier.salt))
		}
		if !s.Equal(ParseSecret(text)) {
			t.Fatal("the same text made another secret")
		}
	})
}
