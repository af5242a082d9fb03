// Package plan is the machine language of the engine: what translate compiles a pipeline to and what the scheduler runs.
//
// A Plan is immutable, holds no protos (bundle descriptors and environments are opaque bytes) and no behaviour but printing. It
// is stored with its job as JSON. Same pipeline and options in, same bytes out. Pure: no I/O, no clock, no goroutine.
package plan
