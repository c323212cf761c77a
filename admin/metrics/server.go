package metrics

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Options are what a Server needs.
type Options struct {
	// Pools are whose metrics are told.
	Pools Pooler

	// Version and Compatible are the labels of pgweir_build_info.
	Version, Compatible string

	// Ready is nil if new clients are let in, and otherwise says why not. It is
	// called from any goroutine and must not block.
	Ready func() error
}

// Server answers on an address of its own.
type Server struct {
	http  http.Server
	ready func() error
	pools Pooler

	mu       sync.Mutex
	checking chan struct{} // closed when the loops have answered; nil if nobody asks
}

// Bounds of what a client may take: who sends or reads slowly, or asks again
// and again, holds nothing for long.
const (
	requestTime = 10 * time.Second // for a whole request and its answer
	idleTime    = time.Minute
	headerBytes = 16 << 10
	scrapes     = 4           // at once
	healthTime  = time.Second // for the loops to answer
)

// New returns a Server that nobody can reach yet.
func New(o Options) *Server {
	s := &Server{ready: o.Ready, pools: o.Pools}
	registry := prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "pgweir_build_info", Help: "1; the labels tell the versions.",
		ConstLabels: prometheus.Labels{"version": o.Version, "pgbouncer": o.Compatible, "go": runtime.Version()},
	})
	build.Set(1)
	registry.MustRegister(
		build, newCollector(o.Pools, o.Ready), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: scrapes, ErrorHandling: promhttp.ContinueOnError,
	}))
	mux.HandleFunc("GET /healthz", s.health)
	mux.HandleFunc("GET /readyz", s.readiness)
	s.http = http.Server{
		Handler:           mux,
		ReadHeaderTimeout: requestTime,
		ReadTimeout:       requestTime,
		WriteTimeout:      requestTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    headerBytes,
	}
	return s
}

// Serve answers on ln until Close.
func (s *Server) Serve(ln net.Listener) error {
	if err := s.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Close ends Serve and every connection.
func (s *Server) Close() error { return s.http.Close() }

// askLoops returns a channel that is closed when all event loops have answered.
// Who asks while others do waits for the same answer, so that a loop that hangs
// holds one goroutine only.
func (s *Server) askLoops() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.checking == nil {
		answered := make(chan struct{})
		s.checking = answered
		go func() {
			s.pools.Loops()
			s.mu.Lock()
			s.checking = nil
			s.mu.Unlock()
			close(answered)
		}()
	}
	return s.checking
}

// health says whether all event loops answer.
func (s *Server) health(w http.ResponseWriter, r *http.Request) {
	answered := s.askLoops()
	ctx, cancel := context.WithTimeout(r.Context(), healthTime)
	defer cancel()
	select {
	case <-answered:
		answer(w, nil)
	case <-ctx.Done():
		answer(w, fmt.Errorf("an event loop does not answer within %v", healthTime))
	}
}

// readiness says whether new clients are let in.
func (s *Server) readiness(w http.ResponseWriter, _ *http.Request) { answer(w, s.ready()) }

func answer(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, err)
		return
	}
	fmt.Fprintln(w, "ok")
}
