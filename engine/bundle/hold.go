package bundle

import "sync/atomic"

// hold keeps a process from being ended while somebody needs it: the bundle that runs on it, and then its finalization. nil: it does not
// end.
type hold struct {
	holders atomic.Int32
	release func()
}

func newHold(release func()) *hold {
	h := &hold{release: release}
	h.holders.Store(1)
	return h
}

// again holds the process once more.
func (h *hold) again() *hold {
	if h != nil {
		h.holders.Add(1)
	}
	return h
}

func (h *hold) letGo() {
	if h != nil && h.holders.Add(-1) == 0 {
		h.release()
	}
}
