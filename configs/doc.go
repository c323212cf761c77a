// Package configs reads PgBouncer's configuration dialect into one immutable
// Snapshot.
//
// A configuration is three kinds of text: the ini file with whatever it
// includes (ini.go), the connect strings that stand as values in its sections
// [databases], [users] and [peers] (connstring.go), and the auth_file
// (userlist.go). [Load] reads all of it or returns the first error; [Check]
// goes on after an error and returns everything there is to say.
//
//	path ─► iniReader ─► loader ─► Snapshot ─► ForPool, ForClient, Value
//	                       │          │
//	                     Table    With, Reload: a new Snapshot, the old one unchanged
//
// [Table] describes each key of section [pgbouncer] once: its name, default,
// meaning, whether it may change while running, and the field of [Main] that
// holds it. Parsing, SHOW CONFIG, SET and docs/settings.md have no other
// source. The parameters of connect strings have tables of the same kind in
// database.go, user.go and peer.go.
//
// Which of the values given for a user, for a database and globally applies is
// decided in one place, precedence.go.
//
// A Snapshot is never changed once it was returned, so any number of goroutines
// may read it without a lock. Whoever wants a change makes another one and
// swaps the pointer.
package configs

//go:generate go test -run ^TestSettingsPage$ -update
