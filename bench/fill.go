package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"go.uber.org/zap"

	"padstone/engine/coder"
	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/engine/rows"
	"padstone/engine/store"
	"padstone/engine/timer"
)

// filling writes rows of many keys, as the job's own commits would have, after the pattern of those of a key that it finds.
type filling struct{ keys, timers, backlog int }

const (
	keyGroups = 64
	keyLen    = len("key-0000000000")
	// far is 2100-01-01, when no timer fires yet.
	far = element.Time(4_102_444_800_000)
)

// pattern is what the job has written for one key.
type pattern struct {
	stage uint32
	key   []byte // as it stands in rows: 14 bytes behind their length
	state []row
	timer timer.Fired
}

type row struct{ key, value []byte }

func encodeKey(i int) []byte {
	return append([]byte{byte(keyLen)}, fmt.Sprintf("key-%010d", i)...)
}

// run fills a store that nobody has open, and says what it has written.
func (f *filling) run(dir string) (string, error) {
	s, err := store.Open(store.Config{Dir: dir, Logger: zap.NewNop()})
	if err != nil {
		return "", err
	}
	p, err := f.find(s)
	if err == nil {
		err = f.write(s, p)
	}
	if err == nil {
		err = f.wait(s, p)
	}
	return fmt.Sprintf("%d keys, %d timers, %d MiB of backlog", f.keys, f.timers, f.backlog), errors.Join(err, s.Close())
}

// find finds the stage with state, and what it has for a key.
func (f *filling) find(s *store.Store) (*pattern, error) {
	for stage := range uint32(64) {
		for i := range 1000 {
			key := encodeKey(i)
			b := s.Begin(stage)
			p := &pattern{stage: stage, key: key}
			tx := b.Group(coder.KeyGroup(key, keyGroups))
			err := tx.Scan(rows.State, nil, nil, func(k, v []byte) bool {
				if bytes.Contains(k, key) {
					p.state = append(p.state, row{bytes.Clone(k), bytes.Clone(v)})
				}
				return true
			})
			if err != nil {
				return nil, err
			}
			due, err := timer.Due(tx, plan.EventTime, element.MaxTime, 10_000)
			if err != nil {
				return nil, err
			}
			b.Discard()
			for _, d := range due {
				if p.timer = d; bytes.Equal(d.ID.Key, key) && len(p.state) > 0 {
					return p, nil
				}
			}
		}
	}
	return nil, errors.New("no stage has state and a timer for a key")
}

// scattered is the share of the keys that are written in no order, after the others.
const scattered = 0.05

// write commits bundles of a thousand keys: most of them key group by key group and in order, which a disk takes quickly, and the rest in
// no order, so that the store has something to compact.
func (f *filling) write(s *store.Store, p *pattern) error {
	const perBundle = 1000
	groups := make([][]int, keyGroups)
	var last []int
	for i := range f.keys {
		if i%100 < int(100*scattered) {
			last = append(last, i)
			continue
		}
		g := coder.KeyGroup(encodeKey(base+i), keyGroups)
		groups[g] = append(groups[g], i)
	}
	rand.Shuffle(len(last), func(i, j int) { last[i], last[j] = last[j], last[i] })
	rng := rand.NewChaCha8([32]byte{'f', 'i', 'l', 'l'})
	for _, keys := range append(groups, last) {
		for chunk := range slices.Chunk(keys, perBundle) {
			if err := f.bundle(s, p, chunk, rng); err != nil {
				return err
			}
		}
	}
	return nil
}

// base is the number of the first key that the job has not had.
const base = 1_000_000

// bundle commits state and timers of some keys.
func (f *filling) bundle(s *store.Store, p *pattern, keys []int, rng *rand.ChaCha8) error {
	b := s.Begin(p.stage)
	defer b.Discard()
	txs := make(map[uint16]rows.Tx)
	for _, i := range keys {
		key := encodeKey(base + i)
		group := coder.KeyGroup(key, keyGroups)
		if txs[group] == nil {
			txs[group] = b.Group(group)
		}
		for _, r := range p.state {
			value := bytes.Clone(r.value)
			_, _ = rng.Read(value[min(len(value), 8):])
			txs[group].Set(rows.State, bytes.Replace(r.key, p.key, key, 1), value)
		}
		if i%(max(f.keys/max(f.timers, 1), 1)) != 0 {
			continue
		}
		id, t := p.timer.ID, p.timer.Timer
		id.Key, t.Fire = key, far.Add(int64(i))
		if t.Hold != timer.NoHold {
			t.Hold = t.Fire
		}
		if err := timer.Set(txs[group], id, t); err != nil {
			return err
		}
	}
	_, err := s.Commit(&store.Commit{Stage: p.stage, Rows: b})
	return err
}

// wait commits elements that wait for the stage.
func (f *filling) wait(s *store.Store, p *pattern) error {
	const blockBytes = 64 << 10
	blocks := f.backlog << 20 / blockBytes
	edge, found := uint32(0), false
	if err := s.Inbox(func(stage uint32, _ uint16, e uint32, _ store.Header) {
		if stage == p.stage {
			edge, found = e, true
		}
	}); err != nil {
		return err
	}
	if !found {
		edge = p.stage // the numbers of stages and of their edges are given alike
	}
	now := element.Time(time.Now().UnixMilli())
	for from := 0; from < blocks; from += keyGroups {
		c := &store.Commit{Stage: p.stage}
		for g := range keyGroups {
			b := store.Block{Header: store.Header{MinTS: now, MaxTS: now, MaxWindow: element.MinTime, AvailableAt: element.MinTime, Hold: now}}
			for i := 0; len(b.Data) < blockBytes; i++ {
				key := encodeKey(i)
				if coder.KeyGroup(key, keyGroups) != uint16(g) {
					continue
				}
				b.Data = coder.AppendHeader(b.Data, now, 1, nil, []byte{0x0f})
				b.Data = append(append(b.Data, key...), byte(10))
				b.Data = append(b.Data, "0123456789"...)
				b.Count++
			}
			b.Bytes = len(b.Data)
			c.Added = append(c.Added, store.Added{Stage: p.stage, Group: uint16(g), Edge: edge, Block: b})
		}
		if _, err := s.Commit(c); err != nil {
			return err
		}
	}
	return nil
}
