// Package trigger decides when the panes of a key and window fire. A trigger tree compiles to a flat program; what it remembers of
// a key and window is a State of a few bytes: which nodes have finished, how many elements a count has seen, when a delay ends.
//
// The caller tells it of elements, merges and firings and asks whether to fire; a count fires at "at least", and
// exactly there if it is evaluated after each element (see ByElement). It keeps no data, sets no timers and knows neither panes nor
// lateness: those are package group's. Pure; a Program is immutable and safe for concurrent use.
//
// Semantics, where Beam's SDKs differ, are those of the Java SDK's trigger state machines; the differences that show:
//   - default is Repeat(AfterEndOfWindow): after the end of the window it is ready at every evaluation;
//   - or_finally finishes when either of its children does, and only a firing of the main child leaves the other's state alone;
//   - after_synchronized_processing_time is ready at once: upstream of a group stage on one machine, processing time is now;
//   - merged windows: a count that finished in one of them has finished, a delay ends at the earliest of the ends, and
//     after_end_of_window goes back to its early phase unless the end of the merged window has passed in every one of them.
package trigger
