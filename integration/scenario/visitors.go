package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgweir/pgweir/integration/load"
)

// visitors are those who ask an app for pages, each over a connection that is
// kept, one request after the other.
type visitors struct {
	address string
	path    string

	stop    func()
	all     sync.WaitGroup
	leaving atomic.Bool // whoever is cut off does not come again

	mu     sync.Mutex
	result visits
}

// visits is what became of requests.
type visits struct {
	served  int            // status 200
	failed  int            // another status
	cut     int            // no status: the app has closed the connection, or does not listen
	reasons map[string]int // why requests failed
	times   load.Histogram // of those that were served
	length  time.Duration
}

// answerTime bounds how long a visitor waits.
const answerTime = 2 * time.Minute

// send has n visitors come. They go when end is called, each with the answer to
// its last request.
func send(n int, address, path string) *visitors {
	ctx, cancel := context.WithCancel(context.Background())
	v := &visitors{address: address, path: path, result: visits{reasons: map[string]int{}}}
	began := time.Now()
	for range n {
		v.all.Go(func() { v.visit(ctx) })
	}
	v.stop = func() {
		cancel()
		v.all.Wait()
		v.result.length = time.Since(began)
	}
	return v
}

// end ends it all and returns what became of the requests.
func (v *visitors) end() *visits {
	v.stop()
	return &v.result
}

// leave has visitors who are cut off stay away: the app is about to end.
func (v *visitors) leave() { v.leaving.Store(true) }

// visit asks again and again until ctx ends.
func (v *visitors) visit(ctx context.Context) {
	question := request(v.path)
	var conn net.Conn
	var reader *bufio.Reader
	hangUp := func() {
		if conn != nil {
			conn.Close()
			conn = nil
		}
	}
	defer hangUp()
	for ctx.Err() == nil {
		began := time.Now()
		if conn == nil {
			var err error
			if conn, err = net.DialTimeout("tcp", v.address, answerTime); err != nil {
				conn = nil
				if v.leaving.Load() {
					return // there is nobody to be asked
				}
				v.note(0, err.Error(), 0)
				pause(ctx)
				continue
			}
			reader = bufio.NewReader(conn)
		}
		status, text, close, err := ask(conn, reader, question)
		if err != nil {
			v.note(0, err.Error(), 0)
			if v.leaving.Load() {
				return
			}
			hangUp()
			pause(ctx)
			continue
		}
		v.note(status, text, time.Since(began))
		if close {
			hangUp()
		}
	}
}

// request is the text of a request for a page.
func request(path string) []byte {
	return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: app\r\n\r\n", path)
}

// ask sends the request and reads the answer, of which it returns the body
// unless the request was served.
func ask(conn net.Conn, reader *bufio.Reader, request []byte) (status int, text string, close bool, err error) {
	if err := conn.SetDeadline(time.Now().Add(answerTime)); err != nil {
		return 0, "", false, err
	}
	if _, err := conn.Write(request); err != nil {
		return 0, "", false, err
	}
	answer, err := http.ReadResponse(reader, nil)
	if err != nil {
		return 0, "", false, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, "", false, err
	}
	return answer.StatusCode, string(body), answer.Close, nil
}

// pause is how long a visitor waits who was not let in.
func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(50 * time.Millisecond):
	}
}

// note counts an answer, or with status 0 that there was none.
func (v *visitors) note(status int, text string, took time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	r := &v.result
	switch status {
	case http.StatusOK:
		r.served++
		r.times.Record(took)
		return
	case 0:
		r.cut++
	default:
		r.failed++
	}
	// What is different each time, as ports and values are, stands behind the
	// first words.
	line, _, _ := strings.Cut(text, "\n")
	if at := strings.Index(line, "FATAL:"); at >= 0 {
		line = line[at:]
	}
	if len(line) > 120 {
		line = line[:120]
	}
	if _, known := r.reasons[line]; known || len(r.reasons) < 20 {
		r.reasons[line]++
	}
}

// reason is the most frequent reason why requests failed.
func (r *visits) reason() (text string) {
	most := 0
	for line, n := range r.reasons {
		if n > most {
			text, most = line, n
		}
	}
	return text
}

// add adds what other has.
func (r *visits) add(other *visits) {
	r.served += other.served
	r.failed += other.failed
	r.cut += other.cut
	r.times.Add(&other.times)
	r.length += other.length
	if r.reasons == nil {
		r.reasons = map[string]int{}
	}
	for line, n := range other.reasons {
		r.reasons[line] += n
	}
}

func (r *visits) requests() int { return r.served + r.failed + r.cut }

// perSecond is how many requests were served in a second.
func (r *visits) perSecond() float64 { return float64(r.served) / r.length.Seconds() }
