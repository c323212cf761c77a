package certs

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/integration/certificates"
	"github.com/pgweir/pgweir/wire/secure"
)

func TestProtocols(t *testing.T) {
	for list, want := range map[string]versions{
		"secure": tls12 | tls13, "default": tls12 | tls13, "all": tls10 | tls11 | tls12 | tls13, "tlsv1": tls10 | tls11 | tls12 | tls13,
		"tlsv1.2": tls12, "tlsv1.1,tlsv1.2": tls11 | tls12, "tlsv1.2:tlsv1.3": tls12 | tls13, " TLSv1.3 ": tls13,
		"!tlsv1.0,!tlsv1.1": tls12 | tls13, "all,!tlsv1.3": tls10 | tls11 | tls12, "secure:!tlsv1.2": tls13,
	} {
		if got, err := parseProtocols(list); err != nil || got != want {
			t.Errorf("%q: %b, %v; want %b", list, got, err, want)
		}
	}
	for _, list := range []string{"", ",", "tls", "legacy", "secure,sslv3", "secure,!tlsv1.2,!tlsv1.3"} {
		if got, err := parseProtocols(list); err == nil {
			t.Errorf("%q: %b", list, got)
		}
	}
	if least, most, err := (tls11 | tls12).span(); least != tls.VersionTLS11 || most != tls.VersionTLS12 || err != nil {
		t.Errorf("%x to %x, %v", least, most, err)
	}
	if _, _, err := (tls10 | tls12).span(); err == nil {
		t.Error("a gap is no error")
	}
}

func TestCiphers(t *testing.T) {
	names := func(ids []uint16) string {
		var list []string
		for _, id := range ids {
			list = append(list, secure.SuiteName(id))
		}
		return strings.Join(list, " ")
	}
	for list, want := range map[string]string{
		"default": "", "secure": "", "normal": "", "fast": "",
		"ECDHE-RSA-AES256-GCM-SHA384":                                 "ECDHE-RSA-AES256-GCM-SHA384",
		"ECDHE+AESGCM:!AES128":                                        "ECDHE-ECDSA-AES256-GCM-SHA384 ECDHE-RSA-AES256-GCM-SHA384",
		"EECDH+ECDSA+CHACHA20,DHE-RSA-AES256-SHA":                     "ECDHE-ECDSA-CHACHA20-POLY1305",
		"HIGH:!aNULL:!ECDSA:-kRSA:+AES:!SHA1:!AES128:@STRENGTH":       "ECDHE-RSA-AES256-GCM-SHA384 ECDHE-RSA-CHACHA20-POLY1305",
		"kRSA+SHA AES128-SHA":                                         "AES128-SHA AES256-SHA",
		"!AES:CHACHA20+aRSA":                                          "ECDHE-RSA-CHACHA20-POLY1305",
		"ALL:!TLSv1.2:!kRSA:!ECDSA":                                   "ECDHE-RSA-AES128-SHA ECDHE-RSA-AES256-SHA",
		"ECDHE-RSA-AES128-SHA:-AES128:ECDHE-RSA-AES256-SHA:@SECLEVEL": "ECDHE-RSA-AES256-SHA",
	} {
		got, err := parseCiphers(list)
		if err != nil || names(got) != want {
			t.Errorf("%q: %s, %v; want %s", list, names(got), err, want)
		}
	}
	for _, list := range []string{"aNULL", "HIGH:!ALL", "nonsense", ":", "DHE-RSA-AES256-SHA"} {
		if got, err := parseCiphers(list); err == nil {
			t.Errorf("%q: %s", list, names(got))
		}
	}
	// All that crypto/tls calls secure can be chosen.
	for _, s := range tls.CipherSuites() {
		known := func(o secure.Suite) bool { return o.ID == s.ID }
		if !slices.ContainsFunc(secure.Suites, known) && !slices.ContainsFunc(secure.Suites13, known) {
			t.Errorf("%s has no name", s.Name)
		}
	}
}

func TestCurves(t *testing.T) {
	for list, want := range map[string][]tls.CurveID{
		"": nil, "auto": nil, "prime256v1": {tls.CurveP256}, "P-256": {tls.CurveP256}, "secp384r1": {tls.CurveP384},
		"secp521r1": {tls.CurveP521}, "X25519:secp256r1": {tls.X25519, tls.CurveP256},
	} {
		if got, err := parseCurve(list); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v; want %v", list, got, err, want)
		}
	}
	for _, list := range []string{"none", "curve25519", ":", "auto:P-256"} {
		if got, err := parseCurve(list); err == nil {
			t.Errorf("%q: %v", list, got)
		}
	}
}

// folder has the files of one certificate after the other.
type folder string

func (f folder) path(name string) string { return filepath.Join(string(f), name) }

func (f folder) write(t *testing.T, name string, data []byte) string {
	t.Helper()
	if err := os.WriteFile(f.path(name), data, 0o600); err != nil {
		t.Fatal(err)
	}
	return f.path(name)
}

// renew writes a certificate called name.
func (f folder) renew(t *testing.T, name string) {
	t.Helper()
	cert, key := certificates.NewAuthority("authority").Issue(certificates.Options{Name: name})
	f.write(t, "cert", cert)
	f.write(t, "key", key)
}

// load reads an ini file with these settings.
func load(t *testing.T, settings string) *configs.Main {
	t.Helper()
	snap, err := configs.Parse("pgweir.ini", "[databases]\n* = host=db\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"+settings)
	if err != nil {
		t.Fatal(err)
	}
	return &snap.Main
}

func shown(c *tls.Config) string {
	if c == nil {
		return "nothing"
	}
	return c.Certificates[0].Leaf.Subject.CommonName
}

// TestKeeper changes settings and files.
func TestKeeper(t *testing.T) {
	f := folder(t.TempDir())
	f.renew(t, "first")
	var k Keeper
	want := func(name string) {
		t.Helper()
		if got := shown(k.Config()); got != name {
			t.Errorf("shown is %s, want %s", got, name)
		}
	}
	configure := func(settings string) error {
		commit, err := k.Prepare(load(t, settings), time.Now())
		if err == nil {
			commit()
		}
		return err
	}
	refresh := func(want string) {
		t.Helper()
		changed, err := k.Refresh()
		if got := fmt.Sprint(changed, " ", err); !strings.HasPrefix(got, want) {
			t.Errorf("Refresh: %s, want %s", got, want)
		}
	}
	files := "client_tls_cert_file = " + f.path("cert") + "\nclient_tls_key_file = " + f.path("key") + "\n"
	want("nothing")
	refresh("false <nil>")
	if err := configure("client_tls_sslmode = prefer"); err != nil {
		t.Fatal(err)
	}
	want("localhost")
	made := k.Config().Certificates[0].Leaf
	if err := configure("client_tls_sslmode = require\n" + files); err != nil {
		t.Fatal(err)
	}
	want("first")
	refresh("false <nil>")
	f.renew(t, "second one")
	refresh("true <nil>")
	want("second one")
	f.write(t, "key", []byte("nonsense"))
	refresh("false client_tls_cert_file: ")
	refresh("false <nil>") // not again and again
	want("second one")
	if err := configure("client_tls_sslmode = require\n" + files); err == nil {
		t.Error("nonsense is a key")
	}
	want("second one")
	f.renew(t, "the third")
	refresh("true <nil>")
	want("the third")
	if err := configure("client_tls_sslmode = require"); err != nil {
		t.Fatal(err)
	}
	if !k.Config().Certificates[0].Leaf.Equal(made) {
		t.Error("a certificate was made anew")
	}
	if err := configure("client_tls_sslmode = disable"); err != nil {
		t.Fatal(err)
	}
	want("nothing")
}

// TestKeeperReplaced has files replaced in the ways that there are: renamed, by a
// symbolic link to their folder that changes as in the secrets of Kubernetes,
// removed and written anew, and written in two halves.
func TestKeeperReplaced(t *testing.T) {
	root := folder(t.TempDir())
	version := func(name string) folder {
		t.Helper()
		f := folder(root.path(name))
		if err := os.Mkdir(string(f), 0o700); err != nil {
			t.Fatal(err)
		}
		f.renew(t, name)
		return f
	}
	link := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, root.path("new")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(root.path("new"), root.path(name)); err != nil {
			t.Fatal(err)
		}
	}
	move := func(f folder) {
		t.Helper()
		for _, name := range []string{"cert", "key"} {
			if err := os.Rename(f.path(name), root.path(name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	var k Keeper
	refresh := func(wantChanged bool, wantErr, want string) {
		t.Helper()
		changed, err := k.Refresh()
		if changed != wantChanged || (err != nil) != (wantErr != "") || err != nil && !strings.Contains(err.Error(), wantErr) {
			t.Errorf("Refresh: %v, %v", changed, err)
		}
		if got := shown(k.Config()); got != want {
			t.Errorf("shown is %s, want %s", got, want)
		}
	}
	version("first")
	link("first", "data")
	link("data/cert", "cert")
	link("data/key", "key")
	commit, err := k.Prepare(load(t, "client_tls_sslmode = require\nclient_tls_cert_file = "+root.path("cert")+"\nclient_tls_key_file = "+root.path("key")), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	commit()
	refresh(false, "", "first")
	version("second one")
	link("second one", "data")
	refresh(true, "", "second one")
	move(version("the third"))
	refresh(true, "", "the third")
	cert, key := os.Remove(root.path("cert")), os.Remove(root.path("key"))
	if cert != nil || key != nil {
		t.Fatal(cert, key)
	}
	refresh(false, "No such file", "the third")
	move(version("number four"))
	refresh(true, "", "number four")
	whole, err := os.ReadFile(version("the fifth one").path("cert"))
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < len(whole); n += len(whole) / 4 { // whatever n is, the key does not fit
		root.write(t, "cert", whole[:n])
		refresh(false, "client_tls_cert_file: ", "number four")
	}
	root.write(t, "cert", whole)
	refresh(false, "client_tls_cert_file: ", "number four")
	move(folder(root.path("the fifth one")))
	refresh(true, "", "the fifth one")
}

// TestKeeperServers: files for servers that can't be used are told of, once.
func TestKeeperServers(t *testing.T) {
	f := folder(t.TempDir())
	f.renew(t, "first")
	var k Keeper
	commit, err := k.Prepare(load(t, "server_tls_sslmode = verify-ca\nserver_tls_ca_file = "+f.path("cert")), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	commit()
	f.renew(t, "second one")
	if _, err := k.Refresh(); err != nil {
		t.Error(err)
	}
	f.write(t, "cert", []byte("nonsense"))
	if _, err := k.Refresh(); err == nil || !strings.HasPrefix(err.Error(), "server_tls_ca_file: ") {
		t.Errorf("nonsense is an authority: %v", err)
	}
	if _, err := k.Refresh(); err != nil {
		t.Errorf("told again: %v", err)
	}
}

// TestFiles has connections to servers share what they need, until it changes.
func TestFiles(t *testing.T) {
	f := folder(t.TempDir())
	f.renew(t, "first")
	settings := func(mode string) Settings {
		return ForServers(load(t, "server_tls_sslmode = "+mode+"\nserver_tls_cert_file = "+f.path("cert")+"\nserver_tls_key_file = "+f.path("key")))
	}
	var files Files
	connect := func(mode, host string) *tls.Config {
		t.Helper()
		c, err := files.Connect(settings(mode), host)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	one, two := connect("verify-full", "one"), connect("verify-full", "two")
	if one.ServerName != "one" || two.ServerName != "two" || one.Certificates[0].Leaf != two.Certificates[0].Leaf {
		t.Errorf("%q and %q don't share", one.ServerName, two.ServerName)
	}
	if c := connect("require", "one"); c.ServerName != "" || c.VerifyConnection != nil {
		t.Error("other settings don't count")
	}
	f.renew(t, "second one")
	if got := shown(connect("require", "one")); got != "second one" {
		t.Errorf("shown is %s", got)
	}
	f.write(t, "key", []byte("nonsense"))
	for range 2 {
		if got := shown(connect("require", "one")); got != "second one" {
			t.Errorf("shown is %s while the key is nonsense", got)
		}
	}
	if _, err := files.Connect(settings("verify-ca"), "one"); err == nil {
		t.Error("nonsense is a key for other settings")
	}
	f.renew(t, "the third")
	if got := shown(connect("require", "one")); got != "the third" {
		t.Errorf("shown is %s", got)
	}
}

// TestWrong has errors name the setting.
func TestWrong(t *testing.T) {
	f := folder(t.TempDir())
	f.renew(t, "name")
	f.write(t, "empty", nil)
	f.write(t, "locked", []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIGb\n-----END ENCRYPTED PRIVATE KEY-----\n"))
	for settings, want := range map[string]string{
		"client_tls_protocols = tlsv1.0,tlsv1.2": "client_tls_protocols: TLS versions must follow",
		"client_tls_protocols = sslv3":           `client_tls_protocols: unknown word "sslv3"`,
		"client_tls_ciphers = aNULL":             "client_tls_ciphers: no cipher suite is left",
		"client_tls_ecdhcurve = none":            "client_tls_ecdhcurve: none would leave",
		"client_tls_ecdhcurve = curve25519":      "client_tls_ecdhcurve: unknown curve",
		"client_tls_dheparams = legacy":          `client_tls_dheparams: invalid value "legacy": must be auto or none`,
		"client_tls_cert_file = " + f.path("cert") + "\nclient_tls_key_file = " + f.path("locked"): "client_tls_key_file: the key in " + f.path("locked") + " is encrypted",
		"client_tls13_ciphers = AES": "client_tls13_ciphers: failed to set the TLSv1.3 cipher suites",
		"client_tls_protocols=tlsv1.3\nclient_tls13_ciphers=TLS_AES_128_GCM_SHA256":              "client_tls13_ciphers: the suites of TLS 1.3 can't be chosen",
		"client_tls_ca_file = " + f.path("missing"):                                              "client_tls_ca_file: cannot read " + f.path("missing") + ": No such file or directory",
		"client_tls_ca_file = " + f.path("empty"):                                                "client_tls_ca_file: " + f.path("empty") + " holds no certificate",
		"client_tls_cert_file = " + f.path("cert") + "\nclient_tls_key_file = " + f.path("cert"): "client_tls_cert_file: ",
		"server_tls_cert_file = " + f.path("cert"):                                               "server_tls_key_file: cannot read",
		"server_tls_ca_file = " + f.path("missing"):                                              "server_tls_ca_file: cannot read",
		"server_tls_protocols = ,":                                                               "server_tls_protocols: no TLS version is left",
	} {
		commit, err := new(Keeper).Prepare(load(t, "client_tls_sslmode = allow\n"+settings), time.Now())
		if err == nil || !strings.HasPrefix(err.Error(), want) || commit != nil {
			t.Errorf("%q: %v, want %s", settings, err, want)
		}
	}
}

// TestSuites13 leaves TLS 1.3 out where its suites can't be met.
func TestSuites13(t *testing.T) {
	const few, all = "TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256"
	for list, want := range map[string]uint16{few: tls.VersionTLS12, all: tls.VersionTLS13} {
		m := load(t, "client_tls_sslmode = allow\nclient_tls13_ciphers = "+list)
		c, err := ForClients(m).Accept(&tls.Certificate{})
		_, doubtful := Check(m, time.Now())
		if err != nil || c.MaxVersion != want || (len(doubtful) == 0) != (list == all) {
			t.Errorf("%s: %+v, %v, %v", list, c, err, doubtful)
		}
	}
}

// TestValidity has certificates be doubtful before and after their time.
func TestValidity(t *testing.T) {
	f := folder(t.TempDir())
	f.renew(t, "name")
	m := load(t, "server_tls_sslmode = require\nserver_tls_cert_file = "+f.path("cert")+"\nserver_tls_key_file = "+f.path("key"))
	c, err := ForServers(m).Connect("db")
	if err != nil {
		t.Fatal(err)
	}
	leaf := c.Certificates[0].Leaf
	for _, test := range []struct {
		now  time.Time
		want string
	}{
		{leaf.NotBefore.Add(-time.Second), " is valid only from " + day(leaf.NotBefore) + " on"},
		{leaf.NotBefore.Add(time.Second), ""},
		{leaf.NotAfter.Add(-soon), ""},
		{leaf.NotAfter.Add(-soon + time.Second), " expires on " + day(leaf.NotAfter)},
		{leaf.NotAfter.Add(time.Second), " has expired on " + day(leaf.NotAfter)},
	} {
		wrong, doubtful := Check(m, test.now)
		got := ""
		if len(doubtful) > 0 {
			got = doubtful[0].Error()
		}
		if test.want != "" {
			test.want = "server_tls_cert_file: " + f.path("cert") + test.want
		}
		if len(wrong) > 0 || len(doubtful) > 1 || got != test.want {
			t.Errorf("%v: %v, %v; want %q", test.now, wrong, doubtful, test.want)
		}
	}
}

// TestServerName says whom servers hear that they are: only verify-full tells.
func TestServerName(t *testing.T) {
	for mode, want := range map[string]string{"prefer": "", "require": "", "verify-ca": "", "verify-full": "db"} {
		c, err := ForServers(load(t, "server_tls_sslmode = "+mode)).Connect("db")
		if err != nil || c.ServerName != want || !slices.Equal(c.NextProtos, []string{"postgresql"}) {
			t.Errorf("%s: %q, %q, %v", mode, c.ServerName, c.NextProtos, err)
		}
	}
}

// TestSame says which changes have servers closed.
func TestSame(t *testing.T) {
	base := "server_tls_ca_file = a\n"
	for settings, want := range map[string]bool{
		"": true, "server_tls13_ciphers = TLS_AES_128_GCM_SHA256": true, "client_tls_sslmode = allow": true,
		"server_tls_sslmode = require": false, "server_tls_ca_file = b": false, "server_tls_cert_file = c": false,
		"server_tls_key_file = k": false, "server_tls_protocols = tlsv1.3": false, "server_tls_ciphers = HIGH": false,
	} {
		if got := ForServers(load(t, base)).Same(ForServers(load(t, base+settings))); got != want {
			t.Errorf("%q: %v", settings, got)
		}
	}
}
