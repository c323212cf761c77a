package admin

var waitColumns = columns("database t, user t, wait_reason t, waiting i, longest_us q, waits q, total_us q, max_us q")

func showWaits(s *session) (rows []row) {
	for _, w := range s.pools.Waits() {
		rows = append(rows, row{
			text(w.Database), text(w.User), text(w.Reason.String()), number(w.Waiting), number(w.Longest.Microseconds()),
			number(w.Count), number(w.Total.Microseconds()), number(w.Max.Microseconds()),
		})
	}
	return rows
}
