package main

import (
	"context"
	"strings"
	"time"

	"github.com/pgweir/pgweir/admin"
	"github.com/pgweir/pgweir/pool"
)

// logStats ends each stats period and logs what happened in it, until ctx ends.
func (p *process) logStats(ctx context.Context) {
	period := func() time.Duration {
		return time.Duration(p.Snapshot().Main.StatsPeriod) * time.Second
	}
	began, timer := time.Now(), time.NewTimer(period())
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.periods: // longer or shorter now, perhaps over
			timer.Reset(time.Until(began.Add(period())))
			continue
		case <-timer.C:
		}
		began = time.Now()
		timer.Reset(period())
		p.EndPeriod()
		line := admin.StatsLine(p.Stats())
		if p.Snapshot().Main.LogStats {
			p.log.Log(pool.Info, "", line)
		}
		p.notify.status(strings.TrimSpace(line))
	}
}
