package pool

import (
	"fmt"
	"time"

	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool/dial"
	"github.com/pgweir/pgweir/wire"
)

// refusal is what a budget knows since Postgres refused a login because it was
// full (SQLSTATE 53300): others have connections too. Nobody is refused for it:
// the budget shrinks to what Postgres had let in, clients wait, and after a
// back-off one login at a time finds out whether there is room again.
type refusal struct {
	most  int       // so many servers were in
	at    wire.Time // of the last refusal
	until wire.Time // no login beyond most before
	count int       // in a row
}

// memory is how long a refusal counts after the last one, where no limit tells
// when all is well again.
const memory = time.Minute

// lets reports whether one server more than r.most may be tried now.
func (r *refusal) lets(b *budget, now wire.Time) bool {
	return r != nil && r.most < b.limit && now >= r.until
}

// over is what remains of r after a login to b has come to its end.
func (r *refusal) over(b *budget, now wire.Time, ok bool) *refusal {
	if r == nil {
		return nil
	}
	if !ok {
		return r
	}
	if in := b.open - b.logins; in > r.most {
		r.most, r.count = in, 0
	}
	if r.most >= b.limit || b.limit == noLimit && now.Sub(r.at) > memory {
		return nil
	}
	return r
}

// refuse notes that Postgres refused a server, which is counted out already,
// because b was full. It reports whether that is news.
func (b *budget) refuse(now wire.Time, backoff func(n int) time.Duration) bool {
	b.refused++
	r, news := b.refusal, b.refusal == nil
	if r == nil {
		r = &refusal{}
		b.refusal = r
	}
	r.at, r.most = now, b.open-b.logins
	if now >= r.until {
		r.count++
		r.until = now.Add(backoff(r.count))
	}
	b.update()
	return news
}

// full reports whether err is Postgres' word that it has too many connections,
// and of what.
func full(err *dial.LoginError) (scope configs.PlanScope, ok bool) {
	if err == nil || !err.Full() {
		return 0, false
	}
	switch err.Server.Routine { // the text may be in any language
	case "InitializeSessionUserId":
		return configs.ScopeRole, true
	case "CheckMyDatabase":
		return configs.ScopeDatabase, true
	}
	return configs.ScopeServer, true
}

// refused notes that the login of a server with that seat was refused because
// Postgres was full, as far as scope says.
func (s *Shard) refused(t *seat, scope configs.PlanScope, err *dial.LoginError) {
	p, q := s.w.p, s.pool
	p.mu.Lock()
	b := t.all().postgres(scope)
	news := b.refuse(s.w.now(), s.backoff)
	in := b.refusal.most
	q.liveFor = 0 // limits may have changed
	p.mu.Unlock()
	if news {
		p.log.Log(Warning, "S: "+q.name(), fmt.Sprintf("%v has no more room than for our %d connections (%s): clients wait", b.key, in, err.Server.Message))
	}
}

// postgres is the budget of l for what Postgres itself limits in that scope.
func (l budgets) postgres(scope configs.PlanScope) *budget {
	for _, b := range l {
		if b.plan == nil && b.key.scope == scope {
			return b
		}
	}
	panic("BUG: no budget for scope " + scope.String())
}
