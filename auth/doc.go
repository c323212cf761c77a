// Package auth decides who may come in: clients to the pooler, and the pooler
// to its servers.
//
//	client ─► Exchange        New: plain, md5 or SCRAM, by auth_type and secret;
//	                          NewChecked, NewJudged: a password for others to judge
//	server ─► ServerExchange  the other half, with a secret or a client's Keys
//
// Both are state machines without I/O: bytes go in, bytes and a verdict come
// out, and randomness is an argument. They run on a loop, for a login is a hot
// path. The one thing that is slow, PBKDF2, is apart: Verifiers caches what it
// gives and says beforehand whether a chore is needed.
//
// An exchange belongs to one connection and to one goroutine at a time.
// Verifiers, Verifier, Keys and Secret may be shared by all.
//
// The protocol is that of the manual's "SASL Authentication" page and of
// RFC 5802 and RFC 7677, with Postgres' choices where these leave one:
// SCRAM-SHA-256 without channel binding, the user name of the startup packet
// instead of the one in the SCRAM message, SASLprep that falls back to raw
// bytes.
package auth
