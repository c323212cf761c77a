package pool

import (
	"time"

	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool/params"
	"github.com/pgweir/pgweir/wire"
)

// job is a query of pgweir's own that runs on a server.
type job uint8

const (
	jobNone    job = iota
	jobSets        // the client's parameters; the client waits
	jobReset       // server_reset_query
	jobForget      // DEALLOCATE ALL, because of strays
	jobCheck       // server_check_query
	jobConnect     // connect_query
	jobProbe       // which Syncs did a failed COPY swallow? see ledger.doubt
	jobRole        // is it what target_session_attrs asks for?
	jobLive        // how many connections does it allow?
)

// run sends a query of pgweir's own.
func (v *Server) run(j job, query string) {
	v.job, v.jobError, v.asked = j, "", v.shard.w.now()
	v.bareOf = 0 // a Query takes the unnamed statement away
	switch j {
	case jobSets, jobProbe:
	default:
		if j != jobRole {
			v.since = v.shard.w.now()
		}
		if v.state != ServerTested {
			v.move(ServerTested)
		}
		v.shard.publishIdle()
	}
	e := owedQuery | owedSwallow
	if j == jobProbe {
		e |= owedProbe
	}
	v.ledger.push(e)
	w := v.shard.w
	w.scratch = wire.AppendQuery(w.scratch[:0], query)
	v.conn.Write(w.scratch)
}

// check sends the check query, if there is one.
func (v *Server) check() {
	query := v.shard.w.p.Snapshot().Main.ServerCheckQuery
	if query == configs.NoCheckQuery {
		query = ";"
	}
	v.run(jobCheck, query)
}

// setVars tells v the parameters of c, as far as they are not its own. It
// reports whether c has to wait for that.
func (v *Server) setVars(c *Client) bool {
	if c.vars == v.vars && c.extras == v.extras && !v.strayed {
		return false
	}
	w := v.shard.w
	sets := params.AppendSets(w.scratch[:0], w.p.tracked, v.vars, c.vars)
	sets = params.AppendExtras(sets, v.extras, c.extras, v.strayed)
	v.had, v.extras, v.strayed = v.extras, c.extras, false
	w.scratch = sets
	if len(sets) == 0 {
		return false
	}
	v.before = v.vars
	v.run(jobSets, string(sets))
	return true
}

// jobDone ends the job of v, whose ReadyForQuery has come.
func (v *Server) jobDone() {
	j := v.job
	v.job = jobNone
	w, s := v.shard.w, v.shard
	switch j {
	case jobSets:
		c := v.client
		if v.jobError != "" || v.status != wire.TxIdle {
			v.refusedSets(c)
			return
		}
		c.vars = c.vars.Adopt(w.p.tracked, v.before, v.vars)
		if v.setVars(c) {
			return // the server's own configuration changed meanwhile
		}
		c.proceed()
		s.varsTold(v)
	case jobReset, jobForget, jobCheck:
		if v.jobError != "" || v.status != wire.TxIdle {
			reason := "test query failed"
			if j != jobCheck {
				reason = "reset query failed"
			}
			v.close(reason, true)
			s.provide()
			s.passOn()
			return
		}
		if j == jobForget {
			v.settle()
			return
		}
		if j == jobReset {
			v.afterReset()
			return
		}
		if v.attrs() != configs.SessionAny {
			v.askRole() // while it was unused nobody asked
			return
		}
		w.offer(v)
	case jobRole:
		v.roleTold()
	case jobLive:
		v.liveTold()
	case jobConnect:
		if v.jobError != "" {
			w.p.log.Log(Warning, v.prefix(), "exec_on_connect query failed: "+v.jobError)
		}
		if v.status != wire.TxIdle {
			v.close("exec_on_connect query failed", true)
			s.provide()
			return
		}
		w.offer(v)
	}
}

// refusedSets ends c, whose parameters v did not take. All of them were told in
// one query, so v has those that it had before.
func (v *Server) refusedSets(c *Client) {
	s := v.shard
	s.w.p.log.Log(Warning, v.prefix(), "varcache_apply failed: "+v.jobError)
	v.extras, v.strayed = v.had, true
	if v.status != wire.TxIdle {
		v.close(reasonParameter, true)
		return
	}
	c.fail(wire.Fields{Severity: "FATAL", Code: codeProtocol, Message: reasonParameter, Detail: v.jobError})
	s.varsTold(v)
}

const reasonParameter = "invalid server parameter"

// overAge reports whether v is older than server_lifetime, and no other server
// of its pool was closed for that so lately that they would all go at once.
func (v *Server) overAge() bool {
	set := v.shard.pool.settings.Load()
	now := v.shard.w.now()
	if now.Sub(v.connected) < set.ServerLifetime {
		return false
	}
	gap := set.ServerLifetime
	if set.PoolSize > 0 {
		gap /= time.Duration(set.PoolSize)
	}
	last := wire.Time(v.shard.pool.lifeClose.Load())
	return last == 0 || now.Sub(last) >= gap
}
