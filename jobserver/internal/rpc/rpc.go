package rpc

import (
	"context"
	"errors"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"padstone/internal/durable"
	"padstone/internal/fault"
)

// statusTextBytesMax bounds the text of a status. It travels percent-encoded in an HTTP/2 trailer, and clients built on gRPC's C core
// (Python) refuse trailers over 8 KiB: a longer text would reach the user as RESOURCE_EXHAUSTED and say nothing.
const statusTextBytesMax = 2000

// Domain is that of the google.rpc.ErrorInfo that every status of a fault carries, with the fault's code as reason. It tells what a server
// says from what its absence looks like.
const Domain = "padstone"

// Error returns err as a gRPC status error; nil stays nil, and what is a status already stays as it is. byCode overrides the status
// of single fault codes, the others follow from the kind.
func Error(err error, byCode func(fault.Code) (codes.Code, bool)) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok && fault.Of(err) == nil {
		return err
	}
	err = durable.Explain(err)
	st := status.New(codeOf(err, byCode), clip(err.Error()))
	if f := fault.Of(err); f != nil {
		if with, err := st.WithDetails(&errdetails.ErrorInfo{Reason: string(f.Code), Domain: Domain}); err == nil {
			st = with
		}
	}
	return st.Err()
}

func codeOf(err error, byCode func(fault.Code) (codes.Code, bool)) codes.Code {
	f := fault.Of(err)
	if f == nil {
		switch {
		case errors.Is(err, context.Canceled):
			return codes.Canceled
		case errors.Is(err, context.DeadlineExceeded):
			return codes.DeadlineExceeded
		default:
			return codes.Internal
		}
	}
	if byCode != nil {
		if code, ok := byCode(f.Code); ok {
			return code
		}
	}
	switch f.Kind {
	case fault.Environment:
		if f.Code == durable.CodeFull {
			return codes.ResourceExhausted
		}
		return codes.Unavailable
	case fault.Pipeline:
		return codes.InvalidArgument
	case fault.Corruption:
		return codes.DataLoss
	case fault.Internal:
		return codes.Internal
	default:
		return codes.Internal
	}
}

// clip cuts text at a rune's border and says so.
func clip(text string) string {
	if len(text) <= statusTextBytesMax {
		return text
	}
	cut := statusTextBytesMax
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + " … (the rest is in the server's log)"
}
