package fakesdk

import (
	"context"
	"errors"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
)

// Fault is how a bundle goes wrong.
type Fault int

const (
	NoFault            Fault = iota
	Fail                     // answer with an error
	NeverAnswer              // read the input and say nothing, until the connection ends
	DropConnection           // break all streams when the bundle begins, as a crash does
	DropDataStream           // break the bundle's data stream
	BreakDataStream          // break the bundle's data stream, and answer with an error that tells of it
	CloseDataStream          // half-close the bundle's data stream before any output
	DoubleLast               // send the end marker of an output twice, then the response
	UnknownTransform         // send data for a transform that is no output
	UnknownInstruction       // send data and a response for an instruction that does not exist, then go on as usual
	AnswerTwice              // send the response twice
	AnswerEarly              // answer before reading the input
	WrongAnswer              // answer without a ProcessBundleResponse
	DeadState                // ask for the state of an instruction that does not exist; fail with the error, if one comes
	WithholdLast             // answer without the end markers
)

// errSilent ends a bundle without an answer.
var errSilent = errors.New("no answer")

// streamBroke is a stack trace, as a Python harness answers when its data stream has broken.
type streamBroke struct{}

func (streamBroke) Error() string {
	return "Traceback (most recent call last): RuntimeError: Channel closed prematurely."
}

// before is where faults strike at the begin of a bundle.
func (b *bundle) before(ctx context.Context, ds *dataStream) error {
	switch b.fault {
	case Fail:
		return errors.New("this bundle fails")
	case NeverAnswer:
		<-ctx.Done()
		return errSilent
	case DropConnection:
		b.harness.cancel()
		return errSilent
	case DropDataStream:
		ds.cancel()
		<-ctx.Done()
		return errSilent
	case BreakDataStream:
		ds.cancel()
		return streamBroke{}
	case CloseDataStream:
		ds.mu.Lock()
		err := ds.stream.CloseSend()
		ds.mu.Unlock()
		<-ctx.Done()
		return errors.Join(err, errSilent)
	case AnswerEarly:
		b.harness.respond(&fnpb.InstructionResponse{InstructionId: b.id, Response: &fnpb.InstructionResponse_ProcessBundle{
			ProcessBundle: &fnpb.ProcessBundleResponse{},
		}})
		return errSilent
	case DeadState:
		state, err := b.harness.stateClient(ctx)
		if err != nil {
			return err
		}
		_, err = state.call(&fnpb.StateRequest{
			InstructionId: b.id + "-dead", Request: &fnpb.StateRequest_Get{Get: &fnpb.StateGetRequest{}},
		})
		return err
	}
	return nil
}

// after is where faults strike at the end of a bundle.
func (b *bundle) after(ds *dataStream, els *fnpb.Elements) error {
	stray := &fnpb.Elements_Data{InstructionId: b.id, TransformId: "stray", Data: []byte("stray")}
	switch b.fault {
	case DoubleLast:
		for _, d := range els.GetData() {
			if d.GetIsLast() {
				els.Data = append(els.Data, d)
				break
			}
		}
	case UnknownTransform:
		return ds.send(&fnpb.Elements{Data: []*fnpb.Elements_Data{stray}})
	case UnknownInstruction:
		stray.InstructionId = b.id + "-dead"
		b.harness.respond(&fnpb.InstructionResponse{InstructionId: stray.InstructionId})
		return ds.send(&fnpb.Elements{Data: []*fnpb.Elements_Data{stray}})
	case WithholdLast:
		els.Data, els.Timers = nil, nil
	}
	return nil
}
