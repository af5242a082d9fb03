// Package profile adds up where the time of bundles goes.
//
// A bundle has a Watch from the moment at which it is started until its commit is applied. The goroutine that the bundle is with says, at a
// few points of its way, what the time since the last point went into: parts add up to the whole, and nothing is counted twice. What goes
// on beside that goroutine meanwhile (messages are decoded, output is routed, state is read while the harness works) is measured apart, and
// moved out of the wait for the harness by Shift, so that "harness" is the wait for it less the rest.
//
// A Stage adds up the bundles of a stage: sums by part, and histograms of a fixed size of how long bundles took and how much they had. The
// clock is the caller's, and is read by bundle, block and message, never by element: BenchmarkBundle says what that costs.
//
// Not here: what a stage waits for before a bundle takes it and after its commit, which Waits add up; and which goroutine does what, which
// packages bundle and engine know. Nothing here is safe for concurrent use. No errors.
package profile
