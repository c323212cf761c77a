package admin

import "time"

var poolColumns = columns("database t, user t, cl_active i, cl_waiting i, cl_active_cancel_req i, " +
	"cl_waiting_cancel_req i, sv_active i, sv_active_cancel i, sv_being_canceled i, sv_idle i, sv_used i, " +
	"sv_tested i, sv_login i, maxwait i, maxwait_us i, pool_mode t, load_balance_hosts t")

func showPools(s *session) (rows []row) {
	for _, p := range s.console.listedPools() {
		seconds, micros := secondsAndMicros(p.MaxWait)
		rows = append(rows, row{
			text(p.Database), text(p.User),
			number(p.ClActive), number(p.ClWaiting), number(p.ClActiveCancelReq), number(p.ClWaitingCancelReq),
			number(p.SvActive), number(p.SvActiveCancel), number(p.SvBeingCanceled), number(p.SvIdle),
			number(p.SvUsed), number(p.SvTested), number(p.SvLogin),
			seconds, micros, text(p.PoolMode), textOrNull(p.LoadBalanceHosts),
		})
	}
	return rows
}

// secondsAndMicros returns whole seconds and the microseconds left over, as PgBouncer
// shows waits.
func secondsAndMicros(d time.Duration) (seconds, micros value) {
	return number(int64(d / time.Second)), number(int64(d % time.Second / time.Microsecond))
}
