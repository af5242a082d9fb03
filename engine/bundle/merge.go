package bundle

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"

	"padstone/engine/coder"
	"padstone/engine/element"
	"padstone/engine/group"
	"padstone/engine/plan"
	"padstone/fnapi"
	"padstone/internal/buffers"
	"padstone/internal/fault"
)

// windowMerge asks an SDK to merge windows: it writes the input of one bundle and reads its output.
// Spec: beam_runner_api.proto StandardPTransforms.MERGE_WINDOWS.
type windowMerge struct {
	def     *plan.WindowMerge
	coding  plan.WindowCoding
	scanner *coder.Scanner // of the output
}

func compileMerge(def *plan.Stage) (*windowMerge, error) {
	w := "window(" + string(def.Windowing.Coding) + ")"
	out, err := coder.Compile("kv(lp,kv(iter(" + w + "),iter(kv(" + w + ",iter(" + w + ")))))")
	if err != nil {
		return nil, err
	}
	return &windowMerge{def: def.Merge, coding: def.Windowing.Coding, scanner: coder.NewScanner(out, plan.GlobalWindow)}, nil
}

// input encodes the sets, each under its number as the nonce, in messages of a good size.
func (m *windowMerge) input(sets [][][]byte) [][]byte {
	var messages [][]byte
	var data []byte
	for i, set := range sets {
		nonce := binary.AppendUvarint(nil, uint64(i))
		data = coder.AppendHeader(data, element.MinTime, 1, nil, []byte{coder.NoFiring})
		data = append(append(data, byte(len(nonce))), nonce...)
		data = binary.BigEndian.AppendUint32(data, uint32(len(set)))
		for _, w := range set {
			data = append(data, w...)
		}
		if len(data) >= messageBytes {
			messages, data = append(messages, data), nil
		}
	}
	if len(data) > 0 {
		messages = append(messages, data)
	}
	return messages
}

// output decodes what came back for the sets.
func (m *windowMerge) output(messages [][]byte, sets [][][]byte) ([][]group.Merged, error) {
	merged := make([][]group.Merged, len(sets))
	for _, data := range messages {
		err := m.scanner.Scan(data, func(el *coder.Elem) error {
			i, n := binary.Uvarint(el.Key[1:])
			if n <= 0 || i >= uint64(len(sets)) || merged[i] != nil {
				return fmt.Errorf("merged windows come under the nonce %x, which is not awaited", el.Key)
			}
			var err error
			merged[i], err = m.set(el.Rest(), sets[i])
			return err
		})
		if err != nil {
			return nil, fault.New(fault.Pipeline, "window-merge", "merged windows do not read: %w", err)
		}
	}
	for i := range merged {
		if merged[i] == nil {
			return nil, fault.New(fault.Pipeline, "window-merge", "%d sets of windows were to be merged, and one is missing", len(sets))
		}
	}
	return merged, nil
}

// set decodes KV<iterable<unmerged>, iterable<KV<merged, iterable<window>>>>, which has been framed already.
func (m *windowMerge) set(b []byte, set [][]byte) ([]group.Merged, error) {
	index := make(map[string]int, len(set))
	for i, w := range set {
		index[string(w)] = i
	}
	find := func(w []byte) (int, error) {
		i, ok := index[string(w)]
		if !ok {
			return 0, fmt.Errorf("window %x was merged, which nobody has sent", w)
		}
		return i, nil
	}
	out := make([]group.Merged, 0, len(set))
	b, err := m.each(b, func(b []byte) ([]byte, error) {
		w, rest, err := coder.NextWindow(m.coding, b)
		if err != nil {
			return nil, err
		}
		i, err := find(w)
		out = append(out, group.Merged{Window: w, From: []int{i}})
		return rest, err
	})
	if err != nil {
		return nil, err
	}
	_, err = m.each(b, func(b []byte) ([]byte, error) {
		w, rest, err := coder.NextWindow(m.coding, b)
		if err != nil {
			return nil, err
		}
		one := group.Merged{Window: w}
		rest, err = m.each(rest, func(b []byte) ([]byte, error) {
			w, rest, err := coder.NextWindow(m.coding, b)
			if err != nil {
				return nil, err
			}
			i, err := find(w)
			one.From = append(one.From, i)
			return rest, err
		})
		out = append(out, one)
		return rest, err
	})
	return out, err
}

// each calls fn for the elements of an iterable, with or without a length; fn returns what follows its element.
func (m *windowMerge) each(b []byte, fn func(b []byte) ([]byte, error)) (rest []byte, err error) {
	count := int64(int32(binary.BigEndian.Uint32(b)))
	b = b[4:]
	chunked := count < 0
	for {
		if chunked {
			chunk, n := binary.Uvarint(b)
			count, b = int64(chunk), b[n:]
		}
		for range count {
			if b, err = fn(b); err != nil {
				return nil, err
			}
		}
		if !chunked || count <= 0 {
			return b, nil
		}
	}
}

// merge runs one bundle that merges windows.
func (m *windowMerge) merge(ctx context.Context, slot Slot, sets [][][]byte) ([][]group.Merged, error) {
	received, err := exchange(ctx, slot, m.def.Read, m.def.Write, m.input(sets))
	if err != nil {
		return nil, err
	}
	return m.output(received, sets)
}

// exchange runs one bundle of a single step: it writes the messages and returns those that come back.
func exchange(ctx context.Context, slot Slot, read, write string, messages [][]byte) ([][]byte, error) {
	var received struct {
		sync.Mutex
		data [][]byte
	}
	b, err := slot.Worker.StartBundle(ctx, fnapi.StartBundle{
		InstructionID: slot.Instruction, DescriptorID: slot.Descriptor, DataStreamID: slot.DataStream,
		Inputs: []string{read}, Outputs: []string{write},
		OnData: func(_ string, data []byte, _ *buffers.Buffer) {
			received.Lock()
			defer received.Unlock()
			received.data = append(received.data, data)
		},
	})
	if err != nil {
		return nil, err
	}
	for _, data := range messages {
		if err == nil {
			err = b.SendData(ctx, read, data)
		}
	}
	if err == nil {
		err = b.Finish(ctx)
	}
	if err == nil {
		_, err = b.Wait(ctx)
	}
	if err != nil {
		b.Abandon(err)
		return nil, err
	}
	return received.data, nil
}
