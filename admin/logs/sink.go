package logs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/pgweir/pgweir/pool"
)

const (
	// maxPending bounds the bytes that wait to be written to one output: some
	// 10,000 lines.
	maxPending = 1 << 20

	// keepBuffer is the largest buffer that is kept for the next batch.
	keepBuffer = 64 << 10

	// linger is how long a sink waits after a write before it looks for more,
	// so that a busy log costs one wake-up and one write for many lines.
	linger = 10 * time.Millisecond
)

// sink is one output: a buffer, and a goroutine that writes it out.
type sink struct {
	style style
	now   func() time.Time

	wake  chan struct{} // of capacity 1: there is something to do
	ended chan struct{} // closed by the goroutine when it is done

	mu      sync.Mutex // never held over a write
	pending []byte
	spare   []byte          // an empty buffer to become pending
	awake   bool            // the goroutine will look at pending by itself
	dropped int             // lines that pending had no room for
	waiters []chan struct{} // to be closed when pending is written
	next    io.Writer       // to be written to from now on, if not nil
	closed  bool

	// Of the goroutine alone:
	out  io.Writer
	lost int   // lines that were not written, or not whole
	why  error // the error that lost the last of them
}

func newSink(out io.Writer, st style, now func() time.Time) *sink {
	s := &sink{
		style: st, now: now, out: out,
		wake: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	go s.run()
	return s
}

// line appends a line, or counts it as dropped.
func (s *sink) line(level pool.Level, now time.Time, prefix, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	if len(s.pending)+len(prefix)+len(text) > maxPending {
		s.dropped++
		return
	}
	s.pending = s.style.append(s.pending, level, now, prefix, text)
	s.wakeUpLocked()
}

func (s *sink) wakeUpLocked() {
	if !s.awake {
		s.awake = true
		s.nudge()
	}
}

// nudge makes the goroutine look now.
func (s *sink) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// replace makes the lines to come go to out, and closes what the former ones
// went to.
func (s *sink) replace(out io.Writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next != nil {
		closeWriter(s.next) // replaced before its first line
	}
	s.next = out
	s.wakeUpLocked()
}

// flush waits until all lines appended before are written, at most for limit.
func (s *sink) flush(limit time.Duration) {
	written := make(chan struct{})
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.waiters = append(s.waiters, written)
	s.awake = true
	s.nudge()
	s.mu.Unlock()
	wait(written, limit)
}

// close flushes and ends the goroutine, which closes the output. It waits at
// most for limit.
func (s *sink) close(limit time.Duration) {
	s.mu.Lock()
	s.closed = true
	s.nudge()
	s.mu.Unlock()
	wait(s.ended, limit)
}

func wait(done <-chan struct{}, limit time.Duration) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}

// run writes batches until the sink is closed.
func (s *sink) run() {
	defer close(s.ended)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		<-s.wake
		for {
			more, closed := s.turn()
			if closed {
				closeWriter(s.out)
				return
			}
			if !more {
				break
			}
			timer.Reset(linger)
			select {
			case <-timer.C:
			case <-s.wake:
			}
		}
	}
}

// turn writes what is pending. more is false if there was nothing, and the
// goroutine may sleep; closed is true after the last turn.
func (s *sink) turn() (more, closed bool) {
	s.mu.Lock()
	batch, waiters, dropped, next := s.pending, s.waiters, s.dropped, s.next
	s.pending, s.waiters, s.dropped, s.next = s.spare, nil, 0, nil
	s.spare = nil
	closed = s.closed
	more = len(batch) > 0 || next != nil || len(waiters) > 0
	s.awake = more
	s.mu.Unlock()

	if dropped > 0 {
		s.lost, s.why = s.lost+dropped, errTooFast
	}
	if s.write(batch) {
		s.report()
	}
	if next != nil {
		closeWriter(s.out)
		s.out = next
	}
	for _, w := range waiters {
		close(w)
	}

	if cap(batch) <= keepBuffer {
		s.mu.Lock()
		s.spare = batch[:0]
		s.mu.Unlock()
	}
	return more, closed
}

var errTooFast = errors.New("they came faster than they could be written")

// write writes whole lines and reports whether the output took them. Those that
// it did not take are lost.
func (s *sink) write(lines []byte) bool {
	if len(lines) == 0 {
		return true
	}
	n, err := s.out.Write(lines)
	if err == nil {
		return true
	}
	s.lost, s.why = s.lost+bytes.Count(lines[n:], []byte("\n")), err
	if n > 0 && lines[n-1] != '\n' {
		_, _ = s.out.Write([]byte("\n")) // so that the next line starts on its own
	}
	return false
}

// report says how many lines are missing and why, until the output takes it.
func (s *sink) report() {
	if s.lost == 0 {
		return
	}
	text := fmt.Sprintf("%d log lines lost: %v", s.lost, s.why)
	if _, err := s.out.Write(s.style.append(nil, pool.Warning, s.now(), "", text)); err == nil {
		s.lost = 0
	}
}

func closeWriter(w io.Writer) {
	if c, ok := w.(io.Closer); ok {
		_ = c.Close() // nothing can be done, and nowhere to say it
	}
}
