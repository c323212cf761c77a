// Package metrics answers HTTP requests: /metrics for Prometheus, /healthz and
// /readyz for whoever watches over the process.
//
//	server.go     the requests
//	collector.go  what /metrics tells; docs/metrics.md explains it
//
// What it tells of the pools comes as plain values through Pooler, and is whole
// before the first byte of an answer is written. So a client that reads slowly
// holds nothing but its own connection, and that only for a while.
package metrics
