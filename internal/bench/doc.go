// Package bench makes something of measurements: it fits the cost of bundles, recommends a size, compares runners, and renders both as
// text, JSON and a page that needs nothing from the network.
//
// It measures nothing itself and does no I/O: package saturate measures what a harness can do, package peers runs the load kit, and
// package proc reads what processes have used. What a system does not tell is nil in a measurement, null in JSON and n/a for people.
package bench
