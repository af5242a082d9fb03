package engine

import (
	"context"
	"errors"
	"io"
	"sync"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/emptypb"

	"padstone/engine/plan"
	"padstone/internal/fault"
	"padstone/translate"
)

// eventsMethod and fieldOutputIDs are of a proto that the Go module does not have.
// Spec: beam_interactive_api.proto TestStreamService.Events, EventsRequest.output_ids.
const (
	eventsMethod                    = "/org.apache.beam.model.interactive.v1.TestStreamService/Events"
	fieldOutputIDs protowire.Number = 1
)

// eventService is the client of a TestStreamService. The service tells all events from the first with every call, so that a job that
// is recovered passes over those that it has seen.
type eventService struct {
	script *plan.Script
	conn   *grpc.ClientConn
	stream grpc.ClientStream
	next   uint64 // index of the event that the stream tells next
	mu     struct {
		sync.Mutex
		stopped bool
		cancel  context.CancelFunc // of the stream; nil until it is open
	}
}

func newEventService(s *plan.Script) *eventService { return &eventService{script: s} }

// event returns the event with the index, nil at the end. Indexes do not go back. Errors: test-stream-service, test-stream-event.
func (s *eventService) event(ctx context.Context, index uint64) (*plan.ScriptEvent, error) {
	if s.stream == nil {
		if err := s.open(ctx); err != nil {
			return nil, s.failed(err)
		}
	}
	for {
		var event pipepb.TestStreamPayload_Event
		err := s.stream.RecvMsg(&event)
		switch {
		case errors.Is(err, io.EOF), err != nil && s.isStopped():
			return nil, nil
		case err != nil && ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case err != nil:
			return nil, s.failed(err)
		}
		if s.next++; s.next <= index {
			continue
		}
		ev, err := translate.ScriptEvent(s.script, &event)
		if err != nil {
			return nil, fault.New(fault.Pipeline, "test-stream-event", "event %d of %s: %w", index, s.script.Endpoint, err).
				WithHint("look at what serves the events")
		}
		return &ev, nil
	}
}

func (s *eventService) open(ctx context.Context) error {
	var err error
	if s.conn, err = grpc.NewClient(s.script.Endpoint, grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	s.mu.Lock()
	s.mu.cancel = cancel
	s.mu.Unlock()
	s.stream, err = s.conn.NewStream(ctx, &grpc.StreamDesc{StreamName: "Events", ServerStreams: true}, eventsMethod)
	if err != nil {
		return err
	}
	var fields []byte
	for _, tag := range s.script.Tags {
		fields = protowire.AppendString(protowire.AppendTag(fields, fieldOutputIDs, protowire.BytesType), tag)
	}
	request := &emptypb.Empty{}
	request.ProtoReflect().SetUnknown(fields)
	if err := s.stream.SendMsg(request); err != nil {
		return err
	}
	return s.stream.CloseSend()
}

func (s *eventService) failed(err error) error {
	return fault.New(fault.Pipeline, "test-stream-service", "asking %s for events: %w", s.script.Endpoint, err).
		WithHint("check that the TestStreamService runs where the runner can reach it")
}

// stop ends the script where it is. Safe for concurrent use.
func (s *eventService) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.stopped = true
	if s.mu.cancel != nil {
		s.mu.cancel()
	}
}

func (s *eventService) isStopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.stopped
}

// close lets go of the service. No event may be asked for.
func (s *eventService) close() error {
	s.stop()
	if s.conn == nil {
		return nil
	}
	return s.conn.Close()
}
