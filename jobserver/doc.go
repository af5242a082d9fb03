// Package jobserver is Beam's Job service over an Executor, with a registry of jobs that survives a restart.
//
// It owns what a job is to the outside: preparation, states, messages, metrics. It does not know how a job runs: engine and
// cluster implement Executor, cmd wires them. gRPC status codes are made here (and in fnapi) only.
package jobserver
