package configs

import (
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
)

//go:embed presets.ini
var presetsText string

// Presets returns the plans of providers that pgweir knows, named
// provider:plan, provider by provider. The slice and the
// plans must not be changed.
func Presets() []*Plan { return presets() }

// Providers returns the names in front of the colon, in the same order.
func Providers() []string {
	var list []string
	for _, p := range presets() {
		if provider, _, _ := strings.Cut(p.Name, ":"); !slices.Contains(list, provider) {
			list = append(list, provider)
		}
	}
	return list
}

// Preset returns the preset of that name. The error suggests one that is like
// it.
func Preset(name string) (*Plan, error) {
	var known []string
	for _, p := range presets() {
		if p.Name == name {
			return p, nil
		}
		known = append(known, p.Name)
	}
	provider, plan, _ := strings.Cut(strings.ToLower(name), ":")
	hint := "pgweir plans lists those there are"
	if !slices.Contains(Providers(), provider) {
		if like, ok := Closest(provider, Providers()); ok {
			provider = like
		}
	}
	if like, ok := Closest(provider+":"+plan, known); ok {
		hint = "perhaps you meant " + like
	} else if slices.Contains(Providers(), provider) {
		hint = "pgweir plans " + provider + " lists those there are"
	}
	return nil, fmt.Errorf("there is no plan %q: %s", name, hint)
}

// presetReserve is how many connections are left to people and migrations where
// a provider grants limit: a twentieth, at least 2 and at most 10.
func presetReserve(limit int) int { return min(max(limit/20, 2), 10) }

var presets = sync.OnceValue(func() []*Plan {
	list, err := parsePresets(presetsText)
	if err != nil {
		panic("BUG: configs: presets.ini: " + err.Error())
	}
	return list
})

// parsePresets reads a text like presets.ini, whose head describes it.
func parsePresets(text string) (list []*Plan, err error) {
	var provider string
	var common Plan
	var taken int
	fail := func(at pos, text string) {
		if err == nil {
			err = fmt.Errorf("line %d: %s", at.line, text)
		}
	}
	r := iniReader{fail: fail}
	r.section = func(_ pos, name string) { provider, common, taken = name, Plan{}, 0 }
	r.key = func(at pos, key, val string) {
		number, notNumber := strconv.Atoi(key)
		switch key {
		case "source":
			common.Source = val
		case "date":
			common.Date = val
		case "note":
			common.Note = val
		case "scope":
			if !common.Scope.parse(val) {
				fail(at, "scope must be "+planScopes.String())
			}
		case "taken":
			if taken, notNumber = strconv.Atoi(val); notNumber != nil {
				fail(at, "taken must be a number")
			}
		default:
			if notNumber != nil {
				fail(at, key+" is neither a figure nor known")
				return
			}
			for _, name := range splitList(val) {
				p := common
				p.Name = provider + ":" + name
				p.MaxServerConnections = number - taken
				p.Reserve = presetReserve(p.MaxServerConnections)
				list = append(list, &p)
			}
		}
	}
	r.text("presets.ini", text)
	return list, err
}
