// Package enginetest runs whole jobs in tests of the engine: pipelines built in Go are compiled and run as any submitted pipeline is,
// on package fakesdk's harnesses, which speak the real Fn API to a real server, with a source and a sink in memory.
//
// A Rig is one server with one engine at a time; Suspend and Recover replace the engine as a restart of the process would. What
// leaves a job is what its Sinks have taken and what its Recorder was told. A sink is told again what was published and not yet
// forgotten when a job was interrupted, so that oracles compare Distinct elements.
//
// DoFns are closures in the test and run on the harness's goroutines. Goroutines: those of server, engine and harnesses, all ended by
// the test's cleanup.
package enginetest
