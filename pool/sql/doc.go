// Package sql knows the little of Postgres' SQL that a pooler has to: it finds
// the statements of a text that name prepared statements (PREPARE, EXECUTE,
// DEALLOCATE), and it writes names and values into a text so that they can't be
// read as anything else.
//
// It works on texts alone: no session, no connection, no state. What a text
// means hangs on two of a session's parameters. standard_conforming_strings is
// an argument; that the client_encoding lets no byte below 0x80 stand within
// another character is for the caller to see to. Any text may be given, however
// malformed: the worst that can come of one that Postgres would refuse is that
// nothing is found.
//
// [MayNameStatements] is asked of every query, on the loops. It allocates
// nothing. All else is for the few texts for which it is true.
package sql
