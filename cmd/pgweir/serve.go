package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/pgweir/pgweir/admin"
	"github.com/pgweir/pgweir/admin/logs"
	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/pool/dial"
	"github.com/pgweir/pgweir/wire"
	"github.com/pgweir/pgweir/wire/loop"
)

var _ = admin.New

func serve(snap *configs.Snapshot) error {
	n := snap.Main.EventLoops(runtime.GOMAXPROCS(0))
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), n+1))
	log := logs.New(logs.Options{Stderr: os.Stderr})
	defer log.Close()
	var loops []wire.Loop
	var real []*loop.Loop
	var p *pool.Pooler
	for i := range n {
		l, err := loop.New(loop.Options{
			Name: fmt.Sprintf("loop %d", i), Tick: pool.TickEvery, OnTick: func() { p.Worker(i).Tick() },
			OnPanic: func(_ wire.Handler, v any, stack []byte) {
				log.Log(pool.Error, "", fmt.Sprintf("BUG: %v\n%s", v, stack))
			},
			OnError: func(err error) { log.Log(pool.Error, "", err.Error()) },
		})
		if err != nil {
			return err
		}
		loops, real = append(loops, l), append(real, l)
	}
	stop := make(chan struct{})
	p = pool.New(pool.Options{
		Snapshot: snap, Loops: loops,
		Dialer: &dial.Chores{Detach: loop.Detach, Context: context.Background()},
		Chore:  func(fn func()) { go fn() },
		Random: rand.Reader, Seed: uint64(time.Now().UnixNano()), Wall: loop.Epoch(),
		Now: func() wire.Time { return wire.Time(time.Since(loop.Epoch())) }, UID: os.Getuid(), Log: log,
		Stop: func() { close(stop) }, CloseListeners: func() {},
	})
	var wg sync.WaitGroup
	ln, err := net.Listen("tcp", fmt.Sprintf("%s:%d", snap.Main.ListenAddr[0], snap.Main.ListenPort))
	if err != nil {
		return err
	}
	f, err := ln.(*net.TCPListener).File()
	if err != nil {
		return err
	}
	for i, l := range real {
		if _, err := l.Listen(int(f.Fd()), p.Worker(i).Accept); err != nil {
			return err
		}
		syscall.SetNonblock(int(f.Fd()), true)
		wg.Go(l.Run)
	}
	log.Log(pool.Info, "", "process up: pgweir")
	sig := make(chan os.Signal, 1)
	signal.Notify(sig, os.Interrupt, syscall.SIGTERM)
	select {
	case <-stop:
	case <-sig:
	}
	for _, l := range real {
		l.Stop()
	}
	wg.Wait()
	return nil
}

func main() {
	snap, err := configs.Load(os.Args[1])
	if err == nil {
		err = serve(snap)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
