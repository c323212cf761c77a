package loop

import (
	"os"
	"syscall"
	"unsafe"
)

// chunkSize is the memory of one chunk, its header included.
const chunkSize = 16 << 10

// maxFree bounds the chunks that a loop keeps for later: 4 MiB.
const maxFree = 256

// maxVec is the number of chunks handed to one writev(2): maxIO bytes.
const maxVec = maxIO / chunkSize

// chunk is a piece of a queue: the bytes buf[r:w] are unsent.
type chunk struct {
	next *chunk // in a queue the last one's next is the first one
	r, w int32
	buf  [chunkSize - unsafe.Sizeof(uintptr(0)) - 8]byte
}

// freeList keeps empty chunks. The zero freeList is empty.
type freeList struct {
	first *chunk
	n     int
}

// get returns an empty chunk.
func (f *freeList) get() *chunk {
	k := f.first
	if k == nil {
		return new(chunk)
	}
	f.first, k.next = k.next, nil
	f.n--
	k.r, k.w = 0, 0
	return k
}

// put takes a chunk back.
func (f *freeList) put(k *chunk) {
	if f.n >= maxFree {
		return
	}
	k.next, f.first = f.first, k
	f.n++
}

// queue holds the unsent bytes of one socket: a ring of chunks, all but the
// last full. The zero queue is empty and holds no chunk.
type queue struct {
	last *chunk // last.next is the first
	size int    // bytes
}

// append copies p to the end.
func (q *queue) append(p []byte, free *freeList) {
	q.size += len(p)
	for len(p) > 0 {
		k := q.last
		if k == nil || int(k.w) == len(k.buf) {
			k = free.get()
			if q.last == nil {
				k.next = k
			} else {
				k.next, q.last.next = q.last.next, k
			}
			q.last = k
		}
		n := copy(k.buf[k.w:], p)
		k.w += int32(n)
		p = p[n:]
	}
}

// discard takes n bytes off the front.
func (q *queue) discard(n int, free *freeList) {
	q.size -= n
	for q.last != nil {
		k := q.last.next
		have := int(k.w - k.r)
		if n < have {
			k.r += int32(n)
			return
		}
		n -= have
		if k == q.last {
			q.last = nil
		} else {
			q.last.next = k.next
		}
		free.put(k)
	}
}

// drop empties the queue.
func (q *queue) drop(free *freeList) { q.discard(q.size, free) }

// send gives the kernel what it takes of the first chunks, in one system call.
// full means that it takes no more for now.
func (q *queue) send(fd int, free *freeList) (n int, full bool, err error) {
	var vec [maxVec][]byte
	count, offered := 0, 0
	for k := q.last.next; count < maxVec; k = k.next {
		vec[count] = k.buf[k.r:k.w]
		offered += len(vec[count])
		count++
		if k == q.last {
			break
		}
	}
	n, errno := rawWritev(fd, vec[:count])
	switch errno {
	case 0:
		q.discard(n, free)
		return n, n < offered, nil
	case syscall.EINTR:
		return 0, false, nil
	case syscall.EAGAIN:
		return 0, true, nil
	}
	return 0, true, os.NewSyscallError("write", errno)
}
