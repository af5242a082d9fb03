package engine

import (
	"context"
	"sync"
	"time"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
)

// committedFor is how long a caller waits for the newest commits to be durable before it gets the metrics of earlier ones.
const committedFor = time.Second

// committedMetrics are the metrics of commits that are durable: what is called committed must not be taken back by a crash. Safe for
// concurrent use.
type committedMetrics struct {
	mu    sync.Mutex
	seq   uint64
	infos []*pipepb.MonitoringInfo
}

// at returns the metrics at a commit, once it is durable, or those of an earlier one if that takes too long.
func (c *committedMetrics) at(ctx context.Context, j *job, seq uint64, infos []*pipepb.MonitoringInfo) []*pipepb.MonitoringInfo {
	ctx, cancel := context.WithTimeout(ctx, committedFor)
	defer cancel()
	if j.store.WaitDurable(ctx, seq) == nil {
		c.set(seq, infos)
	}
	return c.last()
}

// last returns the last metrics that are known to be durable.
func (c *committedMetrics) last() []*pipepb.MonitoringInfo {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.infos
}

// set makes the metrics of a durable commit known.
func (c *committedMetrics) set(seq uint64, infos []*pipepb.MonitoringInfo) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if seq >= c.seq {
		c.seq, c.infos = seq, infos
	}
}
