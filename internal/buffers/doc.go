// Package buffers lends memory for bytes on their way through the process: data messages, and blocks between disk and harness. Memory that
// has been used is cheap, new memory of the same size costs as much as writing it to a file, in page faults.
package buffers
