package store

import (
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// full is a disk on which no file can be made.
type full struct{ vfs.FS }

func (full) Create(string, vfs.DiskWriteCategory) (vfs.File, error) { return nil, syscall.ENOSPC }

// TestSwallowedWritesWait: nobody may take a write for done that was swallowed, before the store has failed: a sync would be called
// durable.
func TestSwallowedWritesWait(t *testing.T) {
	failing, release := make(chan struct{}), make(chan struct{})
	g := newGuard(full{vfs.NewMem()}, func(error) { close(failing); <-release })
	log, err := g.FS.(full).FS.Create("log", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	f := &guarded{File: log, guard: g, name: "log"}
	create := func() { _, _ = g.Create("table", vfs.WriteCategoryUnspecified) } // the guard hides its errors
	done := make(chan string, 3)
	go func() { create(); done <- "the failed write" }()
	<-failing
	go func() { create(); done <- "another write" }()
	go func() { _ = f.Sync(); done <- "a sync" }()
	time.Sleep(20 * time.Millisecond) // for what must not happen
	if len(done) > 0 {
		t.Errorf("%s returned before the store had failed", <-done)
	}
	close(release)
	if err := log.Close(); err != nil {
		t.Error(err)
	}
}
