package loop

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pgweir/pgweir/wire"
)

// half passes what comes in to the other half, as the rules pass it between a
// client and its server.
type half struct{ in, out wire.Conn }

func (h *half) Data(p []byte) {
	h.out.Write(p)
	if h.out.Queued() > 64<<10 {
		h.in.Pause()
	}
}

func (h *half) Drained() { h.out.Resume() }

func (h *half) Closed(error) { h.out.Close() }

// relay puts two sockets on l and passes bytes between them.
func relay(tb testing.TB, l *Loop, a, b wire.Socket) {
	tb.Helper()
	on(tb, l, func() {
		up, down := new(half), new(half)
		ca, err := l.Attach(a, up)
		if err != nil {
			tb.Error(err)
			return
		}
		cb, err := l.Attach(b, down)
		if err != nil {
			tb.Error(err)
			return
		}
		*up, *down = half{in: ca, out: cb}, half{in: cb, out: ca}
	})
}

// cpuTime is the CPU time of this process.
func cpuTime() time.Duration {
	var ru syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &ru)
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// BenchmarkRelay sends requests of 50 bytes through a loop to a server, which
// answers with 80, or with a result of some size, over TCP on loopback. The
// clients and servers run in this process and count in cpu-ns/op: compare, do
// not quote.
func BenchmarkRelay(b *testing.B) {
	for _, test := range []struct{ pairs, reply int }{
		{1, 80}, {20, 80}, {400, 80}, {4, 33_000}, {4, 5_000_000},
	} {
		b.Run(fmt.Sprintf("pairs=%d/reply=%d", test.pairs, test.reply), func(b *testing.B) {
			benchmarkRelay(b, test.pairs, test.reply)
		})
	}
}

func benchmarkRelay(b *testing.B, pairs, reply int) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(max(2, runtime.NumCPU())))
	l := start(b, Options{})
	var clients, servers sync.WaitGroup
	requests := make(chan struct{}, b.N)
	for range b.N {
		requests <- struct{}{}
	}
	close(requests)
	run := make(chan struct{})
	for range pairs {
		near, client := socket(b)
		far, server := socket(b)
		relay(b, l, near, far)
		got, sent := make([]byte, reply), make([]byte, reply)
		clients.Go(func() {
			defer client.Close()
			<-run
			ask(b, client, got, requests)
		})
		servers.Go(func() {
			defer server.Close()
			answer(server, sent)
		})
	}
	b.ReportAllocs()
	b.ResetTimer()
	cpu := cpuTime()
	close(run)
	clients.Wait()
	b.StopTimer()
	b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N), "cpu-ns/op")
	servers.Wait()
}

// ask sends requests and reads the replies.
func ask(tb testing.TB, c net.Conn, reply []byte, requests <-chan struct{}) {
	var request [50]byte
	for range requests {
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			tb.Error(err)
		}
		if _, err := c.Write(request[:]); err != nil {
			tb.Error(err)
			return
		}
		if _, err := io.ReadFull(c, reply); err != nil {
			tb.Error(err)
			return
		}
	}
}

// answer sends reply for every request until the peer closes.
func answer(c net.Conn, reply []byte) {
	var request [50]byte
	for {
		if _, err := io.ReadFull(c, request[:]); err != nil {
			return
		}
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			return
		}
		if _, err := c.Write(reply); err != nil {
			return
		}
	}
}
