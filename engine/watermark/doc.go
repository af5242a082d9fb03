// Package watermark keeps the numbers that watermarks are computed from: multisets of times with their minimum.
//
// The rule itself (input = min of upstream outputs and pending elements; output = min of input and holds) is in package
// scheduler. Pure: no I/O, no clock, no goroutine.
package watermark
