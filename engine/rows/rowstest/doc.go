// Package rowstest holds an in-memory rows.Tx for the tests of pure packages. It is strict where a store is merely undefined: a
// slice that was handed out is overwritten at the next call, and a write into a range that is being scanned panics.
package rowstest
