package fnapi

import (
	"time"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"go.uber.org/zap"
)

// Severity is a log entry's severity, in the order of gravity. Spec: beam_fn_api.proto LogEntry.Severity.
type Severity int32

const (
	SeverityUnspecified Severity = iota
	SeverityTrace
	SeverityDebug
	SeverityInfo
	SeverityNotice
	SeverityWarn
	SeverityError
	SeverityCritical
)

// LogEntry is one line that a harness logs.
type LogEntry struct {
	Worker        WorkerID
	Severity      Severity
	Time          time.Time
	Message       string
	Trace         string        // exception with stack trace, or ""
	InstructionID InstructionID // the bundle, or ""
	TransformID   string        // id in the descriptor, or ""
	Location      string        // "file:line", or ""
	Thread        string
}

// Logging serves a log stream. It outlives Stop, so that a harness's last words arrive.
func (s *Server) Logging(stream fnpb.BeamFnLogging_LoggingServer) error {
	w, err := s.admit(stream.Context())
	if err != nil {
		return err
	}
	return s.pump(nil, func() error {
		for {
			list, err := stream.Recv()
			if err != nil {
				return nil // a log stream may end at any time; what else is wrong, the control stream tells
			}
			for _, e := range list.GetLogEntries() {
				w.logEntry(e)
			}
		}
	}, nil)
}

// Logs says whether the worker's harness has sent a log entry yet.
func (w *Worker) Logs() bool { return w.logs.Load() }

func (w *Worker) logEntry(e *fnpb.LogEntry) {
	w.logs.Store(true)
	entry := LogEntry{
		Worker: w.spec.ID, Severity: Severity(e.GetSeverity()), Time: e.GetTimestamp().AsTime(),
		Message: e.GetMessage(), Trace: e.GetTrace(),
		InstructionID: InstructionID(e.GetInstructionId()), TransformID: e.GetTransformId(),
		Location: e.GetLogLocation(), Thread: e.GetThread(),
	}
	if log := w.of.Load().Log; log != nil {
		log(entry)
		return
	}
	w.log.Debug("harness log", zap.String("text", entry.Message), zap.String("trace", entry.Trace),
		zap.String("transform", entry.TransformID), zap.String("instruction", string(entry.InstructionID)))
}
