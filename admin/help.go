package admin

import (
	"fmt"
	"strings"
)

// usage is the DETAIL of SHOW HELP.
func usage() string {
	var b strings.Builder
	line := func(form, meaning string) { fmt.Fprintf(&b, "\n\t%-22s %s", form, meaning) }
	for i := range shows {
		line("SHOW "+shows[i].name, shows[i].meaning)
	}
	b.WriteByte('\n')
	for i := range commands {
		line(form(commands[i].name), commands[i].meaning)
	}
	line(form("SET"), "change a setting until the next RELOAD")
	b.WriteString("\n\n\tA [db] left out means all databases.")
	return b.String()
}
