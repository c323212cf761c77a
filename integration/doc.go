// Package integration holds the tests that need a real Postgres and a real
// pooler: `go test ./integration/...`. What they run on is made for them, see
// package sandbox, and by these variables:
//
//	PGWEIR_PG_BIN  the server programs to use
//	PGWEIR_BIN     the pooler to use, a PgBouncer for one; otherwise pgweir is built
//	PGWEIR_BUILD   flags for that build, such as -race
package integration
