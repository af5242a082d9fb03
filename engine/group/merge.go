package group

import (
	"bytes"

	"padstone/engine/window"
	"padstone/internal/fault"
)

// Merger merges windows by a function of the user's, for some keys at once. Each set is the distinct encoded windows of one key; the
// result has for each set the windows that they make, each with the indices of those that went into it. A window that did not merge
// went into itself. Every window of a set must go into exactly one.
type Merger func(sets [][][]byte) ([][]Merged, error)

// Merged is a window that others have gone into.
type Merged struct {
	Window []byte
	From   []int // indices in the set
}

// mergeCase is a key whose windows are being merged.
type mergeCase struct {
	bucket   *bucket
	sessions *keySessions
	set      [][]byte      // first the live windows, as in sessions, then those that have come
	index    map[int32]int // window of the grouper → place in set
	open     bool          // the function is asked
	merged   []Merged
	into     []int // for each of the set: where it went, in merged
}

// addToMerged adds the values of all keys to windows that the user's function merges. It is asked once.
func (x *call) addToMerged() error {
	cases := make([]mergeCase, len(x.g.buckets))
	var sets [][][]byte
	for i := range cases {
		c := &cases[i]
		c.bucket = &x.g.buckets[i]
		var err error
		if c.sessions, err = x.loadSessions(c.bucket.key); err != nil {
			return err
		}
		if c.open = x.gather(c); c.open {
			sets = append(sets, c.set)
		}
	}
	var merged [][]Merged
	if len(sets) > 0 {
		var err error
		if merged, err = x.env.Merge(sets); err != nil {
			return err
		}
		if len(merged) != len(sets) {
			return fault.New(fault.Internal, "window-merge", "%d sets of windows were merged, not %d", len(merged), len(sets))
		}
	}
	for i := range cases {
		c := &cases[i]
		if c.open {
			c.merged, merged = merged[0], merged[1:]
		}
		if err := x.addCase(c); err != nil {
			return err
		}
	}
	return nil
}

// gather collects the windows of a key and says whether they have to be merged: they have been if no other has come.
func (x *call) gather(c *mergeCase) (merge bool) {
	c.index = make(map[int32]int)
	place := make(map[string]int)
	put := func(win []byte) int {
		at, ok := place[string(win)]
		if !ok {
			at = len(c.set)
			place[string(win)] = at
			c.set = append(c.set, bytes.Clone(win))
		}
		return at
	}
	for i := range c.sessions.live {
		put(c.sessions.live[i].win)
	}
	known := len(c.set)
	for i := c.bucket.head; i >= 0; i = x.g.entries[i].next {
		id := x.g.arrived[i].win
		if _, ok := c.index[id]; !ok {
			c.index[id] = put(x.g.windows[id])
		}
	}
	if len(c.set) > known {
		return true
	}
	c.merged = make([]Merged, known)
	for i := range c.merged {
		c.merged[i] = Merged{Window: c.set[i], From: []int{i}}
	}
	return false
}

// addCase adds the values of a key whose windows have been merged.
func (x *call) addCase(c *mergeCase) error {
	if err := c.resolve(); err != nil {
		return err
	}
	sessions := make([]session, len(c.merged))
	for i, m := range c.merged {
		maxTS, err := window.Max(x.windowing.Coding, m.Window)
		if err != nil {
			return fault.New(fault.Pipeline, "window-merge", "a merged window does not follow the window coder: %w", err)
		}
		sessions[i] = session{win: m.Window, max: maxTS}
	}
	next := c.bucket.head
	for next >= 0 {
		i := next
		next = x.g.entries[i].next
		into := c.into[c.index[x.g.arrived[i].win]]
		x.g.push(&sessions[into].run, i, x.g.arrived[i].ts)
	}
	return x.addMerged(c.bucket.key, c.sessions, sessions, c.into[:len(c.sessions.live)])
}

// resolve finds where each window went. What went into equal windows went into one.
func (c *mergeCase) resolve() error {
	c.into = make([]int, len(c.set))
	for i := range c.into {
		c.into[i] = -1
	}
	place := make(map[string]int)
	var merged []Merged
	for _, m := range c.merged {
		if len(m.From) == 0 {
			continue
		}
		at, ok := place[string(m.Window)]
		if !ok {
			at = len(merged)
			place[string(m.Window)] = at
			merged = append(merged, m)
		}
		for _, i := range m.From {
			if i < 0 || i >= len(c.into) || c.into[i] >= 0 {
				return fault.New(fault.Pipeline, "window-merge", "window %d of %d went into more than one when windows were merged", i, len(c.into))
			}
			c.into[i] = at
		}
	}
	c.merged = merged
	for i, m := range c.into {
		if m < 0 {
			return fault.New(fault.Pipeline, "window-merge", "window %x was lost when windows were merged", c.set[i])
		}
	}
	return nil
}
