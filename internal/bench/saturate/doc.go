// Package saturate keeps one SDK harness busy with bundles of one stage, over and over, and measures what they cost: it is a runner
// without an engine, whose own part is as small as it can be. What it measures is therefore what no runner can do better.
//
// The stage is the built-in one, an identity function over bytes, or one that package capture has taken out of a pipeline, with real
// elements of it. Stages that need more of a runner than elements (state, timers, side inputs, restrictions) are refused by name.
//
// Goroutines: one a bundle in flight while Measure runs, and those of packages fnapi and harness until Close.
package saturate
