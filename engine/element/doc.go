// Package element holds the engine's units of data: event time, panes and blocks of encoded elements.
//
// An element is never an object here. A block is a run of windowed values in the encoding of the Fn API data plane, kept as the
// bytes that came from a harness; see package coder for the scanner that finds their boundaries. Pure: no I/O, no clock.
package element
