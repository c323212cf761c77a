package admin

import (
	"fmt"
	"strings"
)

var statementColumns = columns("name t, query t, parameter_types t, clients i, servers i")

func showPreparedStatements(s *session) (rows []row) {
	for _, st := range s.pools.Statements() {
		types := strings.Trim(strings.ReplaceAll(fmt.Sprint(st.Types), " ", ","), "[]")
		rows = append(rows, row{text(st.Name), text(st.Query), text(types), number(st.Clients), number(st.Servers)})
	}
	return rows
}
