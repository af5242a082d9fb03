package fnapi_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"padstone/fnapi"
	"padstone/fnapi/fakesdk"
	"padstone/internal/fault"
)

// TestSplitOfRestriction splits a splittable DoFn at its third offset, then lets primary and residual run.
func TestSplitOfRestriction(t *testing.T) {
	r := newRig(t)
	claims, proceed := make(chan int64), make(chan struct{})
	r.connect(fakesdk.Config{OnClaim: func(offset int64) {
		if offset == 2 {
			claims <- offset
			<-proceed
		}
	}})
	goOn := sync.OnceFunc(func() { close(proceed) })
	t.Cleanup(goOn)
	d := r.describe("d", "sized", fakesdk.Step{
		ID: "range", DoFn: "fakesdk:range", Params: []byte(`{}`), URN: "beam:transform:sdf_process_sized_element_and_restrictions:v1",
	})
	b, out := r.start(fnapi.StartBundle{DescriptorID: d})
	input := fakesdk.InGlobalWindow(7, fakesdk.Sized(fakesdk.Nested([]byte("x")), 0, 10)).Append(nil)
	if err := b.SendData(r.context(), fakesdk.SourceID, input); err != nil {
		t.Fatal(err)
	}
	<-claims
	progress, err := b.Progress(r.context())
	if err != nil {
		t.Fatal(err)
	}
	payloads := make(map[string]string)
	for _, info := range progress.GetMonitoringInfos() {
		payloads[info.GetUrn()] = fmt.Sprintf("%x", info.GetPayload())
	}
	if got := payloads["beam:metric:data_channel:read_index:v1"]; got != "00" {
		t.Errorf("the source is at element %q, not at the first", got)
	}
	if got := payloads["beam:metric:ptransform_progress:completed:v1"]; got != "000000014008000000000000" { // 3.0
		t.Errorf("%q of the restriction are done, not three offsets", got)
	}
	split, err := b.Split(r.context(), fnapi.Split{Transform: fakesdk.SourceID, Fraction: 0, EstimatedElements: 1})
	if err != nil {
		t.Fatal(err)
	}
	if len(split.GetPrimaryRoots()) != 1 || len(split.GetResidualRoots()) != 1 ||
		split.GetChannelSplits()[0].GetFirstResidualElement() != 1 {
		t.Fatalf("split %v", split)
	}
	goOn()
	if err := b.Finish(r.context()); err != nil {
		t.Fatal(err)
	}
	r.wait(b)
	wantStrings(t, out.values(t), "x:0", "x:1", "x:2")

	rest, out2 := r.start(fnapi.StartBundle{DescriptorID: d})
	residual := split.GetResidualRoots()[0].GetApplication()
	if residual.GetTransformId() != "range" || residual.GetInputId() != "in" {
		t.Fatalf("residual %v", residual)
	}
	if err := rest.SendData(r.context(), fakesdk.SourceID, residual.GetElement()); err != nil {
		t.Fatal(err)
	}
	if err := rest.Finish(r.context()); err != nil {
		t.Fatal(err)
	}
	r.wait(rest)
	wantStrings(t, out2.values(t), "x:3", "x:4", "x:5", "x:6", "x:7", "x:8", "x:9")
}

func TestSelfCheckpoint(t *testing.T) {
	r := newRig(t)
	r.connect(fakesdk.Config{})
	d := r.describe("d", "bytes",
		fakesdk.Step{ID: "pair", DoFn: "fakesdk:range", Params: []byte(`{"From":0,"To":5}`),
			URN: "beam:transform:sdf_pair_with_restriction:v1", Output: "restricted"},
		fakesdk.Step{ID: "split", DoFn: "fakesdk:range", Params: []byte(`{"Pieces":1}`),
			URN: "beam:transform:sdf_split_and_size_restrictions:v1", Output: "sized"},
		fakesdk.Step{ID: "process", DoFn: "fakesdk:range", Params: []byte(`{"Checkpoint":2,"Unbounded":true}`),
			URN: "beam:transform:sdf_process_sized_element_and_restrictions:v1"})
	b, out := r.start(fnapi.StartBundle{DescriptorID: d})
	if err := r.feed(b, "x"); err != nil {
		t.Fatal(err)
	}
	resp := r.wait(b)
	wantStrings(t, out.values(t), "x:0", "x:1")
	if len(resp.GetResidualRoots()) != 1 || resp.GetResidualRoots()[0].GetApplication().GetIsBounded() != pipepb.IsBounded_UNBOUNDED {
		t.Fatalf("residuals %v", resp.GetResidualRoots())
	}
}

func TestFinalize(t *testing.T) {
	r := newRig(t)
	r.connect(fakesdk.Config{})
	d := r.describe("d", "bytes", fakesdk.Step{ID: "f", DoFn: "fakesdk:finalize"})
	b, _ := r.start(fnapi.StartBundle{DescriptorID: d})
	if err := r.feed(b, "x"); err != nil {
		t.Fatal(err)
	}
	if resp := r.wait(b); !resp.GetRequiresFinalization() {
		t.Fatal("no finalization wanted")
	}
	if err := b.Finalize(r.context()); err != nil {
		t.Fatal(err)
	}
	wantCode(t, b.Finalize(r.context()), fault.Environment, "harness-request-failed")
}

func dial(t *testing.T, r *rig, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(r.server.Endpoint(), append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func as(ctx context.Context, id fnapi.WorkerID) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "worker_id", string(id))
}

func TestOnlyExpectedWorkersAreAdmitted(t *testing.T) {
	r := newRig(t)
	conn := dial(t, r)
	for _, ctx := range []context.Context{
		r.context(), as(r.context(), ""), as(r.context(), "guess"), as(as(r.context(), r.worker.ID()), "x"),
	} {
		_, err := fnpb.NewProvisionServiceClient(conn).GetProvisionInfo(ctx, &fnpb.GetProvisionInfoRequest{})
		if status.Code(err) != codes.PermissionDenied {
			t.Fatalf("GetProvisionInfo: %v", err)
		}
		streams := map[string]func() error{
			"control": func() error {
				s, err := fnpb.NewBeamFnControlClient(conn).Control(ctx)
				if err == nil {
					_, err = s.Recv()
				}
				return err
			},
			"data": func() error {
				s, err := fnpb.NewBeamFnDataClient(conn).Data(ctx)
				if err == nil {
					_, err = s.Recv()
				}
				return err
			},
			"state": func() error {
				s, err := fnpb.NewBeamFnStateClient(conn).State(ctx)
				if err == nil {
					_, err = s.Recv()
				}
				return err
			},
			"logging": func() error {
				s, err := fnpb.NewBeamFnLoggingClient(conn).Logging(ctx)
				if err == nil {
					_, err = s.Recv()
				}
				return err
			},
			"status": func() error {
				s, err := fnpb.NewBeamFnWorkerStatusClient(conn).WorkerStatus(ctx)
				if err == nil {
					_, err = s.Recv()
				}
				return err
			},
		}
		for name, open := range streams {
			if err := open(); status.Code(err) != codes.PermissionDenied {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
}

// TestDescriptorsNeedAnID: the TypeScript SDK fetches descriptors without metadata, so a descriptor's own id admits. A wrong worker id
// does not become right by it.
func TestDescriptorsNeedAnID(t *testing.T) {
	r := newRig(t)
	d := r.describe("d", "bytes", fakesdk.Step{ID: "id", DoFn: "fakesdk:identity"})
	for _, c := range []struct {
		ctx  context.Context
		id   fnapi.DescriptorID
		want codes.Code
	}{
		{r.context(), d, codes.OK},
		{as(r.context(), r.worker.ID()), d, codes.OK},
		{as(r.context(), r.worker.ID()), "other", codes.NotFound},
		{r.context(), "other", codes.PermissionDenied},
		{r.context(), "", codes.PermissionDenied},
		{as(r.context(), "guess"), d, codes.PermissionDenied},
		{as(r.context(), ""), d, codes.PermissionDenied},
	} {
		got, err := fnpb.NewBeamFnControlClient(dial(t, r)).GetProcessBundleDescriptor(c.ctx,
			&fnpb.GetProcessBundleDescriptorRequest{ProcessBundleDescriptorId: string(c.id)})
		if status.Code(err) != c.want || err == nil && got.GetId() != string(d) {
			t.Errorf("%q: %v, %v; want %s", c.id, got.GetId(), err, c.want)
		}
	}
}

// TestStreamsNeedControl: data and state belong to a generation.
func TestStreamsNeedControl(t *testing.T) {
	r := newRig(t)
	s, err := fnpb.NewBeamFnDataClient(dial(t, r)).Data(as(r.context(), r.worker.ID()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); status.Code(err) != codes.Unavailable {
		t.Fatalf("got %v", err)
	}
}

func TestProvision(t *testing.T) {
	r := newRig(t)
	options, err := structpb.NewStruct(map[string]any{"beam:option:streaming:v1": true})
	if err != nil {
		t.Fatal(err)
	}
	dep := &pipepb.ArtifactInformation{TypeUrn: "beam:artifact:type:file:v1"}
	w, err := r.server.Expect(fnapi.WorkerSpec{
		ID: fnapi.NewWorkerID("job/with strange:name"), Environment: &pipepb.Environment{Dependencies: []*pipepb.ArtifactInformation{dep}},
		Options: options, ArtifactEndpoint: "localhost:8098", RetrievalToken: "token", JobID: "j1", JobName: "n1",
	})
	if err != nil {
		t.Fatal(err)
	}
	if w.Provisioned() {
		t.Fatal("provisioned before it asked")
	}
	resp, err := fnpb.NewProvisionServiceClient(dial(t, r)).GetProvisionInfo(as(r.context(), w.ID()), &fnpb.GetProvisionInfoRequest{})
	if err != nil {
		t.Fatal(err)
	}
	info := resp.GetInfo()
	got := []string{
		info.GetControlEndpoint().GetUrl(), info.GetLoggingEndpoint().GetUrl(), info.GetStatusEndpoint().GetUrl(),
		info.GetArtifactEndpoint().GetUrl(), info.GetRetrievalToken(), info.GetMetadata()["job_id"], info.GetMetadata()["job_name"],
		fmt.Sprint(len(info.GetDependencies())), fmt.Sprint(info.GetPipelineOptions().AsMap()["beam:option:streaming:v1"]),
	}
	e := r.server.Endpoint()
	wantStrings(t, got, e, e, e, e, "token", "j1", "n1", "1", "true")
	if !w.Provisioned() || len(info.GetRunnerCapabilities()) != 3 {
		t.Fatalf("provisioned %t, capabilities %v", w.Provisioned(), info.GetRunnerCapabilities())
	}
}

func TestLogging(t *testing.T) {
	r := newRig(t)
	got := make(chan fnapi.LogEntry, 2)
	w, err := r.server.Expect(fnapi.WorkerSpec{ID: "logs", Log: func(e fnapi.LogEntry) { got <- e }})
	if err != nil {
		t.Fatal(err)
	}
	stream, err := fnpb.NewBeamFnLoggingClient(dial(t, r)).Logging(as(r.context(), w.ID()))
	if err != nil {
		t.Fatal(err)
	}
	at := time.UnixMilli(1700000000123).UTC()
	list := &fnpb.LogEntry_List{LogEntries: []*fnpb.LogEntry{
		{Severity: fnpb.LogEntry_Severity_WARN, Timestamp: timestamppb.New(at), Message: "one", InstructionId: "b1", TransformId: "t1"},
		{Message: "two"},
	}}
	if err := stream.Send(list); err != nil {
		t.Fatal(err)
	}
	one, two := <-got, <-got
	if one.Severity != fnapi.SeverityWarn || !one.Time.Equal(at) || one.InstructionID != "b1" || one.TransformID != "t1" ||
		two.Message != "two" {
		t.Fatalf("%+v, %+v", one, two)
	}
	w.Stop() // a harness's last words still arrive
	if err := stream.Send(&fnpb.LogEntry_List{LogEntries: []*fnpb.LogEntry{{Message: "last words"}}}); err != nil {
		t.Fatal(err)
	}
	if e := <-got; e.Message != "last words" {
		t.Fatalf("%+v", e)
	}
}

func TestStatus(t *testing.T) {
	r := newRig(t)
	_, err := r.worker.Status(r.context())
	wantCode(t, err, fault.Environment, "harness-status-unavailable")
	stream, err := fnpb.NewBeamFnWorkerStatusClient(dial(t, r)).WorkerStatus(as(r.context(), r.worker.ID()))
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() {
		for _, answer := range []*fnpb.WorkerStatusResponse{{StatusInfo: "threads: 1"}, {Error: "no"}} {
			req, err := stream.Recv()
			if err != nil {
				answered <- err
				return
			}
			if err := stream.Send(&fnpb.WorkerStatusResponse{Id: "stray"}); err != nil {
				answered <- err
				return
			}
			answer.Id = req.GetId()
			if err := stream.Send(answer); err != nil {
				answered <- err
				return
			}
		}
		answered <- stream.CloseSend()
	}()
	text := ""
	for ; text == ""; time.Sleep(time.Millisecond) { // until the server has seen the stream
		if text, err = r.worker.Status(r.context()); err != nil {
			if f := fault.Of(err); f == nil || !strings.Contains(f.Msg, "does not offer") {
				t.Fatal(err)
			}
		}
	}
	if text != "threads: 1" {
		t.Fatalf("%q", text)
	}
	_, err = r.worker.Status(r.context())
	wantCode(t, err, fault.Environment, "harness-status-unavailable")
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
}

// TestStatusOfAHarnessThatHangs: many ask, nobody is answered, and each is told so in time.
func TestStatusOfAHarnessThatHangs(t *testing.T) {
	r := newRig(t)
	stream, err := fnpb.NewBeamFnWorkerStatusClient(dial(t, r)).WorkerStatus(as(r.context(), r.worker.ID()))
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < 10; {
		ctx, cancel := context.WithTimeout(r.context(), 10*time.Millisecond)
		_, err := r.worker.Status(ctx)
		cancel()
		wantCode(t, err, fault.Environment, "harness-status-unavailable")
		if strings.Contains(fault.Of(err).Msg, "does not answer") { // else the server has not seen the stream yet
			n++
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
}

// answering connects a harness of nothing but a control stream, and answers questions for progress as answers says: "" is no answer.
func answering(t *testing.T, r *rig, answers func(instruction string) string) {
	t.Helper()
	control, err := fnpb.NewBeamFnControlClient(dial(t, r)).Control(as(r.context(), r.worker.ID()))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.worker.Ready(r.context()); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			req, err := control.Recv()
			if err != nil {
				return
			}
			if p := req.GetProcessBundleProgress(); p != nil {
				if text := answers(p.GetInstructionId()); text != "" {
					_ = control.Send(&fnpb.InstructionResponse{InstructionId: req.GetInstructionId(), Error: text})
				}
			}
		}
	}()
}

// TestMuteBundle has a harness that loses all that it wants to say of a bundle, as the Python SDK does when it cannot encode a traceback.
func TestMuteBundle(t *testing.T) {
	r := newRig(t)
	answering(t, r, func(instruction string) string {
		if strings.HasPrefix(instruction, "b") {
			return ""
		}
		return "Traceback: RuntimeError: Unknown process bundle id " + instruction
	})
	b, _ := r.start(fnapi.StartBundle{DescriptorID: r.describe("d", "bytes", fakesdk.Step{ID: "id", DoFn: "fakesdk:identity"})})
	if _, err := b.Progress(r.context()); fault.Of(err) == nil || fault.Of(err).Code != "bundle-failed" {
		t.Errorf("progress: %v", err)
	}
	_, err := b.Wait(r.context())
	if f := fault.Of(err); f == nil || f.Kind != fault.Pipeline || f.Code != "bundle-failed" || !strings.Contains(f.Msg, "cannot encode") {
		t.Errorf("the bundle ends with %v", err)
	}
}

// TestSlowAnswer checks that a harness which answers questions in any order may take its time.
func TestSlowAnswer(t *testing.T) {
	r := newRig(t)
	probed := make(chan string, 1)
	answering(t, r, func(instruction string) string {
		if strings.HasPrefix(instruction, "b") {
			return ""
		}
		probed <- instruction
		return "no such bundle"
	})
	b, _ := r.start(fnapi.StartBundle{DescriptorID: r.describe("d", "bytes", fakesdk.Step{ID: "id", DoFn: "fakesdk:identity"})})
	ctx, cancel := context.WithCancel(r.context())
	asked := make(chan error, 1)
	go func() {
		_, err := b.Progress(ctx)
		asked <- err
	}()
	<-probed
	cancel()
	if err := <-asked; !errors.Is(err, context.Canceled) {
		t.Errorf("progress: %v", err)
	}
	select {
	case <-b.Done():
		t.Error("the bundle has ended")
	default:
	}
}
