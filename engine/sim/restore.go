package sim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"go.uber.org/zap"

	"padstone/engine/checkpoint"
	"padstone/engine/store"
	"padstone/engine/store/storetest"
	"padstone/internal/fault"
	"padstone/jobserver"
)

// origin is a checkpoint that the next life takes the job up from, on another machine.
type origin struct {
	id string
	// exact: nothing has been written since, and nothing may be given up.
	exact bool
}

// loseDisk chooses a checkpoint for a machine whose disk is lost; false: there is none.
func (s *sim) loseDisk(choice int) bool {
	there := s.bucket.entries()
	s.mu.Lock()
	answered := slices.Clone(s.mu.wishes.checkpoints)
	s.mu.Unlock()
	if len(there) == 0 {
		return false
	}
	if n := len(answered); n > 0 && !slices.ContainsFunc(there, func(e checkpoint.Entry) bool { return e.ID == answered[n-1] }) {
		s.wrong("the checkpoint %s was answered, but is not there", answered[n-1])
		return false
	}
	s.from = &origin{id: there[len(there)-1-choice%len(there)].ID}
	return true
}

// replaced says from where the job goes on that was stopped with a savepoint.
func (s *sim) replaced() {
	there := s.bucket.entries()
	s.mu.Lock()
	asked := s.mu.wishes.stop
	s.mu.Unlock()
	switch last := len(there) - 1; {
	case !asked:
		s.wrong("the job was stopped, and nobody has asked for it")
	case last < 0 || there[last].Kind != "savepoint":
		s.wrong("the job was stopped with a savepoint that is not there: %v", there)
	default:
		s.from = &origin{id: there[last].ID, exact: true}
	}
}

// moved prepares the outside for a job on another machine.
func (s *sim) moved() *storetest.Disk {
	s.spec.Dir = filepath.Join(s.base, fmt.Sprint("machine", s.lives+1))
	if err := os.MkdirAll(s.spec.Dir, 0o700); err != nil {
		s.wrong("%v", err)
	}
	if !s.from.exact {
		s.rig.Natives.Rewind()
		s.job.lost()
		s.lost = true
	}
	s.mu.Lock()
	s.mu.wishes.drains, s.mu.wishes.cancels = -1, -1
	s.mu.Unlock()
	return storetest.NewDisk()
}

// restore is the start of a life that takes the job up from a checkpoint.
func (l *life) restore(ctx context.Context, spec jobserver.Spec, r jobserver.Reporter) (jobserver.Running, error) {
	s, from := l.sim, *l.sim.from
	for {
		_, err := l.engine.Fetch(ctx, jobserver.RestoreRequest{From: bucketURL, Job: spec.ID, ID: from.id}, spec.Dir)
		if err == nil {
			break
		}
		if ctx.Err() != nil || !s.hasHit(BucketDown) {
			return nil, err
		}
		s.note("the checkpoint cannot be fetched: %s", codeOf(err))
		if err := errors.Join(os.RemoveAll(spec.Dir), os.Mkdir(spec.Dir, 0o700)); err != nil {
			return nil, err
		}
	}
	if err := l.disk.Lay(s.storeDir()); err != nil {
		return nil, err
	}
	last, err := lastBlock(s.storeDir(), l.disk.Crashed(100, everything))
	if err != nil {
		return nil, err
	}
	shown := s.outside.shown()
	rewound, err := l.ready(ctx, spec)
	if l.dead.Load() {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	if rewound != (shown > last) {
		s.wrong("block %d is outside, and the checkpoint ends at block %d, but that it goes back is %t", shown, last, rewound)
	}
	if rewound && from.exact {
		s.wrong("more has been written than the savepoint has")
	}
	s.hit(map[bool]Kind{true: "restored, going back", false: "restored"}[rewound])
	s.rewound = s.rewound || rewound
	s.from = nil
	return l.engine.Recover(ctx, spec, r)
}

// ready asks whether the job can go on, and if it was written too much, allows that.
func (l *life) ready(ctx context.Context, spec jobserver.Spec) (rewound bool, err error) {
	for ctx.Err() == nil {
		_, err = l.engine.Ready(ctx, spec, rewound)
		switch {
		case err == nil:
			return rewound, nil
		case codeOf(err) == "outbox-behind" && !rewound:
			rewound = true
		case fault.KindOf(err) != fault.Environment || !l.sim.hasHit(OpenDown):
			return rewound, err
		}
	}
	return rewound, context.Cause(ctx)
}

// lastBlock is the last block of the store on a disk.
func lastBlock(dir string, on *storetest.Disk) (uint64, error) {
	st, err := store.Open(store.Config{Dir: dir, FS: on, Logger: zap.NewNop()})
	if err != nil {
		return 0, err
	}
	return st.LastBlock(), st.Close()
}
