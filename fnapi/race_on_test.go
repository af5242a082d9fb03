//go:build race

package fnapi

// raceDetector says that tests run under the race detector, which empties pools at random.
const raceDetector = true
