//go:build race

package engine_test

// raceDetector says that tests run under the race detector, whose own memory hides what a test wants to know of the heap.
const raceDetector = true
