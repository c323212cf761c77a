// Package params holds the parameters of sessions: the settings that a client
// has and that each server it is given must have too.
//
// There are two kinds. [Values] are those of the tracked parameters, whose
// changes a server reports (ParameterStatus), so that it is always known what a
// session has. [Extras] are the others that a client asked for in its
// StartupMessage, of which a server reports nothing. Both are eight bytes and
// immutable, and == compares what they hold: one comparison answers the usual
// question, whether client and server agree. Where they do not, [AppendSets] and
// [AppendExtras] write the SQL that makes them.
//
// All of it is safe for use by any goroutine. Nothing blocks, but making a
// Values or Extras of other contents looks into a table of the whole process:
// that is for logins and changes of parameters, not for each message.
package params
