// Package storetest is a disk in memory for tests of those who keep a store: it can be pictured as a crash would leave it, and kept
// from syncing. Safe for concurrent use; no goroutines.
package storetest
