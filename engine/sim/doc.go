// Package sim runs whole jobs on a machine that is not there: time, disk, network, harnesses and the outside are simulated, and a
// seed decides what happens next, and what goes wrong. The engine and its store are the real ones.
//
// A run is a bubble of testing/synctest, in which time stands still until everything waits. Whatever goes from one part to another
// (a message of the Fn API, a sync of the log, a poll, a publication, the begin and the end of a bundle) waits for its turn, and the
// seed's scheduler lets one go on at a time, and only when nothing else moves. So the same seed makes the same run. Its faults are
// a list that is made beforehand, so that one can be left out to see whether it matters.
//
// After a crash a new engine goes on with what a disk may have kept; the former one is cut off from disk and outside at that moment,
// and thrown away. When the job is done, what is outside is compared with what package reference computes.
//
// It is test code: no part of the product imports it. Goroutines: those of the engine, all within the bubble.
package sim
