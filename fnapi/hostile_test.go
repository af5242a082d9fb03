package fnapi_test

import (
	"context"
	"errors"
	"math/rand"
	"sync"
	"testing"
	"time"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the codec that garbage wraps
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/timestamppb"

	"padstone/engine/coder/codertest"
	"padstone/fnapi"
	"padstone/fnapi/fakesdk"
	"padstone/internal/fault"
)

// garbage is gRPC's proto codec, except that bytes are sent as they are.
type garbage struct{ encoding.CodecV2 }

func (g garbage) Marshal(v any) (mem.BufferSlice, error) {
	if b, ok := v.([]byte); ok {
		return mem.BufferSlice{mem.SliceBuffer(b)}, nil
	}
	return g.CodecV2.Marshal(v)
}

// liar is a connected harness that says whatever the fuzzer chooses.
type liar struct {
	t       *testing.T
	src     *codertest.Source
	conn    *grpc.ClientConn
	ctx     context.Context
	control fnpb.BeamFnControl_ControlClient
	streams map[string]grpc.ClientStream
}

// ids that a liar knows, the right ones included.
var (
	instructions = []string{"b1", "b2", "call-1", "call-2", "call-3", "dead", ""}
	transforms   = []string{fakesdk.SinkID, fakesdk.SourceID, "stray", ""}
	states       = []string{"/control", "/data", "/state", "/logging"}
)

func (l *liar) of(from []string) string { return from[l.src.Pick(len(from))] }

func (l *liar) bytes() []byte {
	kinds := [][]byte{
		nil, {0xff}, []byte("\x80\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x01\x0f\x01x"), // an element of coder bytes in the global window
		{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}, make([]byte, 1<<16),
	}
	return kinds[l.src.Pick(len(kinds))]
}

// lie does one thing. What fails for the liar is its own affair: the server has ended its streams.
func (l *liar) lie() {
	switch l.src.Pick(12) {
	case 0, 1, 2, 3:
		_ = l.control.Send(l.response())
	case 4, 5, 6, 7:
		if s := l.stream("/data"); s != nil {
			_ = s.SendMsg(l.elements())
		}
	case 8, 9:
		if s := l.stream("/state"); s != nil {
			_ = s.SendMsg(l.stateRequest())
		}
	case 10:
		if s := l.stream("/logging"); s != nil {
			_ = s.SendMsg(&fnpb.LogEntry_List{LogEntries: []*fnpb.LogEntry{
				{Severity: fnpb.LogEntry_Severity_Enum(l.src.Pick(256) - 100), Message: string(l.bytes()), InstructionId: l.of(instructions)},
				{Timestamp: &timestamppb.Timestamp{Seconds: 1 << 62, Nanos: -5}},
			}})
		}
	default:
		l.vandalise()
	}
}

// vandalise does to streams what is not a message.
func (l *liar) vandalise() {
	name := l.of(states)
	switch s := l.streams[name]; l.src.Pick(5) {
	case 0:
		delete(l.streams, name) // the next message opens a second one under the same id
	case 1:
		if s != nil {
			_ = s.CloseSend()
		}
	case 2:
		if s := l.stream(name); s != nil {
			_ = s.SendMsg(l.bytes())
		}
	case 3:
		_ = l.control.CloseSend()
	default:
		ctx := metadata.AppendToOutgoingContext(l.ctx, "worker_id", "somebody else")
		if s, err := fnpb.NewBeamFnDataClient(l.conn).Data(ctx); err == nil {
			_, _ = s.Recv()
		}
	}
}

// stream returns an open stream, opened on first use.
func (l *liar) stream(name string) grpc.ClientStream {
	if s := l.streams[name]; s != nil {
		return s
	}
	ctx := l.ctx
	var s grpc.ClientStream
	var err error
	switch name {
	case "/control":
		s, err = fnpb.NewBeamFnControlClient(l.conn).Control(ctx)
	case "/data":
		if l.src.Pick(4) == 0 {
			ctx = metadata.AppendToOutgoingContext(ctx, "data_stream_id", "s1")
		}
		s, err = fnpb.NewBeamFnDataClient(l.conn).Data(ctx)
	case "/state":
		s, err = fnpb.NewBeamFnStateClient(l.conn).State(ctx)
	default:
		s, err = fnpb.NewBeamFnLoggingClient(l.conn).Logging(ctx)
	}
	if err != nil {
		return nil
	}
	l.streams[name] = s
	return s
}

func (l *liar) response() *fnpb.InstructionResponse {
	r := &fnpb.InstructionResponse{InstructionId: l.of(instructions)}
	switch l.src.Pick(8) {
	case 0:
		r.Error = "Traceback [while running 'x']"
	case 1, 2:
		pb := &fnpb.ProcessBundleResponse{RequiresFinalization: l.src.Pick(2) == 0}
		if l.src.Pick(2) == 0 {
			pb.MonitoringData = map[string][]byte{"unknown": l.bytes()}
		}
		if l.src.Pick(3) == 0 {
			pb.Elements = l.elements()
		}
		r.Response = &fnpb.InstructionResponse_ProcessBundle{ProcessBundle: pb}
	case 3:
		r.Response = &fnpb.InstructionResponse_ProcessBundleProgress{ProcessBundleProgress: &fnpb.ProcessBundleProgressResponse{
			MonitoringData: map[string][]byte{"unknown": l.bytes()},
		}}
	case 4, 5:
		split := &fnpb.ProcessBundleSplitResponse{}
		for range l.src.Pick(3) {
			split.ChannelSplits = append(split.ChannelSplits, &fnpb.ProcessBundleSplitResponse_ChannelSplit{
				TransformId: l.of(transforms), LastPrimaryElement: int64(l.src.Pick(8)) - 3, FirstResidualElement: int64(l.src.Pick(8)) - 3,
			})
		}
		if l.src.Pick(2) == 0 {
			split.ResidualRoots = []*fnpb.DelayedBundleApplication{{}}
		}
		r.Response = &fnpb.InstructionResponse_ProcessBundleSplit{ProcessBundleSplit: split}
	case 6:
		r.Response = &fnpb.InstructionResponse_MonitoringInfos{MonitoringInfos: &fnpb.MonitoringInfosMetadataResponse{
			MonitoringInfo: map[string]*pipepb.MonitoringInfo{"other": {}, "unknown": nil},
		}}
	}
	return r
}

func (l *liar) elements() *fnpb.Elements {
	els := &fnpb.Elements{}
	for range 1 + l.src.Pick(3) {
		if l.src.Pick(4) == 0 {
			els.Timers = append(els.Timers, &fnpb.Elements_Timers{
				InstructionId: l.of(instructions), TransformId: l.of(transforms), TimerFamilyId: l.of(transforms), Timers: l.bytes(),
				IsLast: l.src.Pick(3) == 0,
			})
			continue
		}
		els.Data = append(els.Data, &fnpb.Elements_Data{
			InstructionId: l.of(instructions), TransformId: l.of(transforms), Data: l.bytes(), IsLast: l.src.Pick(3) == 0,
		})
	}
	return els
}

func (l *liar) stateRequest() *fnpb.StateRequest {
	r := &fnpb.StateRequest{Id: l.of(instructions), InstructionId: l.of(instructions)}
	if l.src.Pick(2) == 0 {
		r.StateKey = &fnpb.StateKey{Type: &fnpb.StateKey_Runner_{Runner: &fnpb.StateKey_Runner{Key: l.bytes()}}}
	}
	switch l.src.Pick(4) {
	case 0:
		r.Request = &fnpb.StateRequest_Get{Get: &fnpb.StateGetRequest{ContinuationToken: l.bytes()}}
	case 1:
		r.Request = &fnpb.StateRequest_Append{Append: &fnpb.StateAppendRequest{Data: l.bytes()}}
	case 2:
		r.Request = &fnpb.StateRequest_Clear{}
	}
	return r
}

// echo answers state requests with what it was asked.
type echo struct{}

func (echo) HandleState(_ context.Context, req *fnpb.StateRequest) (*fnpb.StateResponse, error) {
	return &fnpb.StateResponse{Response: &fnpb.StateResponse_Get{
		Get: &fnpb.StateGetResponse{Data: req.GetStateKey().GetRunner().GetKey()},
	}}, nil
}

// FuzzStreams lets a harness say anything on any stream, while bundles run, split, report and end. Every call of the runner must end
// once the harness is gone, with the harness's fault and not with ours, and the next harness must find the server as it should be.
func FuzzStreams(f *testing.F) {
	rnd := rand.New(rand.NewSource(1))
	for i := range 25 {
		choices := make([]byte, 150)
		rnd.Read(choices)
		f.Add(uint8(i), choices)
	}
	f.Fuzz(func(t *testing.T, count uint8, choices []byte) {
		r := newRig(t)
		d := r.describe("d", "bytes", fakesdk.Step{ID: "id", DoFn: "fakesdk:identity"})
		l := newLiar(t, r, choices)
		var runner sync.WaitGroup
		for _, id := range []string{"", "s1"} {
			b, _, err := r.tryStart(fnapi.StartBundle{DescriptorID: d, DataStreamID: id, State: echo{}})
			if err != nil {
				blamed(t, err)
				continue
			}
			use(t, r, b, &runner)
		}
		for range 1 + count%32 {
			l.lie()
		}
		_ = l.control.CloseSend()
		l.conn.Close()
		r.worker.Disconnect("the liar is gone")
		runner.Wait()

		// A stream that the liar opened last may reach the server after the next harness has connected. Its end is taken for that
		// one's, which costs a generation and no more.
		err := served(r, d)
		for range 3 {
			if !errors.Is(err, fnapi.ErrWorkerLost) {
				break
			}
			err = served(r, d)
		}
		if err != nil {
			t.Fatal(err)
		}
	})
}

// served runs a bundle on a harness that behaves.
func served(r *rig, d fnapi.DescriptorID) error {
	h := r.connect(fakesdk.Config{})
	defer h.Close()
	b, out, err := r.tryStart(fnapi.StartBundle{DescriptorID: d})
	if err != nil {
		return err
	}
	if err := r.feed(b, "y"); err != nil {
		return err
	}
	if _, err := b.Wait(r.context()); err != nil {
		return err
	}
	wantStrings(r.t, out.values(r.t), "y")
	return nil
}

// newLiar connects one, and waits until the server knows it.
func newLiar(t *testing.T, r *rig, choices []byte) *liar {
	t.Helper()
	conn := dial(t, r, grpc.WithDefaultCallOptions(grpc.ForceCodecV2(garbage{encoding.GetCodecV2("proto")})))
	l := &liar{t: t, src: codertest.NewSource(choices), conn: conn, ctx: as(r.context(), r.worker.ID())}
	var err error
	if l.control, err = fnpb.NewBeamFnControlClient(conn).Control(l.ctx); err != nil {
		t.Fatal(err)
	}
	l.streams = map[string]grpc.ClientStream{"/control": l.control}
	if err := r.worker.Ready(r.context()); err != nil {
		t.Fatal(err)
	}
	return l
}

// use makes every call that a bundle has.
func use(t *testing.T, r *rig, b *fnapi.Bundle, running *sync.WaitGroup) {
	calls := []func(ctx context.Context) error{
		func(context.Context) error { return r.feed(b, "x") },
		func(ctx context.Context) error { _, err := b.Progress(ctx); return err },
		func(ctx context.Context) error {
			_, err := b.Split(ctx, fnapi.Split{Transform: fakesdk.SourceID, Fraction: 0.5, EstimatedElements: 10})
			return err
		},
		func(ctx context.Context) error {
			resp, err := b.Wait(ctx)
			if err == nil && resp == nil {
				t.Error("a bundle is complete without a response")
			}
			return err
		},
		b.Finalize,
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	for _, call := range calls {
		running.Go(func() { blamed(t, call(ctx)) })
	}
}

// blamed checks that an error says that the harness was lost, broke the protocol or failed.
func blamed(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if e := fault.Of(err); e == nil || e.Code == "" || e.Kind == fault.Internal && e.Code != "fnapi-misuse" {
		t.Errorf("%v", err)
	}
}
