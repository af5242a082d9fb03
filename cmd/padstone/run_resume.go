package main

import (
	"context"
	"errors"
	"io"
	"strconv"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"padstone/jobserver"
)

// Streams of the Job service. Spec: beam_job_api.proto JobService; a server sends each from the job's beginning.
var (
	methodStates   = "/" + jobpb.JobService_ServiceDesc.ServiceName + "/GetStateStream"
	methodMessages = "/" + jobpb.JobService_ServiceDesc.ServiceName + "/GetMessageStream"
)

// call passes on a call with one request, again and again while the server is gone. Those of the Job service may be repeated: Run asks
// for the job of its preparation, Cancel and Drain for an end, Prepare at worst leaves a preparation that expires. A stream that
// was cut off goes on where it was.
func (p *jobProxy) call(ctx context.Context, method string, script grpc.ServerStream) error {
	var request frame
	if err := script.RecvMsg(&request); err != nil {
		return err
	}
	sent := &delivered{method: method}
	for wait := time.Duration(0); ; {
		err := p.attempt(ctx, method, &request, script, sent)
		if err == nil || !p.link.await(ctx, err, &wait) {
			return p.link.errGone(err)
		}
	}
}

// attempt makes the call once and hands the script those of the answers that it has not had.
func (p *jobProxy) attempt(ctx context.Context, method string, request *frame, script grpc.ServerStream, sent *delivered) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	server, err := p.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, method, grpc.ForceCodecV2(frameCodec{}))
	if err != nil {
		return err
	}
	if err := server.SendMsg(request); err != nil && !errors.Is(err, io.EOF) { // EOF: RecvMsg has the reason
		return err
	}
	if err := server.CloseSend(); err != nil {
		return err
	}
	header, err := server.Header()
	if err != nil {
		return err
	}
	if err := sent.header(script, header); err != nil {
		return err
	}
	sent.again()
	for {
		var f frame
		if err := server.RecvMsg(&f); errors.Is(err, io.EOF) {
			script.SetTrailer(server.Trailer())
			p.link.answered()
			return nil
		} else if err != nil {
			if !jobserver.Gone(err) {
				p.link.answered()
			}
			return err
		}
		p.link.answered()
		p.learn(method, &f)
		if !sent.isNew(f.data) {
			continue
		}
		if err := script.SendMsg(&f); err != nil {
			return err
		}
	}
}

// learn looks into an answer of Run.
func (p *jobProxy) learn(method string, f *frame) {
	if method != methodRun {
		return
	}
	var response jobpb.RunJobResponse
	if err := proto.Unmarshal(f.data, &response); err == nil && response.GetJobId() != "" {
		p.onJob(response.GetJobId())
	}
}

// delivered is what a script has had of a stream: states are counted, since a server keeps all of them, messages are told by their numbers,
// since it keeps the latest only.
type delivered struct {
	method    string
	hasHeader bool
	states    int // in all
	message   int64
	repeated  int // states of the present attempt
}

// header sends the script the header of the first answer; those of later attempts say nothing new.
func (d *delivered) header(script grpc.ServerStream, md metadata.MD) error {
	if d.hasHeader {
		return nil
	}
	d.hasHeader = true
	return script.SendHeader(md)
}

// again says that the stream begins from its beginning.
func (d *delivered) again() { d.repeated = 0 }

// isNew tells whether the script has not had this answer, and notes it.
func (d *delivered) isNew(data []byte) bool {
	switch d.method {
	case methodStates:
		return d.isNewState()
	case methodMessages:
		var response jobpb.JobMessagesResponse
		if proto.Unmarshal(data, &response) != nil {
			return true // the script will say what is wrong with it
		}
		if response.GetMessageResponse() == nil {
			return d.isNewState()
		}
		number, err := strconv.ParseInt(response.GetMessageResponse().GetMessageId(), 10, 64)
		if err != nil {
			return true
		}
		if number <= d.message {
			return false
		}
		d.message = number
	}
	return true
}

func (d *delivered) isNewState() bool {
	if d.repeated++; d.repeated <= d.states {
		return false
	}
	d.states++
	return true
}
