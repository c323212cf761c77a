package admin

import (
	"errors"
	"strconv"
	"strings"

	"github.com/pgweir/pgweir/pool"
)

// command is one that does something, as opposed to SHOW and SET.
type command struct {
	name     string // in capitals
	argument string // how SHOW HELP writes its argument, "" if it takes none
	meaning  string // for SHOW HELP
	run      func(s *session, done <-chan struct{}, arg string) error
}

// commands is in the order of SHOW HELP. Each answers with its name as the tag.
var commands []command

// The table refers to functions that refer to the table.
func init() {
	commands = []command{
		{"RELOAD", "", "read the configuration, auth, HBA and TLS files again", reload},
		{"PAUSE", "[db]", "let queries finish, close servers, hold new queries back", pause},
		{"RESUME", "[db]", "undo PAUSE and KILL", resume},
		{"DISABLE", "db", "refuse new client logins", disable},
		{"ENABLE", "db", "allow them again", enable},
		{"RECONNECT", "[db]", "replace each server connection when it is next released", reconnect},
		{"KILL", "[db]", "drop all clients and servers, and pause", kill},
		{"KILL_CLIENT", "id", "drop the client with that id in SHOW CLIENTS", killClient},
		{"WAIT_CLOSE", "[db]", "wait until no server is left to be replaced", waitClose},
		{"SHUTDOWN", "[mode]", "stop now, or WAIT_FOR_SERVERS, or WAIT_FOR_CLIENTS, or DRAIN", nil},
	}
}

// planCommand finds a command. ok is false if there is none, or if it takes no
// such argument.
func planCommand(name, arg string) (p plan, ok bool) {
	if name == "shutdown" {
		return planShutdown(arg)
	}
	for i := range commands {
		c := &commands[i]
		if !strings.EqualFold(c.name, name) || arg != "" && c.argument == "" {
			continue
		}
		return plan{run: func(s *session, done <-chan struct{}) (result, error) {
			if err := s.mayAdminister(); err != nil {
				return result{}, err
			}
			return result{tag: c.name}, c.run(s, done, arg)
		}}, true
	}
	return plan{}, false
}

// mayAdminister fails for a client of stats_users.
func (s *session) mayAdminister() error {
	if s.client.Admin {
		return nil
	}
	return &failure{code: codeProtocol, message: "admin access needed"}
}

func reload(s *session, _ <-chan struct{}, _ string) error {
	err := s.pools.Reload()
	if err == nil {
		return nil
	}
	f := &failure{code: codeConfig, message: "RELOAD failed, see logs for additional details"}
	if err.Error() != f.message {
		f.detail = err.Error()
	}
	return f
}

func pause(s *session, done <-chan struct{}, db string) error { return s.pools.Pause(done, db) }

func resume(s *session, _ <-chan struct{}, db string) error { return s.pools.Resume(db) }

func disable(s *session, _ <-chan struct{}, db string) error { return s.pools.SetDisabled(db, true) }

func enable(s *session, _ <-chan struct{}, db string) error { return s.pools.SetDisabled(db, false) }

func reconnect(s *session, _ <-chan struct{}, db string) error { return s.pools.Reconnect(db) }

func kill(s *session, _ <-chan struct{}, db string) error { return s.pools.Kill(db) }

func killClient(s *session, _ <-chan struct{}, arg string) error {
	id, err := strconv.ParseUint(arg, 10, 64)
	if err != nil {
		return &failure{
			code: codeProtocol, message: "invalid client pointer supplied",
			hint: "KILL_CLIENT takes the column id of SHOW CLIENTS.",
		}
	}
	return s.pools.KillClient(id)
}

func waitClose(s *session, done <-chan struct{}, db string) error { return s.pools.WaitClose(done, db) }

// planShutdown understands SHUTDOWN. The immediate one is never answered: the
// connection ends with the process.
func planShutdown(arg string) (p plan, ok bool) {
	mode := pool.ShutdownImmediate
	switch strings.ToLower(arg) {
	case "":
	case "wait_for_servers":
		mode = pool.ShutdownWaitForServers
	case "wait_for_clients":
		mode = pool.ShutdownWaitForClients
	case "drain":
		mode = pool.ShutdownDrain
	default:
		return plan{}, false
	}
	return plan{run: func(s *session, _ <-chan struct{}) (result, error) {
		if err := s.mayAdminister(); err != nil {
			return result{}, err
		}
		s.pools.Shutdown(mode)
		return result{tag: "SHUTDOWN", silent: mode == pool.ShutdownImmediate}, nil
	}}, true
}

// planSet understands SET key = value. Keys of the configuration come first;
// what drivers set of Postgres' settings is ignored.
func planSet(key, value string) plan {
	return plan{run: func(s *session, _ <-chan struct{}) (result, error) {
		if _, ok := postgresSetting(key); ok {
			return result{tag: "SET", notice: "SET ignored"}, nil
		}
		if err := s.mayAdminister(); err != nil {
			return result{}, err
		}
		done := result{tag: "SET " + key + "=" + value}
		if err := s.pools.Set(key, value); errors.As(err, new(*Unapplied)) {
			done.notice, done.detail = "TLS settings could not be applied, still using old configuration", err.Error()
		} else if err != nil {
			return result{}, &failure{code: codeProtocol, message: "SET failed", detail: err.Error()}
		}
		return done, nil
	}}
}
