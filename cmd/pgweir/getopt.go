package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// arrange turns args, written as getopt_long(3) takes them, into what package
// flag reads: each option by itself and in full, then "--", then what are no
// options. GNU programs take options after arguments (conf.ini -d), several
// short ones in one (-dv), values that are joined (-uname, --user=name) or
// apart (-u name), and long names cut short (--dae). Nothing behind -h or -V
// is looked at, since these end the program.
func arrange(args []string, flags []cli.Flag) ([]string, error) {
	var options, rest []string
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		var err error
		var last string
		switch {
		case arg == "--":
			rest = append(rest, args...)
			args = nil
			continue
		case strings.HasPrefix(arg, "--"):
			last, args, err = longOption(arg[2:], args, flags)
			options = append(options, last)
		case len(arg) > 1 && arg[0] == '-':
			var group []string
			group, args, err = shortOptions(arg[1:], args, flags)
			options = append(options, group...)
			last = group[len(group)-1]
		default:
			rest = append(rest, arg)
			continue
		}
		if err != nil {
			return nil, err
		}
		if last == "--help" || last == "--version" {
			return options, nil
		}
	}
	return append(append(options, "--"), rest...), nil
}

// longOption reads --arg, which may take its value from args.
func longOption(arg string, args []string, flags []cli.Flag) (option string, rest []string, err error) {
	name, value, joined := strings.Cut(arg, "=")
	var found []string
	for _, f := range flags {
		if long := f.Names()[0]; long == name {
			found = []string{long}
			break
		} else if strings.HasPrefix(long, name) {
			found = append(found, long)
		}
	}
	switch len(found) {
	case 0:
		return "", nil, usageError(fmt.Sprintf("unrecognized option '--%s'", name))
	case 1:
		name = found[0]
	default:
		return "", nil, usageError(fmt.Sprintf("option '--%s' is ambiguous; possibilities: '--%s'", name, strings.Join(found, "' '--")))
	}
	f := find(name, flags)
	switch takes := takesValue(f); {
	case !joined && implied(f) != "":
		return "--" + name + "=" + implied(f), args, nil
	case !takes && joined:
		return "", nil, usageError(fmt.Sprintf("option '--%s' doesn't allow an argument", name))
	case takes && joined:
		return "--" + name + "=" + value, args, nil
	case takes && len(args) == 0:
		return "", nil, usageError(fmt.Sprintf("option '--%s' requires an argument", name))
	case takes:
		return "--" + name + "=" + args[0], args[1:], nil
	}
	return "--" + name, args, nil
}

// shortOptions reads -letters. The last one may take its value from args.
func shortOptions(letters string, args []string, flags []cli.Flag) (options, rest []string, err error) {
	for i, letter := range letters {
		f := find(string(letter), flags)
		if f == nil {
			return []string{""}, nil, usageError(fmt.Sprintf("invalid option -- '%c'", letter))
		}
		option := "--" + f.Names()[0]
		if takesValue(f) {
			value := letters[i+len(string(letter)):]
			if value == "" {
				if len(args) == 0 {
					return []string{""}, nil, usageError(fmt.Sprintf("option requires an argument -- '%c'", letter))
				}
				value, args = args[0], args[1:]
			}
			return append(options, option+"="+value), args, nil
		}
		options = append(options, option)
		if option == "--help" || option == "--version" {
			break
		}
	}
	return options, args, nil
}

// find returns the flag of that name, short or long, or nil.
func find(name string, flags []cli.Flag) cli.Flag {
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			return f
		}
	}
	return nil
}

// implied is the value that f has if the option stands without one, "" if it
// must have one. Such an option takes its value joined only (--name=value).
func implied(f cli.Flag) string {
	if s, ok := f.(*cli.StringFlag); ok {
		return s.DefaultText
	}
	return ""
}

func takesValue(f cli.Flag) bool { return f.(cli.DocGenerationFlag).TakesValue() }
