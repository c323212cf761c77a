package main

// Task is one thing that applications do. All clients of a driver do the same
// task at the same time, each on its own connection, which it keeps from the
// first task to the last. A client's tag is the driver's name and its number.
type task string

const (
	// Query asks for rows that carry the tag, once with each number from 1 to
	// 20, the driver's usual way.
	taskQuery task = "query"

	// Prepared runs named prepared statements, 20 times each: one whose text
	// all clients share, one of the same text with parameters of another type
	// where the driver can say so, and one whose text holds the tag.
	taskPrepared task = "prepared"

	// Transaction inserts rows of its own, sees them and only them, stays on
	// one server, rolls back and sees none, does it again and commits.
	taskTransaction task = "transaction"

	// Batch sends ten statements before it reads the first reply.
	taskBatch task = "batch"

	// BatchError has a failing statement in the middle of a batch. What came
	// before is answered, the error is reported, and the session goes on.
	taskBatchError task = "batch-error"

	// Error has a syntax error, a duplicate key within a transaction, and a
	// prepared statement that fails with one argument and not with the next.
	taskError task = "error"

	// Copy copies 500 rows in, reads them back by COPY, and has one COPY fail.
	taskCopy task = "copy"

	// Cancel ends a long query by a cancel request; the session goes on.
	taskCancel task = "cancel"

	// Large sends and fetches values of a megabyte, and stores one.
	taskLarge task = "large"

	// Settings has application_name as given at the connect, then as set, and
	// is never shown another client's.
	taskSettings task = "settings"

	// Released is judged by the bench, not by the driver: after the driver has
	// left, the pooler has no client and no busy server, and nothing in its log
	// that tells of a bug. That there are never more servers than allowed is
	// Postgres' own to see: the database has a limit of connections.
	taskReleased task = "released"
)

// tasks are the columns of the table.
var tasks = []task{
	taskQuery, taskPrepared, taskTransaction, taskBatch, taskBatchError, taskError,
	taskCopy, taskCancel, taskLarge, taskSettings, taskReleased,
}

// schema is what the tasks find in the database.
const schema = `
create table tagged (tag text, n int, body text, primary key (tag, n));
`

// verdict is what became of a task.
type verdict uint8

const (
	// missing means that nothing was reported, which counts as a failure.
	missing verdict = iota
	passed
	failed
	// absent means that the driver has nothing of the kind. The reason says so.
	absent
)

func (v verdict) String() string {
	return [...]string{missing: "MISSING", passed: "pass", failed: "FAIL", absent: "-"}[v]
}

// outcome is a verdict and why.
type outcome struct {
	verdict verdict
	reason  string
}

// row is a driver's line of the table.
type row map[task]outcome
