// Package capture takes one stage out of a pipeline that a script submits, with real elements of its input, so that package saturate can
// keep a harness busy with it.
//
// An Executor stands before the engine's. It compiles the pipeline, chooses the stage, cuts the pipeline off in front of it, puts a sink
// there that keeps the first elements, and has the engine run that: what lies behind the stage, and the stage itself, do not run. A stage
// that needs more than elements the engine runs afterwards, in a job of it alone: a source in its place gives the elements that were kept.
// The job's client waits meanwhile, and the artifacts that a harness needs are kept for it, until Release.
//
// Goroutines: one for the job, which Release waits for. Errors: those of the pipeline and of the engine, and bench-stage.
package capture
