package bundle

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"

	"padstone/engine/coder"
	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/engine/scheduler"
	"padstone/engine/window"
	"padstone/internal/fault"
)

// windowMap asks an SDK which window of a side input a main window needs. Answers are kept.
// Spec: beam_runner_api.proto StandardPTransforms.MAP_WINDOWS.
type windowMap struct {
	def     *plan.WindowMap
	role    role
	coding  plan.WindowCoding // of the side input's windows
	scanner *coder.Scanner    // of the output
	mu      struct {
		sync.Mutex
		ends map[string]element.Time // main window → maximum timestamp of the side window
	}
}

// windowsKept bounds the answers that are kept.
const windowsKept = 10_000

func compileMapping(def *plan.WindowMap, coding plan.WindowCoding, number int) (*windowMap, error) {
	out, err := coder.Compile("kv(lp,window(" + string(coding) + "))")
	if err != nil {
		return nil, err
	}
	id := role(fmt.Sprintf("%s%d", mapping, number))
	m := &windowMap{def: def, role: id, coding: coding, scanner: coder.NewScanner(out, plan.GlobalWindow)}
	m.mu.ends = make(map[string]element.Time)
	return m, nil
}

// Map returns, for each side input of a stage whose windows the SDK maps, the largest maximum timestamp of the windows that the
// elements of a block need.
func (f *Fleet) Map(ctx context.Context, r *Runner, stage int, b scheduler.Block) ([]element.Time, error) {
	st := f.job.Stages[stage]
	data, err := r.Load(stage, b)
	if err != nil {
		return nil, err
	}
	mains, err := distinctWindows(st.input, data)
	if err != nil {
		return nil, err
	}
	ends := make([]element.Time, len(st.mappings))
	for i, m := range st.mappings {
		end, ok := m.known(mains)
		if !ok {
			err := f.on(ctx, st, int(b.Seq%1024), m.role, func(slot Slot) (err error) {
				end, err = m.ask(ctx, slot, mains)
				return err
			})
			if err != nil {
				return nil, err
			}
		}
		ends[i] = end
	}
	return ends, nil
}

// distinctWindows lists the windows of a block's elements.
func distinctWindows(e *edge, data []byte) ([]string, error) {
	var all []string
	seen := make(map[string]bool)
	err := e.scanner.Scan(data, func(el *coder.Elem) error {
		rest := el.Windows
		for range el.NWin {
			w, next, err := coder.NextWindow(e.def.Window, rest)
			if err != nil {
				return err
			}
			if rest = next; !seen[string(w)] {
				seen[string(w)] = true
				all = append(all, string(w))
			}
		}
		return nil
	})
	if err != nil {
		return nil, fault.New(fault.Corruption, "corrupt-block", "stored elements do not follow their coder: %w", err)
	}
	return all, nil
}

// known returns the largest of the answers, if there are all of them.
func (m *windowMap) known(mains []string) (latest element.Time, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	latest = element.MinTime
	for _, w := range mains {
		end, ok := m.mu.ends[w]
		if !ok {
			return 0, false
		}
		latest = max(latest, end)
	}
	return latest, true
}

// ask runs one bundle that maps windows, each under its number as the nonce, and returns the largest of the answers.
func (m *windowMap) ask(ctx context.Context, slot Slot, mains []string) (element.Time, error) {
	var data []byte
	for i, w := range mains {
		nonce := binary.AppendUvarint(nil, uint64(i))
		data = coder.AppendHeader(data, element.MinTime, 1, nil, []byte{coder.NoFiring})
		data = append(append(data, byte(len(nonce))), nonce...)
		data = append(data, w...)
	}
	received, err := exchange(ctx, slot, m.def.Read, m.def.Write, [][]byte{data})
	if err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.mu.ends) > windowsKept {
		clear(m.mu.ends)
	}
	latest, answers := element.MinTime, 0
	for _, data := range received {
		err := m.scanner.Scan(data, func(el *coder.Elem) error {
			i, n := binary.Uvarint(el.Key[1:])
			if n <= 0 || i >= uint64(len(mains)) {
				return fmt.Errorf("a mapped window comes under the nonce %x, which is not awaited", el.Key)
			}
			end, err := window.Max(m.coding, el.Rest())
			m.mu.ends[mains[i]] = end
			latest, answers = max(latest, end), answers+1
			return err
		})
		if err != nil {
			return 0, fault.New(fault.Pipeline, "window-mapping", "mapped windows do not read: %w", err)
		}
	}
	if answers != len(mains) {
		return 0, fault.New(fault.Pipeline, "window-mapping", "%d windows were to be mapped to those of a side input, and %d answers came",
			len(mains), answers)
	}
	return latest, nil
}
