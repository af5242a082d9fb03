// Package sizing decides how many harness processes an environment has. It is told what is measured and answers with a number and the
// reason for it, in words. It starts nothing, reads no clock and does no I/O: the same signals bring the same sizes.
//
// It grows a pool by halves when the work that waits would take the processes that there are too long, while they are at work all the time;
// it shrinks one that has had little to do for a while. A pool never changes while a process is missing, and is left alone for some looks
// after it has changed, so that what is measured next is that of its new size.
package sizing
