package engine

import (
	"context"
	"fmt"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"go.uber.org/zap"

	"padstone/internal/fault"
)

// again calls fn until it succeeds, again and again while the environment is to blame; the first failure is a warning to the user.
func (h home) again(ctx context.Context, doing string, fn func() error) error {
	for wait := backoffMin; ; wait = min(wait*2, backoffMax) {
		err := fn()
		if err == nil || ctx.Err() != nil || fault.KindOf(err) != fault.Environment {
			return err
		}
		if wait == backoffMin {
			h.reporter.Message(jobpb.JobMessage_JOB_MESSAGE_WARNING, fmt.Sprintf("%s failed and will be tried again: %v", doing, err))
		}
		h.log.Info("trying again", zap.String("doing", doing), zap.Duration("in", wait), zap.Error(err))
		if err := rest(ctx, wait); err != nil {
			return err
		}
	}
}

// rest waits for so long, or until ctx ends; then it returns the cause.
func rest(ctx context.Context, wait time.Duration) error {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
