package engine

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"go.uber.org/zap"

	"padstone/connector"
	"padstone/engine/checkpoint"
	"padstone/engine/plan"
	"padstone/engine/store"
	"padstone/internal/durable"
	"padstone/internal/fault"
	"padstone/jobserver"
)

// fetchedDir is where a checkpoint is fetched to within the directory that is to become the job's.
const fetchedDir = "fetched"

// Fetch implements jobserver.Restorer: it makes of an empty directory that of a job, with the job server's files, the engine's, and the
// job's artifacts in a folder beside them.
func (e *Engine) Fetch(ctx context.Context, r jobserver.RestoreRequest, dir string) (*jobserver.Checkpoint, error) {
	repo, err := e.cfg.Checkpoints.Open(ctx, r.From)
	if err != nil {
		return nil, err
	}
	m, err := repo.Manifest(ctx, r.Job, r.ID)
	if err != nil {
		return nil, err
	}
	fetched := filepath.Join(dir, fetchedDir)
	if err := repo.Fetch(ctx, m, fetched); err != nil {
		return nil, err
	}
	if err := arrange(fetched, dir); err != nil {
		return nil, fault.New(fault.Environment, "checkpoint-fetch", "what was fetched of a checkpoint cannot be placed: %w", err)
	}
	l := checkpoint.Lineage{ID: rand.Text(), Incarnation: m.Lineage.Incarnation + 1, From: m.ID}
	if err := writeLineage(filepath.Join(dir, engineFolder, lineageFile), l); err != nil {
		return nil, err
	}
	return describeManifest(repo, m), nil
}

// arrange moves the folders of a checkpoint to where they are in a job's directory.
func arrange(fetched, dir string) error {
	files, err := os.ReadDir(filepath.Join(fetched, checkpoint.DirJob))
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := os.Rename(filepath.Join(fetched, checkpoint.DirJob, f.Name()), filepath.Join(dir, f.Name())); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, engineFolder), 0o700); err != nil {
		return err
	}
	return errors.Join(
		os.Rename(filepath.Join(fetched, checkpoint.DirStore), filepath.Join(dir, engineFolder, storeDir)),
		os.Rename(filepath.Join(fetched, checkpoint.DirArtifacts), filepath.Join(dir, checkpoint.DirArtifacts)),
		os.RemoveAll(fetched),
		durable.SyncDir(filepath.Join(dir, engineFolder)), durable.SyncDir(dir),
	)
}

// Ready implements jobserver.Restorer. It asks every sink how far the job has come since the checkpoint was taken, without taking the
// place of a writer that may still be there, unless the rewind is allowed.
func (e *Engine) Ready(ctx context.Context, spec jobserver.Spec, allowRewind bool) (givenUp []string, err error) {
	st, err := e.openStore(e.cfg, engineDir(spec), nil, e.cfg.Logger.Named("store").With(zap.String("job", spec.ID)))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	f, err := e.fit(st, spec, func(_ jobpb.JobMessage_MessageImportance, text string) {
		e.cfg.Logger.Info(text, zap.String("job", spec.ID))
	})
	if err != nil {
		return nil, err
	}
	r := &rewind{engine: e, fitted: f, store: st, next: st.LastBlock()}
	if err := r.look(ctx); err != nil {
		return nil, err
	}
	if len(r.behind) > 0 && !allowRewind {
		return nil, fault.New(fault.Corruption, codeBehind, "the checkpoint is older than what the job has written: %s",
			strings.Join(r.behind, "; ")).
			WithHint("restore a later checkpoint, or accept with --allow-rewind that these records are written again, perhaps otherwise")
	}
	if allowRewind {
		if err := r.takeOver(ctx); err != nil {
			return nil, err
		}
		if err := r.skip(); err != nil {
			return nil, err
		}
	}
	return append(r.behind, r.unknown...), nil
}

// rewind finds out what going on from an earlier state of a job gives up.
type rewind struct {
	*fitted
	engine  *Engine
	store   *store.Store
	next    uint64        // no block has been given a sequence above it, by this life of the job or a later one
	behind  []string      // sinks that have written what the store does not know
	unknown []string      // sinks that cannot tell
	changes []store.Entry // what the store knows of sinks once it has been put ahead
}

// look asks all sinks.
func (r *rewind) look(ctx context.Context) error {
	r.behind, r.unknown, r.changes = nil, nil, nil
	return r.sinks(func(stage int, def *plan.Stage, sink connector.Sink) error { return r.lookAt(ctx, stage, def, sink) })
}

// takeOver shuts out whoever still writes, and looks again: what is given up is final then.
func (r *rewind) takeOver(ctx context.Context) error {
	err := r.sinks(func(stage int, def *plan.Stage, sink connector.Sink) error {
		if _, ok := sink.(connector.Marker); !ok {
			return nil
		}
		w, _, err := sink.Open(ctx, def.Native.Config, r.identity(stage, 0))
		if w != nil {
			err = errors.Join(err, w.Close())
		}
		return err
	})
	if err != nil {
		return err
	}
	return r.look(ctx)
}

// sinks calls fn for every native sink of the job; its errors name the sink.
func (r *rewind) sinks(fn func(stage int, def *plan.Stage, sink connector.Sink) error) error {
	for i, def := range r.compiled.Plan.Stages {
		if def.Kind != plan.Sink {
			continue
		}
		sink, ok := r.engine.cfg.Natives.Sink(connector.URN(def.Native.URN))
		if !ok {
			return fault.New(fault.Internal, "bad-plan", "no native sink %q", def.Native.URN).In(def.Name)
		}
		if err := fn(i, def, sink); err != nil {
			return named(err, def)
		}
	}
	return nil
}

// lookAt asks one sink.
func (r *rewind) lookAt(ctx context.Context, stage int, def *plan.Stage, sink connector.Sink) error {
	name := metaOf(r.numbers, metaPublished, stage)
	known, err := readPublished(r.store, name)
	if err != nil {
		return err
	}
	waiting := int64(0)
	err = r.store.Outbox(uint32(stage), func(b store.Block) bool { waiting += int64(b.Count); return true })
	if err != nil {
		return err
	}
	marker, ok := sink.(connector.Marker)
	if !ok {
		r.cannotTell(def, "")
		return nil
	}
	as := r.identity(stage, known.seq)
	mark, err := marker.Mark(ctx, def.Native.Config, as)
	if err != nil {
		return err
	}
	switch {
	case !mark.Kept:
		r.cannotTell(def, mark.Target)
	case mark.Seq > r.store.LastBlock():
		again := mark.Records - known.records - waiting
		r.behind = append(r.behind, fmt.Sprintf("%q to %s: %s, the last at %s", def.Name, mark.Target, records(again),
			mark.At.UTC().Format(time.RFC3339Nano)))
		r.next = max(r.next, mark.Seq)
		// The outbox is forgotten when the sink opens, as it has been written.
		p := published{seq: known.seq, records: max(known.records, mark.Records-waiting)}
		r.changes = append(r.changes, p.entry(name))
	}
	return nil
}

func records(n int64) string {
	switch {
	case n <= 0: // what was written had no records, or an older version wrote it
		return "an unknown number of records"
	case n == 1:
		return "1 record"
	}
	return fmt.Sprint(n, " records")
}

func (r *rewind) cannotTell(def *plan.Stage, target string) {
	if target != "" {
		target = " to " + target
	}
	r.unknown = append(r.unknown, fmt.Sprintf("%q%s keeps no mark: what it has written since the checkpoint was taken, if anything, is "+
		"written again", def.Name, target))
}

// lifeBlocks is what a life of a job has for sequences of its blocks before those of the next one begin.
const lifeBlocks = 1 << 40

// skip makes the store go on with sequences that no life of the job has used, so that what is written now is never taken for written.
func (r *rewind) skip() error {
	if len(r.changes) > 0 {
		if _, err := r.store.Commit(&store.Commit{Meta: r.changes}); err != nil {
			return err
		}
	}
	return r.store.SkipBlocks((r.next/lifeBlocks + 1) * lifeBlocks)
}

// published is what the store knows of a sink: the highest sequence that it has dropped as written, and the records up to it.
type published struct {
	seq     uint64
	records int64
}

func (p published) entry(name string) store.Entry {
	v := binary.BigEndian.AppendUint64(nil, p.seq)
	return store.Entry{Name: name, Value: binary.BigEndian.AppendUint64(v, uint64(p.records))}
}

// readPublished reads what a commit has written of published.entry.
func readPublished(s *store.Store, name string) (published, error) {
	meta, err := s.Meta()
	if err != nil {
		return published{}, err
	}
	for _, e := range meta {
		if e.Name != name {
			continue
		}
		var p published
		switch len(e.Value) {
		case 16:
			p.records = int64(binary.BigEndian.Uint64(e.Value[8:]))
			fallthrough
		case 8: // records were not counted
			p.seq = binary.BigEndian.Uint64(e.Value)
		default:
			return p, fault.New(fault.Corruption, "store-corrupt", "the end of an outbox, %s, is malformed", name)
		}
		return p, nil
	}
	return published{}, nil
}
