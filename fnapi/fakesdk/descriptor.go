package fakesdk

import (
	"fmt"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"
)

// Step is one ParDo of a Chain.
type Step struct {
	ID     string // transform id and unique name
	DoFn   string // URN in the DoFn table
	Params []byte // its payload
	URN    string // of the transform; default beam:transform:pardo:v1
	Output string // id of its output's coder, default "bytes"; see Chain
	Timers []string
	Bags   []string
	Side   bool // has the iterable side input "side"
}

// Ids of the transforms that Chain adds.
const (
	SourceID = "source"
	SinkID   = "sink"
)

// Chain returns a descriptor that reads elements of coder input, runs the steps one after the other and writes what comes out. Coder
// ids: "bytes", "kv" (KV<bytes, bytes>), "sized" (KV<KV<bytes, restriction>, size>), "restricted" (KV<bytes, restriction>). Windows
// are global. The endpoint is the server's, for data and state.
func Chain(id, endpoint, input string, steps ...Step) (*fnpb.ProcessBundleDescriptor, error) {
	here := &pipepb.ApiServiceDescriptor{Url: endpoint}
	d := &fnpb.ProcessBundleDescriptor{
		Id: id, StateApiServiceDescriptor: here, TimerApiServiceDescriptor: here, Coders: chainCoders(),
		Transforms: make(map[string]*pipepb.PTransform), Pcollections: make(map[string]*pipepb.PCollection),
		WindowingStrategies: map[string]*pipepb.WindowingStrategy{"global": globalWindowing()},
		Environments:        map[string]*pipepb.Environment{},
	}
	pcollection := func(n int, coder string) string {
		name := fmt.Sprintf("pc%d", n)
		d.Pcollections[name] = &pipepb.PCollection{UniqueName: name, CoderId: coder, WindowingStrategyId: "global"}
		return name
	}
	port := func(coder string) ([]byte, error) {
		return proto.Marshal(&fnpb.RemoteGrpcPort{ApiServiceDescriptor: here, CoderId: "windowed-" + coder})
	}
	payload, err := port(input)
	if err != nil {
		return nil, err
	}
	coder, current := input, pcollection(0, input)
	d.Transforms[SourceID] = &pipepb.PTransform{
		UniqueName: SourceID, Spec: &pipepb.FunctionSpec{Urn: urnSource, Payload: payload}, Outputs: map[string]string{"out": current},
	}
	for i, step := range steps {
		if coder = step.Output; coder == "" {
			coder = "bytes"
		}
		next := pcollection(i+1, coder)
		if d.Transforms[step.ID], err = step.transform(current, next); err != nil {
			return nil, err
		}
		current = next
	}
	if payload, err = port(coder); err != nil {
		return nil, err
	}
	d.Transforms[SinkID] = &pipepb.PTransform{
		UniqueName: SinkID, Spec: &pipepb.FunctionSpec{Urn: urnSink, Payload: payload}, Inputs: map[string]string{"in": current},
	}
	return d, nil
}

// globalWindowing is the default windowing strategy.
func globalWindowing() *pipepb.WindowingStrategy {
	return &pipepb.WindowingStrategy{
		WindowFn: &pipepb.FunctionSpec{Urn: "beam:window_fn:global_windows:v1"}, WindowCoderId: "global",
		MergeStatus: pipepb.MergeStatus_NON_MERGING, AccumulationMode: pipepb.AccumulationMode_DISCARDING,
		Trigger:         &pipepb.Trigger{Trigger: &pipepb.Trigger_Default_{Default: &pipepb.Trigger_Default{}}},
		OutputTime:      pipepb.OutputTime_END_OF_WINDOW,
		ClosingBehavior: pipepb.ClosingBehavior_EMIT_IF_NONEMPTY, OnTimeBehavior: pipepb.OnTimeBehavior_FIRE_IF_NONEMPTY,
	}
}

func (s Step) transform(in, out string) (*pipepb.PTransform, error) {
	pardo := &pipepb.ParDoPayload{
		DoFn:             &pipepb.FunctionSpec{Urn: s.DoFn, Payload: s.Params},
		StateSpecs:       make(map[string]*pipepb.StateSpec),
		TimerFamilySpecs: make(map[string]*pipepb.TimerFamilySpec),
		SideInputs:       make(map[string]*pipepb.SideInput),
	}
	inputs := map[string]string{"in": in}
	for _, name := range s.Timers {
		pardo.TimerFamilySpecs[name] = &pipepb.TimerFamilySpec{TimeDomain: pipepb.TimeDomain_EVENT_TIME, TimerFamilyCoderId: "timer"}
	}
	for _, name := range s.Bags {
		pardo.StateSpecs[name] = &pipepb.StateSpec{
			Spec: &pipepb.StateSpec_BagSpec{BagSpec: &pipepb.BagStateSpec{ElementCoderId: "bytes"}},
		}
	}
	if s.Side {
		pardo.SideInputs["side"] = &pipepb.SideInput{AccessPattern: &pipepb.FunctionSpec{Urn: "beam:side_input:iterable:v1"}}
		inputs["side"] = "pc-side"
	}
	payload, err := proto.Marshal(pardo)
	if err != nil {
		return nil, err
	}
	urn := s.URN
	if urn == "" {
		urn = "beam:transform:pardo:v1"
	}
	return &pipepb.PTransform{
		UniqueName: s.ID, Spec: &pipepb.FunctionSpec{Urn: urn, Payload: payload}, Inputs: inputs, Outputs: map[string]string{"out": out},
	}, nil
}

// chainCoders are the coders of a Chain.
func chainCoders() map[string]*pipepb.Coder {
	coder := func(urn string, parts ...string) *pipepb.Coder {
		return &pipepb.Coder{Spec: &pipepb.FunctionSpec{Urn: "beam:coder:" + urn + ":v1"}, ComponentCoderIds: parts}
	}
	cs := map[string]*pipepb.Coder{
		"bytes": coder("bytes"), "double": coder("double"), "global": coder("global_window"), "kv": coder("kv", "bytes", "bytes"),
		"restricted": coder("kv", "bytes", "bytes"), "sized": coder("kv", "restricted", "double"),
		"timer": coder("timer", "bytes", "global"),
	}
	for _, id := range []string{"bytes", "kv", "restricted", "sized"} {
		cs["windowed-"+id] = coder("windowed_value", id, "global")
	}
	return cs
}
