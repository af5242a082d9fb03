// Package ratio puts a benchmark in relation to the least that its machine could need for the same work, measured in the same run: figures
// of different days and machines can be compared then.
package ratio
