// Package scheduler decides what a job does next. It is a pure state machine: told what happened (a bundle committed or failed,
// a harness came, the clock moved), it answers with what to start. It sees stages, key groups and headers of blocks, never keys,
// elements or bytes.
//
// Watermarks, for each stage after every event:
//
//	input  = max(input, min(outputs of the upstream stages, holds of waiting and running blocks))
//	output = max(output, min(input, holds)), not beyond the end of the global window while a timer is set
//
// A bundle owns its key groups from Start until Committed or Failed. A bundle carries either due timers or data, timers first, so
// that data cannot overwrite a timer that is being fired. Downstream stages are served before upstream ones: the pipe drains.
//
// The events of a TestStream start one by one, each when every other stage has come to rest (replay.go).
//
// No clock, no I/O, no goroutine, no map order: the same events give the same actions. Time comes in as Now of each event.
package scheduler
