// Pgweir is a connection pooler for Postgres, in the place of PgBouncer: the
// same configuration files, command line, signals and console.
//
//	pgweir [OPTION]... CONFIG_FILE
//	pgweir check [--dynos=N [--preboot[=N]]] CONFIG_FILE
//	pgweir plans [PROVIDER | PLAN]
//	pgweir exec [OPTION]... [--] COMMAND [ARGUMENT]...
//
// This package reads the command line and builds the object graph; there are
// no rules of pooling in here.
//
//	main.go       the command line
//	check.go      pgweir check; plans.go pgweir plans
//	exec.go       pgweir exec; sidecar.go the pooler beside the app; child*.go the app
//	getopt.go     options as GNU programs take them
//	version.go    what --version and SHOW VERSION say
//	serve.go      the start, step by step, and the end
//	process.go    a running pgweir: loops, pooler, console, sockets, log
//	signals.go    what each signal does
//	listen.go     sockets that clients connect to; sockopt_*.go their options
//	daemon.go     --daemon
//	identity.go   the user to run as
//	pidfile.go, limits.go, notify.go (systemd), stats.go
package main
