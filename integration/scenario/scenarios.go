package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// crowd is how many visitors there are.
const crowd = 400

// scenario is an app that is visited with each of the fronts in turn.
type scenario struct {
	name    string
	workers string // gunicorn's
	path    string // what the visitors ask for
	env     []string
	quick   []front
}

var scenarios = []scenario{
	{"gevent workers", "gevent 2", "/page", configVars, []front{direct, pgweir}},
	{"sync workers", "sync 32", "/page", configVars, nil},
	{"session SETs", "gevent 2", "/session", append([]string{sessionVar}, configVars...), []front{pgweir}},
	{"startup options", "gevent 2", "/options", configVars, []front{pgweir}},
}

// dynosName is the scenario in which dynos come and go.
const dynosName = "dynos"

// row is a line of the table.
type row struct {
	scenario string
	front    string
	rounds   []*visits
	peak     int     // the most connections that the role had at once
	ratio    float64 // of requests served to PgBouncer's; 0: there is none
	faults   []string

	must bool // no request may fail
	ends bool // the app may cut connections: it is told to end
}

// play plays all scenarios.
func (s *stage) play(ctx context.Context) (rows []*row, err error) {
	for _, sc := range scenarios {
		if !s.only.MatchString(sc.name) {
			continue
		}
		more, err := s.alternate(ctx, sc)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", sc.name, err)
		}
		rows = append(rows, more...)
	}
	if s.only.MatchString(dynosName) {
		more, err := s.dynos(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", dynosName, err)
		}
		rows = append(rows, more...)
	}
	return rows, nil
}

// alternate plays a scenario with the fronts in turn, again and again.
func (s *stage) alternate(ctx context.Context, sc scenario) (rows []*row, err error) {
	fronts := []front{direct, pgbouncer, pgweir}
	if s.quick {
		fronts = sc.quick
	}
	of := map[front]*row{}
	for _, f := range fronts {
		of[f] = &row{scenario: sc.name, front: f.String(), must: f == pgweir}
		rows = append(rows, of[f])
	}
	for range s.options.rounds {
		for _, f := range fronts {
			if err := s.measure(ctx, sc, f, of[f]); err != nil {
				return nil, err
			}
		}
	}
	served := func(_ int, v *visits) float64 { return v.perSecond() }
	if base := of[pgbouncer]; base != nil && median(base.rounds, served) > 0 {
		for _, r := range rows {
			r.ratio = median(r.rounds, func(i int, v *visits) float64 { return v.perSecond() / base.rounds[i].perSecond() })
		}
	}
	return rows, nil
}

// measure lets the visitors come for a while, and adds to r what became of them.
func (s *stage) measure(ctx context.Context, sc scenario, f front, r *row) (err error) {
	if err := s.vacant(ctx); err != nil {
		return err
	}
	d, err := s.start(ctx, f, sc.workers, sc.env...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop(context.WithoutCancel(ctx))) }()
	before, err := s.entries(ctx)
	if err != nil {
		return err
	}
	peak := s.count(ctx)
	v := send(crowd, d.address, sc.path)
	wait(ctx, s.length)
	got := v.end()
	most, err := peak()
	if err != nil {
		return err
	}
	after, err := s.entries(ctx)
	if err != nil {
		return err
	}
	r.rounds = append(r.rounds, got)
	r.peak = max(r.peak, most)
	r.judge(got, after-before)
	fmt.Printf("%-16s %-12s %6d requests, %5d failed, %6.1f/s, p50 %s ms, p99 %s ms, %d connections%s\n",
		sc.name, f, got.requests(), got.failed+got.cut, got.perSecond(), ms(got.times.Quantile(0.5)), ms(got.times.Quantile(0.99)), most, because(got))
	return ctx.Err()
}

// judge notes what must not be: a request that has failed where none may, a
// transaction too many or too few.
func (r *row) judge(got *visits, written int) {
	if r.must && (got.failed > 0 || got.cut > 0 && !r.ends) {
		r.faults = append(r.faults, fmt.Sprintf("%s, %s: %d requests failed%s", r.scenario, r.front, got.failed+got.cut, because(got)))
	}
	if got.served == 0 && r.must {
		r.faults = append(r.faults, fmt.Sprintf("%s, %s: no request was served", r.scenario, r.front))
	}
	if got.failed+got.cut == 0 && written != got.served {
		r.faults = append(r.faults, fmt.Sprintf("%s, %s: %d requests were served, and %d transactions committed", r.scenario, r.front, got.served, written))
	}
}

func because(got *visits) string {
	if got.failed+got.cut == 0 {
		return ""
	}
	return ": " + got.reason()
}

// wait waits for d, or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// median is the middle one of what f says of each round.
func median(rounds []*visits, f func(i int, v *visits) float64) float64 {
	var all []float64
	for i, v := range rounds {
		all = append(all, f(i, v))
	}
	slices.SortFunc(all, cmp.Compare)
	return all[len(all)/2]
}

// fleet is how many dynos there are at most; they share the connections.
const fleet = 3

// fleetVars are what docs/heroku.md recommends for a fleet.
var fleetVars = []string{"PGWEIR_PLAN=heroku:essential-0", fmt.Sprintf("PGWEIR_PLAN_PROCESSES=%d", fleet)}

// dynos has others come and go while one dyno stays, all under load.
func (s *stage) dynos(ctx context.Context) (rows []*row, err error) {
	if err := s.vacant(ctx); err != nil {
		return nil, err
	}
	before, err := s.entries(ctx)
	if err != nil {
		return nil, err
	}
	peak := s.count(ctx)
	stays := &row{scenario: dynosName + ", one that stays", front: pgweir.String(), must: true}
	others := &row{scenario: dynosName + ", two that start and stop", front: pgweir.String(), must: true, ends: true}

	first, err := s.start(ctx, pgweir, "gevent 1", fleetVars...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, first.stop(context.WithoutCancel(ctx))) }()
	v := send(crowd/fleet, first.address, "/page")
	gone := &visits{}
	for range s.options.rounds {
		if err := s.passing(ctx, gone); err != nil {
			v.end()
			return nil, err
		}
	}
	got := v.end()
	most, err := peak()
	if err != nil {
		return nil, err
	}
	after, err := s.entries(ctx)
	if err != nil {
		return nil, err
	}
	stays.rounds, others.rounds = []*visits{got}, []*visits{gone}
	stays.peak, others.peak = most, most
	stays.judge(got, got.served)
	others.judge(gone, gone.served)
	// What was cut may have been committed, and nothing else.
	if served, written := got.served+gone.served, after-before; written < served || written > served+gone.cut {
		stays.faults = append(stays.faults, fmt.Sprintf("%s: %d requests were served, %d cut, and %d transactions committed", dynosName, served, gone.cut, written))
	}
	for _, r := range []*row{stays, others} {
		v := r.rounds[0]
		fmt.Printf("%s: %d requests, %d failed, %d cut, %.1f/s, %d connections%s\n", r.scenario, v.requests(), v.failed, v.cut, v.perSecond(), most, because(v))
	}
	return []*row{stays, others}, nil
}

// passing starts two dynos one after the other, and stops them, with their
// visitors asking to the end.
func (s *stage) passing(ctx context.Context, gone *visits) (err error) {
	type guest struct {
		*dyno
		*visitors
	}
	var guests []guest
	defer func() {
		for _, g := range guests { // those that an error has left
			g.leave()
			err = errors.Join(err, g.dyno.stop(context.WithoutCancel(ctx)))
			g.end()
		}
	}()
	for range fleet - 1 {
		d, err := s.start(ctx, pgweir, "gevent 1", fleetVars...)
		if err != nil {
			return err
		}
		guests = append(guests, guest{d, send(crowd/fleet, d.address, "/page")})
		wait(ctx, s.length/4)
	}
	for len(guests) > 0 {
		g := guests[0]
		wait(ctx, s.length/4)
		g.leave()
		if err := g.dyno.stop(ctx); err != nil {
			return err
		}
		guests = guests[1:]
		gone.add(g.end())
	}
	return ctx.Err()
}
