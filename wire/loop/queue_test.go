package loop

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"
)

// contents is what a queue holds, front to back.
func (q *queue) contents() (p []byte) {
	if q.last == nil {
		return nil
	}
	for k := q.last.next; ; k = k.next {
		p = append(p, k.buf[k.r:k.w]...)
		if k == q.last {
			return p
		}
	}
}

// FuzzQueue appends and takes off, and compares with a plain slice. Each two
// bytes of script are one step and its size.
func FuzzQueue(f *testing.F) {
	f.Add([]byte{0, 1, 1, 1})
	f.Add([]byte{0, 255, 0, 255, 1, 255, 0, 3, 2, 0, 0, 9})
	f.Add([]byte{0, 64, 1, 64, 0, 64, 1, 63, 1, 1, 0, 200, 1, 100, 1, 100})
	source := noise(7, 256*127)
	f.Fuzz(func(t *testing.T, script []byte) {
		var q queue
		var free freeList
		var model []byte
		for script = script[:min(len(script), 200)]; len(script) >= 2; script = script[2:] {
			n := int(script[1]) * 127
			switch script[0] % 3 {
			case 0:
				q.append(source[:n], &free)
				model = append(model, source[:n]...)
			case 1:
				n = min(n, len(model))
				q.discard(n, &free)
				model = model[n:]
			case 2:
				q.drop(&free)
				model = nil
			}
			if q.size != len(model) {
				t.Fatalf("the queue holds %d bytes, want %d", q.size, len(model))
			}
			if (q.last == nil) != (q.size == 0) {
				t.Fatalf("%d bytes, last chunk %p", q.size, q.last)
			}
		}
		if !bytes.Equal(q.contents(), model) {
			t.Fatal("wrong bytes")
		}
		q.drop(&free)
		kept := 0
		for k := free.first; k != nil; k = k.next {
			kept++
		}
		if kept != free.n || kept > maxFree {
			t.Fatalf("%d chunks kept, counted %d", kept, free.n)
		}
	})
}

func TestQueueSend(t *testing.T) {
	var fds [2]int
	if err := unix.Pipe(fds[:]); err != nil {
		t.Fatal(err)
	}
	defer rawClose(fds[0])
	defer rawClose(fds[1])
	if err := unix.SetNonblock(fds[1], true); err != nil {
		t.Fatal(err)
	}
	var q queue
	var free freeList
	want := noise(8, 1<<20)
	q.append(want, &free)
	var got []byte
	buf := make([]byte, 100_000)
	for q.size > 0 {
		sent := 0
		for q.size > 0 {
			n, full, err := q.send(fds[1], &free)
			if err != nil {
				t.Fatal(err)
			}
			sent += n
			if full {
				break
			}
		}
		if sent == 0 {
			t.Fatal("an empty pipe takes nothing")
		}
		for sent > 0 {
			n, err := unix.Read(fds[0], buf)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, buf[:n]...)
			sent -= n
		}
	}
	if !bytes.Equal(got, want) {
		t.Error("wrong bytes")
	}
	rawClose(fds[0])
	fds[0] = -1
	q.append(want, &free)
	if _, _, err := q.send(fds[1], &free); err == nil {
		t.Error("no error from a pipe that nobody reads")
	}
}
