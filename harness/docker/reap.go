package docker

import (
	"context"
	"slices"
	"sync"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"go.uber.org/zap"
)

// Reap removes the containers that a former server on the same data directory has left, and returns how many there were. Those of other
// servers and of this process are left alone. An Engine that is not there has none.
func (e *Engine) Reap(ctx context.Context) (int, error) {
	n, err := e.ReapOf(ctx, e.cfg.Owner)
	if client.IsErrConnectionFailed(err) {
		return 0, nil
	}
	return n, err
}

// ReapOf removes the containers of another owner, which must be known to be dead, likewise. Errors: docker-no-engine, docker-refused.
func (e *Engine) ReapOf(ctx context.Context, owner string) (int, error) {
	list, err := e.list(ctx, LabelServer, owner)
	if err != nil {
		return 0, e.failed(ctx, "list containers", err)
	}
	removed := 0
	for _, c := range list {
		if c.Labels[LabelRun] == e.run {
			continue
		}
		e.log.Info("removing a container of a former server", zap.Strings("container", c.Names), zap.String("job", c.Labels[LabelJobName]))
		e.remove(c.ID)
		removed++
	}
	return removed, nil
}

// leftovers are containers that could not be removed yet.
type leftovers struct {
	mu      sync.Mutex
	ids     map[string]bool
	late    map[string]time.Time // calls that may yet create a container, and until when one is looked for
	retried bool                 // a goroutine is at it
}

func (l *leftovers) any() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.ids)+len(l.late) > 0
}

// list returns the ids, and the calls with whether it is time to forget them.
func (l *leftovers) list() (ids []string, late map[string]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	late = make(map[string]bool)
	for id := range l.ids {
		ids = append(ids, id)
	}
	for attempt, until := range l.late {
		late[attempt] = time.Now().After(until)
	}
	return ids, late
}

// remove kills and removes a container, with the volumes that have no name. If the Engine does not do it now it is tried again, until
// Close.
func (e *Engine) remove(id string) {
	err := e.tryRemove(context.Background(), id)
	if err == nil {
		return
	}
	e.log.Debug("container cannot be removed", zap.String("container", id), zap.Error(err))
	e.removeLater(id)
}

// removeLater removes a container once the Engine does that.
func (e *Engine) removeLater(id string) {
	e.log.Warn("container is not removed yet", zap.String("container", id))
	e.leave(func(l *leftovers) { l.ids[id] = true })
}

// removeLate removes what an Engine that did not answer may yet create.
func (e *Engine) removeLate(attempt string) {
	const lateBy = time.Minute
	e.leave(func(l *leftovers) { l.late[attempt] = time.Now().Add(lateBy) })
}

// leave notes what is left.
func (e *Engine) leave(note func(*leftovers)) {
	l := &e.left
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ids == nil {
		l.ids, l.late = make(map[string]bool), make(map[string]time.Time)
	}
	note(l)
	if !l.retried && e.life.Err() == nil {
		l.retried = true
		e.running.Go(e.retryRemovals)
	}
}

func (e *Engine) tryRemove(ctx context.Context, id string) error {
	asked, cancel := within(ctx, e.cfg.ActTimeout)
	defer cancel()
	_, err := e.client.ContainerRemove(asked, id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	if cerrdefs.IsNotFound(err) || cerrdefs.IsConflict(err) { // the latter: it is being removed already
		return nil
	}
	return slow(asked, err)
}

// retryRemovals removes what is left until nothing is, or Close.
func (e *Engine) retryRemovals() {
	ticker := time.NewTicker(e.cfg.RetryEvery)
	defer ticker.Stop()
	for {
		select {
		case <-e.life.Done():
			return
		case <-ticker.C:
		}
		e.removeLeftovers(e.life)
		e.left.mu.Lock()
		if len(e.left.ids)+len(e.left.late) == 0 {
			e.left.retried = false
			e.left.mu.Unlock()
			return
		}
		e.left.mu.Unlock()
	}
}

// removeLeftovers tries once to remove what is left.
func (e *Engine) removeLeftovers(ctx context.Context) {
	ids, late := e.left.list()
	for _, id := range ids {
		if err := e.tryRemove(ctx, id); err != nil {
			e.log.Debug("container is not removed yet", zap.String("container", id), zap.Error(err))
			return // the Engine is no better a moment later
		}
		e.left.mu.Lock()
		delete(e.left.ids, id)
		e.left.mu.Unlock()
	}
	for attempt, over := range late {
		found, err := e.list(ctx, labelAttempt, attempt)
		if err != nil {
			return
		}
		for _, c := range found {
			e.remove(c.ID)
		}
		if over || len(found) > 0 {
			e.left.mu.Lock()
			delete(e.left.late, attempt)
			e.left.mu.Unlock()
		}
	}
}

// list returns the containers with a label, those that have ended included.
func (e *Engine) list(ctx context.Context, label, value string) ([]container.Summary, error) {
	asked, cancel := e.answer(ctx)
	defer cancel()
	list, err := e.client.ContainerList(asked, client.ContainerListOptions{
		All: true, Filters: make(client.Filters).Add("label", label+"="+value),
	})
	if err != nil {
		return nil, slow(asked, err)
	}
	return slices.DeleteFunc(list.Items, func(c container.Summary) bool { return c.Labels[label] != value }), nil
}
