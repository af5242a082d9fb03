// Package inventory says what a job's store holds, by the names that its user gave to transforms: one entry for each stage and each side
// input, with the number that its rows lie under. The inventory is kept in the store itself, so that a plan finds the rows of another one
// again, whose stages are others or stand in another order. Pure: no I/O, no clock, no goroutine.
package inventory
