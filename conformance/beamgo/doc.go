// Package beamgo keeps the tests of Beam's Go SDK resolvable: a module of its own, because they need packages that Padstone does
// not. It has no code; go_suites.py builds the SDK's test binaries from here, with `go test -c`, and runs them on a job endpoint.
//
// The SDK's version is that of Padstone's own go.mod; go_suites.py refuses to run with another one.
package beamgo
