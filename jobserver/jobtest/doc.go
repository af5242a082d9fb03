// Package jobtest holds a scripted jobserver.Executor for the tests of everything above it; nothing in the product imports it.
//
// A script is a function that reports states and messages as an engine would and returns when the job is over. Goroutines: one a
// run, waited for by Run.Wait.
package jobtest
