// Package jobserver is Beam's Job service over an Executor, with a registry of jobs that survives a restart.
//
// It owns what a job is to the outside: preparation, states, messages, metrics. It does not know how a job runs: engine and
// cluster implement Executor, cmd wires them. gRPC status codes are made here (and in fnapi) only.
//
// A submission is Prepare (checked now, kept in memory), staging (package artifact), Run (a directory on disk, then Executor.Start).
// A preparation id is not a job id and is unknown to the state and message streams: Python's client opens both streams with it under a
// deadline of 300 s, and only their failure makes it open them again, without a deadline, for the job (Spec: portable_runner.py run).
//
// What a job reports is one sequence of events, states and messages in order, in memory and in an append-only log. Streams are cursors
// into it, so a slow client costs no queue. The terminal state is the last event, and it appears after the final metrics and the last
// Description are on disk: a client that sees DONE may ask for metrics, now or after a restart.
//
// Goroutines: two a running job (its supervisor and its supervisor's wait), owned by Server and waited for by Close. Locks:
// Server.mu before job.mu; none is held while an Executor or Running is called. Errors are *fault.Error with codes of
// docs/errors/jobserver.md.
package jobserver
