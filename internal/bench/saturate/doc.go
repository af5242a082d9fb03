// Package saturate keeps one SDK harness busy with bundles of one stage, over and over, and measures what they cost: it is a runner
// without an engine, whose own part is as small as it can be. What it measures is therefore what no runner can do better.
//
// The stage is the built-in one, an identity function over bytes, or one that package capture has taken out of a pipeline, with real
// elements of it. What a stage needs besides elements (state, timers, side inputs) is not here: Needs tells for which stages it takes an
// engine.
//
// Goroutines: one a bundle in flight while Measure runs, and those of packages fnapi and harness until Close.
package saturate
