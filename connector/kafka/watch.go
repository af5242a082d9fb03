package kafka

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"go.uber.org/zap"
)

// Limits of the reader's own requests.
const (
	refreshEveryMax = time.Second // how often partition ends are asked for
	refreshEveryMin = 20 * time.Millisecond
	requestTimeout  = 10 * time.Second
	lastCommitWait  = 5 * time.Second
)

// run starts the reader's goroutines; Close ends them and waits.
func (r *reader) run() {
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	r.wg.Go(func() { r.watch(ctx) })
	if r.commit != nil {
		r.wg.Go(func() { r.commitLoop(ctx) })
	}
}

// watch keeps the ends of the partitions known, and looks for new partitions, each time unless another interval was asked for.
func (r *reader) watch(ctx context.Context) {
	every := min(refreshEveryMax, max(r.set.consumer.policy.idleAfter/2, refreshEveryMin))
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	discovered := r.now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		discover := r.cfg.DiscoverySeconds == nil || r.now().Sub(discovered) >= time.Duration(*r.cfg.DiscoverySeconds)*time.Second
		if discover {
			discovered = r.now()
		}
		r.refresh(ctx, discover)
	}
}

// refresh asks for the ends once. Failing leaves what was known; it is logged once an outage.
func (r *reader) refresh(ctx context.Context, discover bool) {
	asked := r.now()
	limited, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	ends, err := r.kafka.admin.ListEndOffsets(limited, r.cfg.Topics...)
	if err == nil {
		err = ends.Error()
	}
	if ctx.Err() != nil {
		return
	}
	fresh := r.noteEnds(ends, asked, err)
	if !discover || err != nil || len(fresh) == 0 {
		return
	}
	if err := r.begin(limited, fresh, true); err != nil {
		r.log.Warn("new partitions cannot be read yet", zap.Error(err))
		return
	}
	r.mu.Lock()
	for _, s := range fresh {
		r.addLocked(s)
		r.log.Info("reading a new partition", zap.String("split", s.name()), zap.Int64("offset", s.next))
	}
	r.mu.Unlock()
	r.assign(fresh)
}

// noteEnds takes over ends and returns the partitions that are not read yet.
func (r *reader) noteEnds(ends kadm.ListedOffsets, asked time.Time, err error) []*split {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		if last := r.kafka.hook.last(); last != nil && isTimeout(err) {
			err = last
		}
		r.problemLocked(err)
	} else if r.mu.problem != "" {
		r.mu.problem = ""
		r.log.Info("brokers answer again", zap.String("brokers", r.kafka.servers))
	}
	var fresh []*split
	for _, o := range ends.Offsets().Sorted() {
		listed, _ := ends.Lookup(o.Topic, o.Partition)
		if listed.Err != nil || o.Partition < 0 || o.At < 0 {
			continue
		}
		if s := r.mu.byID[splitID{o.Topic, o.Partition}]; s != nil {
			s.end, s.checkedAt = o.At, asked
		} else {
			fresh = append(fresh, newSplit(o.Topic, o.Partition, r.topics[o.Topic].id, asked))
		}
	}
	return fresh
}

// problemLocked notes why brokers cannot be asked; the client goes on trying. mu is held.
func (r *reader) problemLocked(err error) {
	if r.mu.problem == "" {
		r.log.Warn("brokers cannot be read; trying on", zap.String("brokers", r.kafka.servers), zap.Error(err))
	}
	r.mu.problem = err.Error()
}

// commitLoop commits durable offsets for the group, for people and dashboards: the source itself never goes back to them.
func (r *reader) commitLoop(ctx context.Context) {
	sent := make(map[splitID]int64)
	healthy := true
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastCommitWait)
			defer cancel()
			if err := r.commitOnce(last, sent); err != nil {
				r.log.Warn("the last offsets were not committed", zap.String("group", r.set.consumer.group), zap.Error(err))
			}
			return
		case <-r.commit:
		}
		err := r.commitOnce(ctx, sent)
		if err != nil && ctx.Err() == nil {
			if healthy {
				r.log.Warn("offsets cannot be committed; trying on", zap.String("group", r.set.consumer.group), zap.Error(err))
			}
			select {
			case r.commit <- struct{}{}:
			default:
			}
		}
		healthy = err == nil
		select {
		case <-time.After(r.set.consumer.commitEvery):
		case <-ctx.Done():
		}
	}
}

// commitOnce commits what is durable and not in sent, and adds it there.
func (r *reader) commitOnce(ctx context.Context, sent map[splitID]int64) error {
	offsets := make(kadm.Offsets)
	r.mu.Lock()
	for id, s := range r.mu.byID {
		if last, ok := sent[id]; s.committed >= 0 && (!ok || last != s.committed) {
			offsets.AddOffset(s.topic, s.partition, s.committed, -1)
		}
	}
	r.mu.Unlock()
	if len(offsets) == 0 {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if _, err := retrying(limited, func() (struct{}, error) {
		return struct{}{}, r.kafka.admin.CommitAllOffsets(limited, r.set.consumer.group, offsets)
	}); err != nil {
		return err
	}
	for _, o := range offsets.Sorted() {
		sent[splitID{o.Topic, o.Partition}] = o.At
	}
	return nil
}
