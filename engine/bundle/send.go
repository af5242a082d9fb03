package bundle

import (
	"context"
	"errors"

	"padstone/engine/coder"
	"padstone/engine/profile"
	"padstone/internal/buffers"
	"padstone/internal/fault"
)

// messageBytes bounds a data message to a harness: 64 KB messages cost it 2.4 times the CPU of 1–4 MB ones, and so do 50 MB ones.
const messageBytes = 2 << 20

// send sends the inputs in messages of a good size, cut at element boundaries, and closes them.
func (h *harnessBundle) send(ctx context.Context, in inputs) error {
	for _, r := range in.runs {
		var err error
		if r.family == nil {
			err = h.sendData(ctx, r.data, nil)
		} else {
			err = h.bundle.SendTimers(ctx, r.family.def.Transform, r.family.def.Family, r.data)
			h.watch.To(profile.Harness)
		}
		if err != nil {
			return err
		}
	}
	if in.blocks != nil {
		if err := h.sendBlocks(ctx, in.blocks); err != nil {
			return err
		}
	}
	h.prepared()
	return h.bundle.Finish(ctx)
}

// sendData sends a message. What it waits for is the harness, which is to read what it was sent before.
func (h *harnessBundle) sendData(ctx context.Context, data []byte, lent *buffers.Buffer) error {
	h.prepared()
	err := h.bundle.SendLent(ctx, h.stage.Def.InputRead, data, lent)
	h.watch.To(profile.Harness)
	return err
}

// sendBlocks sends blocks, small ones together, as long as there are some and more may come.
func (h *harnessBundle) sendBlocks(ctx context.Context, blocks *feed) error {
	small := smallBlocks{send: func(data []byte, lent *buffers.Buffer) error { return h.sendData(ctx, data, lent) }}
	for {
		data, lent, more, err := blocks.next()
		if err == nil && !more {
			if err = small.flush(); err == nil {
				more, err = h.more(ctx)
			}
			if more {
				continue
			}
		}
		if err != nil || !more {
			return errors.Join(err, small.flush())
		}
		for len(data) > 0 {
			n, err := h.cut(data)
			if err != nil {
				return err
			}
			if n < messageBytes/4 {
				err = small.add(data[:n])
			} else if err = small.flush(); err == nil {
				lent.Retain()
				err = small.send(data[:n:n], lent)
			}
			if err != nil {
				return err
			}
			data = data[n:]
		}
		lent.Release()
	}
}

// smallBlocks makes messages of blocks that are too small for one.
type smallBlocks struct {
	send func(data []byte, lent *buffers.Buffer) error
	data []byte // in lent
	lent *buffers.Buffer
}

// add adds a block of less than a quarter of a message.
func (s *smallBlocks) add(data []byte) error {
	if s.lent == nil {
		s.lent = buffers.Get(messageBytes / 2)
		s.data = s.lent.Bytes()[:0]
	}
	if s.data = append(s.data, data...); len(s.data) < messageBytes/4 {
		return nil
	}
	return s.flush()
}

func (s *smallBlocks) flush() error {
	if len(s.data) == 0 {
		return nil
	}
	data, lent := s.data, s.lent
	s.data, s.lent = nil, nil
	return s.send(data, lent)
}

// cut returns how much of data makes one message: all of it, or whole elements up to the size of a message.
func (h *harnessBundle) cut(data []byte) (int, error) {
	if len(data) <= 2*messageBytes {
		return len(data), nil
	}
	var el coder.Elem
	rest := data
	for len(data)-len(rest) < messageBytes && len(rest) > 0 {
		var err error
		if rest, err = h.stage.input.scanner.Next(rest, &el); err != nil {
			return 0, fault.New(fault.Corruption, "corrupt-block", "stored elements do not follow their coder: %w", err)
		}
	}
	return len(data) - len(rest), nil
}
