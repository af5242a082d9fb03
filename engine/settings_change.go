package engine

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/engine/scheduler"
	"padstone/engine/store"
	"padstone/internal/fault"
	"padstone/jobserver"
)

// metaSetting begins the entries of what was set by hand. They are in the job's store, so that a restart, a checkpoint and what is restored
// from one have them as they have everything else; see docs/decisions/0031-what-is-set-by-hand-is-in-the-store.md.
const metaSetting = "setting/"

// codeSetting refuses a change of settings, codeSettingFixed one that the job would have to be started anew for.
const (
	codeSetting      fault.Code = "invalid-setting"
	codeSettingFixed fault.Code = "setting-fixed"
)

// settingChange is one change of a setting by hand.
type settingChange struct {
	setting
	value int64
	back  bool // to what it is without
}

// entry is the change in the store.
func (c *settingChange) entry() store.Entry {
	e := store.Entry{Name: metaSetting + c.name}
	if !c.back {
		e.Value = binary.BigEndian.AppendUint64(nil, uint64(c.value))
	}
	return e
}

// restore reads what was set by hand. What this version does not know, or would refuse, is left alone.
func (c *chosen) restore(st *store.Store) error {
	meta, err := st.Meta()
	if err != nil {
		return err
	}
	for _, e := range meta {
		name, ok := strings.CutPrefix(e.Name, metaSetting)
		if !ok {
			continue
		}
		if len(e.Value) != 8 {
			return fault.New(fault.Corruption, "store-corrupt", "the setting %q is malformed", name)
		}
		v := int64(binary.BigEndian.Uint64(e.Value))
		if s, known := findSetting(name); known && s.live && s.check(v) == "" {
			c.hand[name] = v
		}
	}
	return nil
}

// parseChanges reads changes by name. Errors: invalid-setting, setting-fixed.
func parseChanges(values map[string]string) ([]settingChange, error) {
	var changes []settingChange
	for _, name := range slices.Sorted(maps.Keys(values)) {
		s, ok := findSetting(name)
		if !ok {
			return nil, fault.New(fault.Pipeline, codeSetting, "there is no setting %.100q", name).
				WithHint("the settings that can be changed are %s", strings.Join(liveSettings(), ", "))
		}
		if !s.live {
			return nil, fault.New(fault.Pipeline, codeSettingFixed, "%s does not change while the job runs", name).
				WithHint("it says what a job begins with; %s and %s can be changed", SettingWorkers, SettingWorkersMax)
		}
		c := settingChange{setting: s, back: values[name] == jobserver.SettingDefault}
		if !c.back {
			var wrong string
			if c.value, wrong = s.parse(values[name]); wrong != "" {
				return nil, fault.New(fault.Pipeline, codeSetting, "%s: %s", name, wrong).
					WithHint("give %s (%s), or %q to take a change back", s.allowed(), s.unit, jobserver.SettingDefault)
			}
		}
		changes = append(changes, c)
	}
	if len(changes) == 0 {
		return nil, fault.New(fault.Pipeline, codeSetting, "nothing is to be changed").
			WithHint("name a setting and its value: %s", strings.Join(liveSettings(), ", "))
	}
	return changes, nil
}

// liveSettings are the names of those that can be changed while a job runs.
func liveSettings() (names []string) {
	for _, s := range settings() {
		if s.live {
			names = append(names, s.name)
		}
	}
	return names
}

// Set implements jobserver.Adjustable.
func (l *lasting) Set(ctx context.Context, values map[string]string) ([]jobserver.SettingDescription, error) {
	changes, err := parseChanges(values)
	if err != nil {
		return nil, err
	}
	run, between := l.present()
	if between != nil {
		return nil, fmt.Errorf("the job stands still, and the change cannot be kept: %w", between)
	}
	return run.set(ctx, changes)
}

// set changes settings, all or none, and returns once that is durable.
func (j *job) set(ctx context.Context, changes []settingChange) (now []jobserver.SettingDescription, err error) {
	var seq uint64
	var failed error
	ok, err := j.do(ctx, func() {
		if j.over {
			failed = jobOver(j)
			return
		}
		if seq, failed = j.change(changes); failed == nil {
			now = j.describeSettings()
		}
	})
	if err == nil && !ok {
		err = jobOver(j)
	}
	if err == nil {
		err = failed
	}
	if err == nil {
		err = j.store.WaitDurable(ctx, seq)
	}
	if err != nil {
		return nil, err
	}
	return now, nil
}

// change commits changes and has them take effect. On the driver.
func (j *job) change(changes []settingChange) (seq uint64, err error) {
	c := &store.Commit{}
	for i := range changes {
		c.Meta = append(c.Meta, changes[i].entry())
	}
	if seq, err = j.store.Commit(c); err != nil {
		j.end(err)
		return 0, err
	}
	for i := range changes {
		s := &changes[i]
		was := j.chosen.words(&s.setting)
		text := "%s set to %s, was %s"
		if s.back {
			delete(j.chosen.hand, s.name)
			_, from := j.chosen.value(s.name)
			text = "%s taken back to %s (" + from + "), was %s"
		} else {
			j.chosen.hand[s.name] = s.value
		}
		j.reporter.Message(jobpb.JobMessage_JOB_MESSAGE_BASIC, fmt.Sprintf(text, s.name, j.chosen.words(&s.setting), was))
	}
	j.tell(j.tuned())
	j.resettle()
	return seq, nil
}

// tuned is the job's tuning in the scheduler's terms.
func (j *job) tuned() scheduler.Tune {
	tune := j.tuning().event()
	tune.RunnerSlots = int(j.chosen.bounded(int64(j.chosen.slots)))
	return tune
}

// tuning is the job's, which bundles that run in the runner follow, too.
func (j *job) tuning() Tuning {
	t := j.chosen.tuning()
	j.runner.ElementsMax.Store(cmp.Or(int64(t.BundleSizeMax), j.chosen.own[SettingBundleSize]))
	return t
}

// describeSettings lists the job's settings.
func (j *job) describeSettings() []jobserver.SettingDescription {
	b := j.chosen.processes(j.cfg.Cores, false, 1)
	j.chosen.own[SettingWorkersFirst], j.chosen.own[SettingWorkersMax] = int64(b.first), left
	if j.chosen.own[SettingAlgorithm] = algorithmNone; b.sized {
		j.chosen.own[SettingAlgorithm], j.chosen.own[SettingWorkersMax] = algorithmThroughput, int64(b.Max)
	}
	notes := make(map[string]string)
	if text := j.workersNote(); text != "" {
		notes[SettingWorkers] = text
	}
	if j.chosen.memoryMax() == 0 {
		notes[SettingMemory] = "no bound"
	}
	return j.chosen.describe(notes)
}
