// Package harness starts SDK harnesses, keeps them running and stops them.
//
// A Manager turns one environment of one job into a Pool of workers. How a harness is started depends on the environment's URN: a
// worker pool is asked for one (beam:env:external:v1, also what LOOPBACK submits), or a program is started on this machine
// (beam:env:process:v1), which is Beam's boot program or, when the command is a Python interpreter, the Python SDK's worker itself, or a
// container (beam:env:docker:v1, package docker), whose entry point is Beam's boot program.
// Each worker has a supervisor that starts its harness again when it is lost, with back-off and under its old id, and that gives up
// when restarts do not help.
//
// The package knows nothing of bundles. What runs on a harness when it is lost fails with fnapi.ErrWorkerLost; who runs it again is
// the engine's decision.
//
// Goroutines: one supervisor a worker, one waiter and one or two output copiers a process; Pool.Close waits for all of them.
//
// Errors are *fault.Error with codes in docs/errors/harness.md; those about a start or a loss quote the harness's last log lines.
package harness
