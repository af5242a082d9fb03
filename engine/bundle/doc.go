// Package bundle runs one bundle at a time of one stage: on an SDK harness, or in the runner for grouping, native sources and
// sinks, impulses and the events of a TestStream. Whatever runs, the outcome has one shape: a Result whose Commit holds all that the
// bundle does to the durable state.
//
// A bundle reads its inputs and its key groups' rows, and writes nothing: state requests and timers go into a store.Bundle that
// is part of the commit, so a bundle that fails leaves no trace. It does not choose its inputs (package scheduler) and does not
// commit (package engine). It is the engine's only use of package fnapi.
//
// Elements are never decoded: outputs are framed once by a scanner, split by key group where the consumer is keyed, and kept as
// the bytes that came. What a bundle puts out beyond 16 MiB is written ahead of its commit. Goroutines: a bundle runs on its caller's,
// and the one of its intake routes what the harness sends; the callbacks of package fnapi hand over, and wait when the intake is full.
//
// Errors: fault.Pipeline for what user code raised (with its traceback), fault.Environment for lost harnesses and outside
// systems, fault.Internal for a harness that breaks the protocol.
package bundle
