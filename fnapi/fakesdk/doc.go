// Package fakesdk is an SDK harness in Go for tests: it speaks the real Fn API to a real server and runs a tiny DoFn language.
//
// It takes the same descriptors as a real harness. A ParDo's DoFn is looked up by the URN of its FunctionSpec (or of the transform
// itself) in a table; Builtins has map, flatmap, filter, keyed state, timers, side inputs, finalizers, failing and slow ones, and a
// splittable DoFn over a range of offsets. Faults make the harness break the protocol on chosen bundles.
//
// It is not a harness for users: it knows the standard coders alone, ignores display data, sampling and caching, and keeps its
// outputs in memory until the bundle ends.
//
// Goroutines: one for control, one for each data stream and the state stream, one for each bundle. Close waits for all of them.
package fakesdk
