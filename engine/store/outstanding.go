package store

import (
	"fmt"
	"path/filepath"
	"sync"
	"time"
)

// Outstanding is the operations of a disk that have begun and not ended. One that does not answer (a network volume that is away, a
// controller that resets) reports no error: whoever asked waits. Here others see for what, and since when. Safe for concurrent use; the
// zero value has none, and so has nil.
type Outstanding struct {
	mu   sync.Mutex
	ops  map[uint64]operation
	last uint64
}

type operation struct {
	doing, file string
	since       time.Time
}

// Begin notes the begin of an operation; the caller calls End with what it returns.
func (o *Outstanding) Begin(doing, file string) uint64 {
	if o == nil {
		return 0
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ops == nil {
		o.ops = make(map[uint64]operation)
	}
	o.last++
	o.ops[o.last] = operation{doing: doing, file: file, since: time.Now()}
	return o.last
}

// End notes the end of an operation.
func (o *Outstanding) End(id uint64) {
	if o == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.ops, id)
}

// Oldest says which operation has begun first, and how long ago that was; "" and 0 when there is none.
func (o *Outstanding) Oldest() (what string, age time.Duration) {
	if o == nil {
		return "", 0
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, op := range o.ops {
		if since := time.Since(op.since); since > age || what == "" {
			what, age = fmt.Sprintf("%s of %s", op.doing, filepath.Base(op.file)), since
		}
	}
	return what, age
}
