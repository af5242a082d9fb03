package engine

import (
	"sync"

	"padstone/engine/scheduler"
	"padstone/engine/store"
	"padstone/internal/buffers"
	"padstone/internal/memory"
)

// blockCache keeps recent blocks by sequence. Safe for concurrent use.
type blockCache struct {
	pool *memory.Pool
	mu   struct {
		sync.Mutex
		blocks map[uint64][]byte
		closed bool
	}
}

func newBlockCache(pool *memory.Pool) *blockCache {
	c := &blockCache{pool: pool}
	c.mu.blocks = make(map[uint64][]byte)
	return c
}

// put keeps the block if there is room.
func (c *blockCache) put(seq uint64, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.mu.closed && c.pool.Try(len(data)) {
		c.mu.blocks[seq] = data
	}
}

func (c *blockCache) get(seq uint64) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	data, ok := c.mu.blocks[seq]
	return data, ok
}

// drop forgets a block that was consumed.
func (c *blockCache) drop(seq uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if data, ok := c.mu.blocks[seq]; ok {
		c.pool.Give(int64(len(data)))
		delete(c.mu.blocks, seq)
	}
}

// close forgets all blocks.
func (c *blockCache) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.closed = true
	for _, data := range c.mu.blocks {
		c.pool.Give(int64(len(data)))
	}
	clear(c.mu.blocks)
}

// load returns the elements of a waiting block.
func (j *job) load(stage int, b scheduler.Block) ([]byte, error) {
	if data, ok := j.cache.get(b.Seq); ok {
		return data, nil
	}
	block, err := j.store.Block(uint32(stage), store.BlockID{Group: b.Group, Edge: uint32(b.Edge), Seq: b.Seq})
	return block.Data, err
}

// borrow is load into memory that is lent.
func (j *job) borrow(stage int, b scheduler.Block) ([]byte, *buffers.Buffer, error) {
	if data, ok := j.cache.get(b.Seq); ok {
		return data, nil, nil
	}
	var lent *buffers.Buffer
	block, err := j.store.BlockIn(uint32(stage), store.BlockID{Group: b.Group, Edge: uint32(b.Edge), Seq: b.Seq}, func(n int) []byte {
		lent = buffers.Get(n)
		return lent.Bytes()
	})
	return block.Data, lent, err
}
