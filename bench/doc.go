// Command bench drives a built server with loads that are too long for a test, and prints what they cost: memory, CPU, disk, time. The
// harness is Beam's own Go SDK, in this process: it makes a hundred million elements in minutes.
//
// A module of its own, because the SDK needs packages that Padstone does not. What comes out of every load is verified: a figure of a run
// that has lost an element is none.
package main
