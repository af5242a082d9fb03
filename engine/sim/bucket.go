package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"padstone/engine/checkpoint"
)

// bucketURL names the bucket.
const bucketURL = "sim://bucket"

// bucket is where checkpoints lie. It outlives every machine.
type bucket struct {
	sim *sim
	mu  struct {
		sync.Mutex
		blobs               map[string]stored
		operations, answers countdown
	}
}

// countdown counts events of which the plan has some fail.
type countdown struct {
	seen    int
	failing int // that are yet to fail
}

// next counts an event and says whether it fails, by a kind of fault.
func (c *countdown) next(s *sim, k Kind) error {
	c.seen++
	for _, f := range s.due(k, c.seen) {
		c.failing += f.N
	}
	if c.failing == 0 {
		return nil
	}
	c.failing--
	s.hit(k)
	return errConnection
}

type stored struct {
	data []byte
	at   time.Time
}

func newBucket(s *sim) *bucket {
	b := &bucket{sim: s}
	b.mu.blobs = map[string]stored{}
	return b
}

// entries are the checkpoints that are there, from the earliest to the latest.
func (b *bucket) entries() []checkpoint.Entry {
	all, err := checkpoint.On(bucketURL, connection{bucket: b}).List(context.Background(), "")
	if err != nil {
		b.sim.wrong("listing the bucket: %v", err)
	}
	return all
}

// connection is the bucket as a life of the server sees it; without one nothing fails. It implements checkpoint.Blobs.
type connection struct {
	*bucket
	life *life
}

var errConnection = errors.New("the connection to the bucket is lost")

// ask waits for its turn, and says whether the connection holds.
func (c connection) ask(ctx context.Context, what string) error {
	if c.life == nil {
		return nil
	}
	if err := c.life.turn(ctx, "bucket "+what); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.operations.next(c.sim, BucketDown)
}

// answer says whether the answer to something that was done arrives.
func (c connection) answer() error {
	if c.life == nil {
		return nil
	}
	return c.mu.answers.next(c.sim, BucketUnknown)
}

// kindOfBlob is the folder that a content lies in: its name is another one each time.
func kindOfBlob(name string) string {
	parts := strings.Split(name, "/")
	return parts[max(len(parts)-2, 0)]
}

// Put implements checkpoint.Blobs.
func (c connection) Put(ctx context.Context, name string, r io.Reader, size int64) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if int64(len(data)) != size {
		return fmt.Errorf("%d bytes, not %d: %w", len(data), size, io.ErrUnexpectedEOF)
	}
	if err := c.ask(ctx, "put "+kindOfBlob(name)); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.blobs[name] = stored{data, time.Now()}
	return c.answer()
}

// Get implements checkpoint.Blobs.
func (c connection) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	if err := c.ask(ctx, "get "+kindOfBlob(name)); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.mu.blobs[name]
	if !ok {
		return nil, checkpoint.ErrNotFound
	}
	return io.NopCloser(bytes.NewReader(s.data)), nil
}

// List implements checkpoint.Blobs.
func (c connection) List(ctx context.Context, dir string, fn func(checkpoint.Blob) error) error {
	if err := c.ask(ctx, "list "+kindOfBlob(dir+"/")); err != nil {
		return err
	}
	for _, b := range c.in(dir) {
		if err := fn(b); err != nil {
			return err
		}
	}
	return nil
}

// in is what lies in a directory.
func (b *bucket) in(dir string) (found []checkpoint.Blob) {
	b.mu.Lock()
	defer b.mu.Unlock()
	dirs := map[string]bool{}
	for name, s := range b.mu.blobs {
		rest, ok := strings.CutPrefix(name, dir+"/")
		if !ok {
			continue
		}
		if sub, _, deeper := strings.Cut(rest, "/"); !deeper {
			found = append(found, checkpoint.Blob{Name: rest, Size: int64(len(s.data)), Modified: s.at})
		} else if !dirs[sub] {
			dirs[sub] = true
			found = append(found, checkpoint.Blob{Name: sub, Dir: true})
		}
	}
	return found
}

// Remove implements checkpoint.Blobs.
func (c connection) Remove(ctx context.Context, name string) error {
	if err := c.ask(ctx, "remove "+kindOfBlob(name)); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.mu.blobs, name)
	return c.answer()
}

var _ checkpoint.Blobs = connection{}
