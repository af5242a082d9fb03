package fakesdk

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"math"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
)

// Context is what a DoFn sees of its bundle.
type Context struct {
	bundle *bundle
	node   *node
	fn     DoFn
	done   <-chan struct{}
	ctx    func() context.Context
}

// Name returns the transform's unique name.
func (c *Context) Name() string { return c.node.name }

// Done is closed when the harness is to end.
func (c *Context) Done() <-chan struct{} { return c.done }

// Emit emits an element to an output; "" is the only one.
func (c *Context) Emit(tag string, e Element) error {
	if tag == "" {
		tag = only(c.node.outputs)
	}
	pcollection, ok := c.node.outputs[tag]
	if !ok {
		return fmt.Errorf("%q has no output %q", c.node.name, tag)
	}
	return c.bundle.push(pcollection, e)
}

// Key returns the key of an element of KV type, nested encoding.
func (c *Context) Key(e Element) ([]byte, error) {
	if c.node.inputKey == nil {
		return nil, fmt.Errorf("the input of %q is no KV", c.node.name)
	}
	rest, err := c.node.inputKey(e.Value)
	if err != nil {
		return nil, err
	}
	return e.Value[:len(e.Value)-len(rest)], nil
}

// Count adds to a user counter.
func (c *Context) Count(name string, n int64) {
	c.bundle.mu.Lock()
	defer c.bundle.mu.Unlock()
	c.bundle.counters[counterKey{c.node.id, name}] += n
}

// Took has the harness say that processing elements has taken so many milliseconds.
func (c *Context) Took(ms int64) { c.Count(urnTook, ms) }

// OnFinalize registers a callback for when the bundle is durable.
func (c *Context) OnFinalize(f func() error) {
	c.bundle.mu.Lock()
	defer c.bundle.mu.Unlock()
	c.bundle.finalizes = append(c.bundle.finalizes, f)
}

// SetTimer sets or clears a timer.
func (c *Context) SetTimer(family string, t Timer) error {
	if _, ok := c.node.families[family]; !ok {
		return fmt.Errorf("%q has no timer family %q", c.node.name, family)
	}
	p := timerPort{c.node.id, family}
	c.bundle.timers[p] = t.Append(c.bundle.timers[p])
	return nil
}

// Bag returns the bag state cell of a key and window.
func (c *Context) Bag(cell string, key, window []byte) Bag {
	return Bag{context: c, key: &fnpb.StateKey{Type: &fnpb.StateKey_BagUserState_{BagUserState: &fnpb.StateKey_BagUserState{
		TransformId: c.node.id, UserStateId: cell, Window: window, Key: key,
	}}}}
}

// SideInput returns all encoded elements of an iterable side input for one of its windows.
func (c *Context) SideInput(tag string, window []byte) ([]byte, error) {
	return c.get(&fnpb.StateKey{Type: &fnpb.StateKey_IterableSideInput_{IterableSideInput: &fnpb.StateKey_IterableSideInput{
		TransformId: c.node.id, SideInputId: tag, Window: window,
	}}})
}

// MultimapSide returns all encoded values of a key (nested encoding) of a multimap side input for one of its windows.
func (c *Context) MultimapSide(tag string, window, key []byte) ([]byte, error) {
	return c.get(&fnpb.StateKey{Type: &fnpb.StateKey_MultimapSideInput_{MultimapSideInput: &fnpb.StateKey_MultimapSideInput{
		TransformId: c.node.id, SideInputId: tag, Window: window, Key: key,
	}}})
}

// MultimapSideKeys returns all encoded keys of a multimap side input for one of its windows.
func (c *Context) MultimapSideKeys(tag string, window []byte) ([]byte, error) {
	return c.get(&fnpb.StateKey{Type: &fnpb.StateKey_MultimapKeysSideInput_{MultimapKeysSideInput: &fnpb.StateKey_MultimapKeysSideInput{
		TransformId: c.node.id, SideInputId: tag, Window: window,
	}}})
}

// MultimapSideEntries returns the encoded KV<key, iterable<value>> of a multimap side input for one of its windows.
func (c *Context) MultimapSideEntries(tag string, window []byte) ([]byte, error) {
	return c.get(&fnpb.StateKey{Type: &fnpb.StateKey_MultimapKeysValuesSideInput_{
		MultimapKeysValuesSideInput: &fnpb.StateKey_MultimapKeysValuesSideInput{TransformId: c.node.id, SideInputId: tag, Window: window},
	}})
}

// SidePages returns the pages of an iterable side input, or with a key those of a multimap side input, as they are asked for.
func (c *Context) SidePages(tag string, window, key []byte) iter.Seq2[[]byte, error] {
	state := &fnpb.StateKey{Type: &fnpb.StateKey_IterableSideInput_{IterableSideInput: &fnpb.StateKey_IterableSideInput{
		TransformId: c.node.id, SideInputId: tag, Window: window,
	}}}
	if key != nil {
		state = &fnpb.StateKey{Type: &fnpb.StateKey_MultimapSideInput_{MultimapSideInput: &fnpb.StateKey_MultimapSideInput{
			TransformId: c.node.id, SideInputId: tag, Window: window, Key: key,
		}}}
	}
	return c.eachPage(state)
}

// eachPage yields the pages of a state cell.
func (c *Context) eachPage(key *fnpb.StateKey) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		var token []byte
		for {
			resp, err := c.state(&fnpb.StateRequest{
				StateKey: key, Request: &fnpb.StateRequest_Get{Get: &fnpb.StateGetRequest{ContinuationToken: token}},
			})
			if err != nil {
				yield(nil, err)
				return
			}
			token = resp.GetGet().GetContinuationToken()
			if !yield(resp.GetGet().GetData(), nil) || len(token) == 0 {
				return
			}
		}
	}
}

// get reads all pages of a state cell.
func (c *Context) get(key *fnpb.StateKey) (all []byte, err error) {
	for page, err := range c.eachPage(key) {
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
	}
	return all, nil
}

func (c *Context) state(req *fnpb.StateRequest) (*fnpb.StateResponse, error) {
	s, err := c.bundle.harness.stateClient(c.ctx())
	if err != nil {
		return nil, err
	}
	req.InstructionId = c.bundle.id
	return s.call(req)
}

// Grouped reads an element of KV<K, iterable<V>>: its key, nested encoding, and its encoded values one after the other. Values that
// the runner keeps are asked for page by page, as they are read, anew with each iteration. A value is valid until the next one.
func (c *Context) Grouped(e Element) (key []byte, values iter.Seq2[[]byte, error], err error) {
	if key, err = c.Key(e); err != nil {
		return nil, nil, err
	}
	if c.node.inputValue == nil {
		return nil, nil, fmt.Errorf("the input of %q is not grouped", c.node.name)
	}
	iterable := e.Value[len(key):]
	if token, ok := cutToken(iterable); ok {
		return key, c.pages(&fnpb.StateKey{Type: &fnpb.StateKey_Runner_{Runner: &fnpb.StateKey_Runner{Key: Bytes(token)}}}), nil
	}
	if len(iterable) < 4 || binary.BigEndian.Uint32(iterable) == math.MaxUint32 {
		return nil, nil, fmt.Errorf("the values of %q are in chunks", c.node.name)
	}
	return key, func(yield func([]byte, error) bool) { c.yieldAll(iterable[4:], yield) }, nil
}

// pages reads the values of a state cell as they are asked for.
func (c *Context) pages(key *fnpb.StateKey) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for page, err := range c.eachPage(key) {
			if err != nil {
				yield(nil, err)
				return
			}
			if !c.yieldAll(page, yield) {
				return
			}
		}
	}
}

// yieldAll yields the values of a run until it is told to stop.
func (c *Context) yieldAll(run []byte, yield func([]byte, error) bool) bool {
	for len(run) > 0 {
		rest, err := c.node.inputValue(run)
		if err != nil {
			yield(nil, err)
			return false
		}
		if !yield(run[:len(run)-len(rest)], nil) {
			return false
		}
		run = rest
	}
	return true
}

// Bag is a bag state cell.
type Bag struct {
	context *Context
	key     *fnpb.StateKey
}

// Read returns the bag's encoded elements.
func (b Bag) Read() ([]byte, error) { return b.context.get(b.key) }

// Append adds encoded elements.
func (b Bag) Append(data []byte) error {
	_, err := b.context.state(&fnpb.StateRequest{
		StateKey: b.key, Request: &fnpb.StateRequest_Append{Append: &fnpb.StateAppendRequest{Data: data}},
	})
	return err
}

// Clear empties the bag.
func (b Bag) Clear() error {
	_, err := b.context.state(&fnpb.StateRequest{StateKey: b.key, Request: &fnpb.StateRequest_Clear{Clear: &fnpb.StateClearRequest{}}})
	return err
}
