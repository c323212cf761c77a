package metrics

import (
	"encoding/json"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestDashboard reads the Grafana dashboard: every metric that it asks for is
// told, with every label that it asks by, and no two panels lie on each other.
func TestDashboard(t *testing.T) {
	file, err := os.ReadFile("../../configs/grafana/pgweir.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			ID      int
			Type    string
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr string }
		}
		Templating struct {
			List []struct{ Name, Definition string }
		}
	}
	if err := json.Unmarshal(file, &board); err != nil {
		t.Fatal(err)
	}
	status, body := get(t, New(Options{Pools: fakePools{}, Ready: ready}), "/metrics")
	if status != http.StatusOK {
		t.Fatal(body)
	}
	// told are the metrics with their labels, as they are written; a scrape adds
	// job and instance.
	told := map[string]string{}
	for line := range strings.Lines(body) {
		if name, rest, ok := strings.Cut(strings.TrimSpace(line), "{"); ok && line[0] != '#' {
			told[name] = rest
		} else if name, _, ok := strings.Cut(line, " "); ok && line[0] != '#' {
			told[name] = ""
		}
	}
	metric := regexp.MustCompile(`\b(?:pgweir|go|process)_[a-z_]+\b`)
	selected := regexp.MustCompile(`((?:pgweir|go|process)_[a-z_]+)\{([^}]*)\}`)
	label := regexp.MustCompile(`([a-z]+)=~`)
	check := func(where, expr string) {
		names := metric.FindAllString(expr, -1)
		if len(names) == 0 {
			t.Errorf("%s: no metric in %s", where, expr)
		}
		for _, name := range names {
			if _, ok := told[name]; !ok {
				t.Errorf("%s: there is no %s", where, name)
			}
		}
		for _, s := range selected.FindAllStringSubmatch(expr, -1) {
			for _, l := range label.FindAllStringSubmatch(s[2], -1) {
				if l[1] != "job" && l[1] != "instance" && !strings.Contains(","+told[s[1]], ","+l[1]+"=") {
					t.Errorf("%s: %s has no label %s", where, s[1], l[1])
				}
			}
		}
	}
	ids, taken := map[int]bool{}, map[[2]int]string{}
	for _, p := range board.Panels {
		if ids[p.ID] {
			t.Errorf("%s: its id is another's", p.Title)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" {
					t.Fatalf("%s lies on %s", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		for _, target := range p.Targets {
			check(p.Title, target.Expr)
		}
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("%s asks for nothing", p.Title)
		}
	}
	for _, v := range board.Templating.List {
		if v.Definition != "" {
			check(v.Name, v.Definition)
		}
	}
	if len(board.Panels) < 20 {
		t.Errorf("%d panels", len(board.Panels))
	}
}
