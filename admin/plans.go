package admin

var planColumns = columns("plan t, scope t, name t, limit i, source t, reserve i, used i, idle i, waiting i, peak i, refused q, clients i, max_clients i")

func showPlans(s *session) (rows []row) {
	for _, p := range s.pools.Plans() {
		rows = append(rows, row{
			text(p.Plan), text(p.Scope.String()), text(p.Name), numberOrNull(p.Limit), text(p.Source), number(p.Reserve),
			number(p.Used), number(p.Idle), number(p.Waiting), number(p.Peak), number(p.Refused), number(p.Clients), numberOrNull(p.MaxClients),
		})
	}
	return rows
}
