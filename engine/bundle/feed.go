package bundle

import (
	"sync"
	"time"

	"padstone/engine/scheduler"
	"padstone/internal/buffers"
)

// patience is how long a bundle waits for room for its inputs. Room comes free as harnesses read, and one that does not must not hold up
// the jobs of others for ever.
const patience = 2 * time.Second

// inputs is what a bundle sends: blocks, or in order timers, with the elements of a time-sorted input between them.
type inputs struct {
	blocks *feed
	runs   []run
}

// feed is the blocks of a bundle's input in the order in which they are sent. Each is read when it is its turn, so that what waits for a
// slow harness waits on disk. Safe for concurrent use.
type feed struct {
	load   func(scheduler.Block) ([]byte, error)
	borrow func(scheduler.Block) ([]byte, *buffers.Buffer, error)
	mu     struct {
		sync.Mutex
		items  int // elements in all
		blocks []loaded
		last   []byte // the only element, when it has been taken
	}
}

// loaded is a block with its data, if that is read already.
type loaded struct {
	block scheduler.Block
	items int
	data  []byte
	read  bool
}

// add adds a block at the end.
func (f *feed) add(l loaded) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.items += l.items
	f.mu.blocks = append(f.mu.blocks, l)
}

// next takes the first block that is left; more is false when there is none. What its data is lent in is to be released, unless it is nil.
func (f *feed) next() (data []byte, lent *buffers.Buffer, more bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.mu.blocks) == 0 {
		return nil, nil, false, nil
	}
	l := f.mu.blocks[0]
	f.mu.blocks[0] = loaded{}
	f.mu.blocks = f.mu.blocks[1:]
	switch only := f.mu.items == 1; {
	case l.read:
	case only:
		l.data, err = f.load(l.block)
	default:
		l.data, lent, err = f.borrow(l.block)
	}
	if len(l.data) > 0 && f.mu.items == 1 {
		f.mu.last = l.data
	}
	return l.data, lent, true, err
}

// left says whether there is a block that has not been taken.
func (f *feed) left() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.mu.blocks) > 0
}

// sum returns how many elements there are, and the only one, if there is just one and it has been sent.
func (f *feed) sum() (items int, only []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.items != 1 {
		return f.mu.items, nil
	}
	return f.mu.items, f.mu.last
}

// pin reads all blocks that are left: the commit of a split replaces rows of blocks that the harness may still have to be sent.
func (f *feed) pin() error {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.mu.blocks {
		l := &f.mu.blocks[i]
		if l.read {
			continue
		}
		var err error
		if l.data, err = f.load(l.block); err != nil {
			return err
		}
		l.read = true
	}
	return nil
}
