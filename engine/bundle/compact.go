package bundle

import (
	"bytes"
	"context"
	"fmt"

	"padstone/engine/coder"
	"padstone/engine/element"
	"padstone/engine/group"
	"padstone/engine/plan"
	"padstone/internal/fault"
)

// accumulatorMerge asks an SDK to merge accumulators. The number of a set is the timestamp of its element: a key may stand in several
// windows, and the step keeps timestamps. Spec: beam_runner_api.proto StandardPTransforms.CombineComponents.
type accumulatorMerge struct {
	def     *plan.AccumulatorMerge
	scanner *coder.Scanner // of the output KV<K, A>, framed like the stage's input
}

func compileCompaction(def *plan.Stage, input *edge) *accumulatorMerge {
	return &accumulatorMerge{def: def.Compact, scanner: coder.NewScanner(input.value, plan.GlobalWindow)}
}

// input encodes the sets in messages of a good size.
func (m *accumulatorMerge) input(sets []group.Accumulators) [][]byte {
	var messages [][]byte
	var data []byte
	for i, set := range sets {
		data = coder.AppendHeader(data, element.Time(i), 1, nil, []byte{coder.NoFiring})
		data = append(data, set.Key...)
		data = group.AppendIterable(data, set.Values, set.Count)
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
func (m *accumulatorMerge) output(messages [][]byte, sets []group.Accumulators) ([][]byte, error) {
	merged, found := make([][]byte, len(sets)), 0
	for _, data := range messages {
		err := m.scanner.Scan(data, func(el *coder.Elem) error {
			if el.TS < 0 || int(el.TS) >= len(sets) || merged[el.TS] != nil || !bytes.Equal(el.Key, sets[el.TS].Key) {
				return fmt.Errorf("an accumulator comes for key %x at %d, where none is awaited", el.Key, int64(el.TS))
			}
			merged[el.TS] = append([]byte{}, el.Rest()...)
			found++
			return nil
		})
		if err != nil {
			return nil, fault.New(fault.Pipeline, "accumulator-merge", "merged accumulators do not read: %w", err)
		}
	}
	if found < len(sets) {
		return nil, fault.New(fault.Pipeline, "accumulator-merge", "%d sets of accumulators were to be merged, and %d came back",
			len(sets), found)
	}
	return merged, nil
}

// merge runs one bundle that merges accumulators.
func (m *accumulatorMerge) merge(ctx context.Context, slot Slot, sets []group.Accumulators) ([][]byte, error) {
	received, err := exchange(ctx, slot, m.def.Read, m.def.Write, m.input(sets))
	if err != nil {
		return nil, err
	}
	return m.output(received, sets)
}
