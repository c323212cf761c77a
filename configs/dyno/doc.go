// Package dyno makes a pooler's configuration out of the environment of an app:
// of the URLs of its databases, and of variables that say how to pool. What it
// makes is the text of a pgbouncer.ini, so there is one dialect and one set of
// rules; and the environment that the app gets instead, in which the URLs lead
// to the pooler.
//
//	environ.go  which variables mean what
//	url.go      connection URLs, as libpq reads them
//	config.go   the text
package dyno
