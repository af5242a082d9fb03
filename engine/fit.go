package engine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/connector"
	"padstone/engine/bundle"
	"padstone/engine/inventory"
	"padstone/engine/plan"
	"padstone/engine/store"
	"padstone/internal/fault"
	"padstone/jobserver"
)

// fitted is a compiled pipeline that the rows of a store are those of.
type fitted struct {
	compiled  *bundle.Job
	inventory *inventory.Inventory
	numbers   store.Numbering
}

// identity is whose blocks a sink writes. Published is the highest that is known to be written.
func (f *fitted) identity(stage int, published uint64) connector.Identity {
	w := f.inventory.Entries[stage].Writer
	return connector.Identity{Job: w.Job, Stage: w.Stage, Published: published}
}

// fit compiles the pipeline of a job and makes the rows of its store those of the plan: a new store's, those of the same plan, which
// need nothing, or those of another one: of a pipeline that was changed and goes on from a savepoint, or of the same one that this
// version of Padstone compiles otherwise than the last did. All is done in one batch, so that a crash leaves it to be done again.
func (e *Engine) fit(
	st *store.Store, spec jobserver.Spec, say func(jobpb.JobMessage_MessageImportance, string),
) (*fitted, error) {
	stored, err := st.Inventory()
	if err != nil {
		return nil, err
	}
	if stored == nil {
		compiled, err := e.compile(spec, 0, nil)
		if err != nil {
			return nil, err
		}
		return settle(st, compiled, inventory.Of(compiled.Plan, spec.ID, nil), nil)
	}
	earlier, err := inventory.Parse(stored)
	if err != nil {
		return nil, err
	}
	compiled, err := e.compile(spec, earlier.KeyGroups, earlier.Cut)
	if err != nil {
		return nil, err
	}
	inv := inventory.Of(compiled.Plan, spec.ID, earlier.Cut)
	inv.Adopt(earlier)
	if data, err := inv.Marshal(); err != nil || bytes.Equal(data, stored) {
		return settle(st, compiled, inv, err)
	}
	if err := holdings(st, earlier); err != nil {
		return nil, err
	}
	m, err := e.match(spec, earlier)
	if err != nil {
		return nil, err
	}
	if err := m.report.Err(); err != nil {
		return nil, err
	}
	inv = m.inventory
	taken := inv.Job != earlier.Job
	if taken {
		say(jobpb.JobMessage_JOB_MESSAGE_BASIC,
			fmt.Sprintf("the job goes on with what %s has left: %s", earlier.Job, m.report.Summary()))
	}
	for _, text := range m.report.Warnings {
		say(jobpb.JobMessage_JOB_MESSAGE_WARNING, text)
	}
	if err := rewrite(st, inv, m.moves, taken); err != nil {
		return nil, err
	}
	return settle(st, m.compiled, inv, nil)
}

// settle gives the store the numbers of the inventory.
func settle(st *store.Store, compiled *bundle.Job, inv *inventory.Inventory, err error) (*fitted, error) {
	f := &fitted{compiled: compiled, inventory: inv}
	var data []byte
	if err == nil {
		inv.NumberNew()
		data, err = inv.Marshal()
	}
	if err != nil {
		return nil, fault.New(fault.Internal, "bad-plan", "the inventory of the plan: %w", err)
	}
	f.numbers.Stages, f.numbers.Edges = inv.Numbers(compiled.Plan)
	return f, st.Number(f.numbers, data)
}

// holdings writes into an inventory what the store holds.
func holdings(st *store.Store, inv *inventory.Inventory) error {
	held, err := st.Holdings()
	if err != nil {
		return err
	}
	return fillHeld(st, inv, held)
}

// held is the inventory of a running job's store, with what it holds. On the driver.
func (j *job) held() (json.RawMessage, error) {
	data, err := j.inventory.Marshal()
	if err != nil {
		return nil, err
	}
	inv, err := inventory.Parse(data)
	if err != nil {
		return nil, err
	}
	held, err := j.store.Kept()
	if err != nil {
		return nil, err
	}
	for i, number := range j.numbers.Stages {
		h := held[number]
		if h == nil {
			h = &store.Holding{}
			held[number] = h
		}
		h.Elements = j.sched.Status(i).PendingCount
		if p := j.sinks[i]; p != nil {
			h.Outbox = p.backlog().elements
		}
	}
	if err := fillHeld(j.store, inv, held); err != nil {
		return nil, err
	}
	return inv.Marshal()
}

func fillHeld(st *store.Store, inv *inventory.Inventory, held map[uint32]*store.Holding) error {
	meta, err := st.Meta()
	if err != nil {
		return err
	}
	for _, e := range inv.Entries {
		e.Held = &inventory.Held{}
		if h := held[e.Number]; h != nil {
			*e.Held = inventory.Held{Elements: h.Elements, Outbox: h.Outbox, Positions: h.Positions, Keyed: h.Keyed, Side: h.Side}
		}
		e.Held.Done = slices.ContainsFunc(meta, func(m store.Entry) bool { return m.Name == metaNumbered(metaDone, e.Number) })
	}
	return nil
}

// match is an answer to how a pipeline fits what an earlier one has left.
type match struct {
	compiled  *bundle.Job
	inventory *inventory.Inventory
	report    *inventory.Report
	moves     *inventory.Moves
}

// match compiles a pipeline and matches it with an earlier one, as often as collections have to be cut.
func (e *Engine) match(spec jobserver.Spec, earlier *inventory.Inventory) (*match, error) {
	o, err := matchOptions(spec)
	if err != nil {
		return nil, err
	}
	m := &match{}
	m.inventory, m.report, m.moves, err = matchPlan(earlier, spec.ID, o, func(groups int, cut []string) (*plan.Plan, error) {
		var err error
		if m.compiled, err = e.compile(spec, groups, cut); err != nil {
			return nil, err
		}
		return m.compiled.Plan, nil
	})
	return m, err
}

// compileFunc compiles a pipeline with a number of key groups and with collections cut.
type compileFunc = func(groups int, cut []string) (*plan.Plan, error)

// matchPlan matches a pipeline as often as collections have to be cut.
func matchPlan(earlier *inventory.Inventory, job string, o inventory.Options, compile compileFunc) (
	inv *inventory.Inventory, report *inventory.Report, moves *inventory.Moves, err error,
) {
	var cut []string
	for {
		p, err := compile(earlier.KeyGroups, cut)
		if err != nil {
			return nil, nil, nil, err
		}
		inv = inventory.Of(p, job, cut)
		report, moves, more := inventory.Match(earlier, inv, o)
		if len(more) == 0 {
			return inv, report, moves, nil
		}
		cut = slices.Compact(slices.Sorted(slices.Values(slices.Concat(cut, more))))
	}
}

// rewrite does to the rows what a match says. A job that takes over from another goes on
// neither with the other's drain nor with what was set by hand: it comes with options of its own.
func rewrite(st *store.Store, inv *inventory.Inventory, moves *inventory.Moves, taken bool) error {
	if err := forget(st, inv.KeyGroups, moves); err != nil {
		return err
	}
	r := &store.Rewrite{ClearInbox: moves.ClearInbox, Drop: moves.Drop}
	for _, c := range moves.Inbox {
		r.Inbox = append(r.Inbox, store.Copied(c))
	}
	for _, c := range moves.Side {
		r.Side = append(r.Side, store.Copied(c))
	}
	meta, err := st.Meta()
	if err != nil {
		return err
	}
	for _, m := range meta {
		prefix, number, _ := strings.Cut(m.Name, "/")
		n, err := strconv.ParseUint(number, 10, 32)
		numbered := err == nil && slices.Contains([]string{metaDone, metaWatermark, metaPublished}, prefix+"/")
		others := taken && (m.Name == metaDrain || prefix+"/" == metaSetting)
		if numbered && slices.Contains(moves.Drop, uint32(n)) || others {
			r.Meta = append(r.Meta, store.Entry{Name: m.Name})
		}
	}
	data, err := inv.Marshal()
	if err != nil {
		return fault.New(fault.Internal, "bad-plan", "the inventory of the plan: %w", err)
	}
	return st.Rewrite(r, data)
}

// forget drops state cells and timer families that their transforms have no longer. A second try finds them dropped.
func forget(st *store.Store, groups int, moves *inventory.Moves) error {
	cells, families := make(map[uint32][]string), make(map[uint32][]string)
	for _, p := range moves.Cells {
		cells[p.Number] = append(cells[p.Number], p.Name)
	}
	for _, p := range moves.Timers {
		families[p.Number] = append(families[p.Number], p.Name)
	}
	for _, p := range slices.Concat(moves.Cells, moves.Timers) {
		for g := range groups {
			b := st.Begin(p.Number)
			err := bundle.Forget(b.Group(uint16(g)), cells[p.Number], families[p.Number])
			if err == nil {
				_, err = st.Commit(&store.Commit{Stage: p.Number, Rows: b})
			}
			b.Discard()
			if err != nil {
				return err
			}
		}
		delete(cells, p.Number)
		delete(families, p.Number)
	}
	return nil
}
