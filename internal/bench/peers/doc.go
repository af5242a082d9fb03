// Package peers runs the load kit on job endpoints, one after the other, and measures what each job costs: CPU time and peak memory of the
// runner's processes and of the harness apart, time, latency.
//
// The kit is Python (load/padstone_load), carried in the binary; it verifies its own results. Harnesses are started by a worker pool of
// this process, one process a job, so that their CPU time is what wait4 says. The runner is found by its listening socket, and read from
// /proc.
//
// Goroutines: a gRPC server for each job's pool, and one that waits for each harness; a job's measurement waits for all of them.
package peers
