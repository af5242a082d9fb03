// Package memory shares out the memory of a server. One number, the limit, is given to Go's runtime as its soft limit, and to pools that
// are parts of it: what waits between harness, engine and store takes from them, whichever job it belongs to. So ten jobs get smaller
// shares, not ten times the memory.
//
// A pool is a promise, not an allocator: who takes says what it is about to hold. One request may be larger than its pool (an element of
// 100 MB is taken whole); it then has the pool for itself.
//
// Not here: what to do when a pool is empty. Some wait, which is back-pressure; some write to disk instead. Nobody may wait for a pool
// while somebody else can only give back to it after him.
package memory
