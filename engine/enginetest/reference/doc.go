// Package reference says what the Beam model admits, by brute force: it is what the engine is compared with, and shares no code with
// it. It looks at everything at once and compares everything with everything; it knows no bundles, no state, no holds.
//
// A Pipeline is a small graph of transforms over elements of strings. Evaluate computes what it puts out where the model leaves no
// choice: default triggers, and nothing late. Random makes one from a seed.
//
// A History is what a TestStream does: elements, watermarks and a clock. A Grouping is a GroupByKey with any windowing. Check says
// which panes, that a run has put out, the model does not admit; Panes computes the panes themselves, for windows that do not merge
// and bundles as the engine cuts them.
//
// A TimerRun is a history whose elements set and clear timers; Firings computes which of them fire, and when.
//
// It is test code: no part of the product imports it. No goroutines; errors are texts for a test to print.
package reference
