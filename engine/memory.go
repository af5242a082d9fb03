package engine

import (
	"path/filepath"

	"go.uber.org/zap"

	"padstone/engine/store"
	"padstone/internal/fault"
	"padstone/internal/memory"
)

// OutsideHeap is what an engine takes outside of Go's heap, where the runtime's soft limit does not see it.
func OutsideHeap(b *memory.Budget) int64 { return store.OutsideHeap(b.StoreCache) }

// memTable is the size of the memtables of a job's store that is alone.
func memTable(b *memory.Budget) int {
	const most = 16 << 20
	return int(min(b.Limit/32, most))
}

// openStore opens a job's store on the block cache that all have in common.
func (e *Engine) openStore(cfg Config, dir string, waiting *store.Outstanding, log *zap.Logger) (*store.Store, error) {
	e.mu.Lock()
	if e.mu.closed {
		e.mu.Unlock()
		return nil, fault.New(fault.Environment, "server-stopping", "%w", errSuspended)
	}
	cache := e.cache.Share()
	e.mu.Unlock()
	defer cache.Close()
	return store.Open(store.Config{
		Dir: filepath.Join(dir, storeDir), FS: cfg.FS, Durability: cfg.Durability, Logger: log,
		Cache: cache, MemTable: memTable(e.cfg.Memory), Waiting: waiting,
	})
}
