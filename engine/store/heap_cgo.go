//go:build cgo

package store

// OutsideHeap is what stores with a cache of so many bytes take outside of Go's heap, where its soft limit does not see it: with cgo
// pebble keeps its cache and its memtables there.
func OutsideHeap(cache int64) int64 { return cache + memTablesMax*memTableDefault }
