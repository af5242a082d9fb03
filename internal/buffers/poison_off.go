//go:build !race

package buffers

// poison overwrites memory that was given back, so that tests notice who still looks at it.
const poison = false
