package jobserver

import (
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"padstone/jobserver/internal/rpc"
)

// codeClosing is what a server says that is shutting down.
const codeClosing = "server-closing"

// Gone tells a client of a Server whether an error says that no server is there, or that it is shutting down: then the call may be made
// again once it is back, for jobs outlive their server. An error that a server gives for a reason of its own is none of them.
func Gone(err error) bool {
	s, ok := status.FromError(err)
	if !ok || s.Code() != codes.Unavailable {
		return false
	}
	for _, detail := range s.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == rpc.Domain {
			return info.GetReason() == codeClosing
		}
	}
	return true
}
