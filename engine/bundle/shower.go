package bundle

import (
	"encoding/binary"
	"fmt"
	"strings"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"

	"padstone/engine/coder"
	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/engine/show"
	"padstone/engine/window"
)

// shower words elements and timers of a Harness stage.
type shower struct {
	edge   *edge
	coders map[string]*pipepb.Coder
	value  string // coder of an element's value; "" if it is not known
	key    string // of its key
	// created is the coder of what Python's Create decodes in the first step of the stage, whose input is bytes then; "" elsewhere.
	created string
}

// newShower finds the coders of the stage's input in its descriptor.
func newShower(st *Stage) *shower {
	sh := &shower{edge: st.input}
	d := &fnpb.ProcessBundleDescriptor{}
	port := &fnpb.RemoteGrpcPort{}
	if proto.Unmarshal(st.Def.Descriptor, d) != nil ||
		proto.Unmarshal(d.GetTransforms()[st.Def.InputRead].GetSpec().GetPayload(), port) != nil {
		return sh
	}
	sh.coders = d.GetCoders()
	windowed := sh.coders[port.GetCoderId()].GetComponentCoderIds() // value, window
	if len(windowed) == 0 {
		return sh
	}
	sh.value = windowed[0]
	if parts := sh.coders[sh.value].GetComponentCoderIds(); len(parts) == 2 {
		sh.key = parts[0]
	}
	for _, t := range d.GetTransforms() { // Spec: python transforms/core.py Create.expand
		if sh.coders[sh.value].GetSpec().GetUrn() == coderBytes && strings.HasSuffix(t.GetUniqueName(), "/Map(decode)") {
			for _, out := range t.GetOutputs() {
				sh.created = d.GetPcollections()[out].GetCoderId()
			}
		}
	}
	return sh
}

const coderBytes = "beam:coder:bytes:v1"

// element words the first of some encoded elements.
func (sh *shower) element(data []byte) string {
	var el coder.Elem
	if _, err := sh.edge.scanner.Next(data, &el); err != nil {
		return show.Bytes(data)
	}
	value := show.Value(sh.coders, sh.value, el.Value)
	if _, n := binary.Uvarint(el.Value); sh.created != "" && n > 0 {
		value = show.Whole(sh.coders, sh.created, el.Value[n:])
	}
	return fmt.Sprintf("%s, at %v in %s", value, el.TS, sh.windows(el.NWin, el.Windows))
}

// timer words a timer.
func (sh *shower) timer(f *timerFamily, t *coder.Timer) string {
	name := "timer " + fmt.Sprintf("%q", f.def.Family)
	if f.def.OnWindowExpiration {
		name = "the expiration of the window"
	}
	if len(t.Tag) > 0 {
		name += " " + show.Bytes(t.Tag)
	}
	return fmt.Sprintf("%s of key %s, due at %v in %s", name, show.Value(sh.coders, sh.key, t.Key), t.Fire, sh.windows(t.NWin, t.Windows))
}

// windows words encoded windows.
func (sh *shower) windows(n int, data []byte) string {
	const shownMax = 3
	var all []string
	for range min(n, shownMax) {
		w, rest, err := coder.NextWindow(sh.edge.def.Window, data)
		if err != nil {
			return "unknown windows"
		}
		data = rest
		all = append(all, sh.window(w))
	}
	if n > shownMax {
		all = append(all, fmt.Sprintf("%d more windows", n-shownMax))
	}
	return strings.Join(all, ", ")
}

func (sh *shower) window(w []byte) string {
	switch sh.edge.def.Window {
	case plan.GlobalWindow:
		return "the global window"
	case plan.IntervalWindow:
		if s, err := window.ParseSpan(w); err == nil {
			return fmt.Sprintf("the window [%v, %v)", s.Start, s.End)
		}
	}
	last, err := window.Max(sh.edge.def.Window, w)
	if err != nil {
		last = element.MaxTime
	}
	return fmt.Sprintf("a window up to %v", last)
}
