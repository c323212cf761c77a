package main

import (
	"strings"
	"testing"
	"time"
)

func TestMedians(t *testing.T) {
	of := func(tps float64, p99 time.Duration, user float64) figures {
		return figures{tps: tps, p99: p99, user: user, system: 1}
	}
	odd := medians([]figures{of(3, 30, 9), of(1, 10, 7), of(2, 500, 8)})
	if odd.tps != 2 || odd.p99 != 30 || odd.cpu() != 9 {
		t.Errorf("of three: %+v", odd)
	}
	even := medians([]figures{of(1, 10, 1), of(2, 20, 2)})
	if even.tps != 1.5 || even.p99 != 15 || even.cpu() != 2.5 {
		t.Errorf("of two: %+v", even)
	}
}

// TestVerdicts has a machine that grows slower from round to round: the ratios
// within the rounds tell what the medians over them do not.
func TestVerdicts(t *testing.T) {
	round := func(cpu float64) figures { return figures{user: cpu} }
	one := result{
		work:  work{name: "select", goal: 0.90},
		names: []string{pgweir, pgbouncer},
		rounds: map[string][]figures{
			pgweir:    {round(8), round(40), round(90)},
			pgbouncer: {round(10), round(50), round(60)},
		},
	}
	if got := one.ratio(pgweir, pgbouncer); got != 0.8 {
		t.Errorf("ratio = %v, want 0.8", got)
	}
	text := report{results: results{loads: []result{one}}}.markdown()
	if want := "| select | 0.80 | ≤ 0.90 | met |"; !strings.Contains(text, want) {
		t.Errorf("no %q in\n%s", want, text)
	}
	one.work.goal = 0.79
	text = report{results: results{loads: []result{one}}}.markdown()
	if want := "| select | 0.80 | ≤ 0.79 | **not met** |"; !strings.Contains(text, want) {
		t.Errorf("no %q in\n%s", want, text)
	}
}
