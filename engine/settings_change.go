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

	"padstone/engine/plan"
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
				WithHint("stop the job with a savepoint and start it from there with --%s=%.20s", name, values[name])
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
	j.tell(j.tuning().event())
	return seq, nil
}

// tuning is the job's, which bundles that run in the runner follow, too.
func (j *job) tuning() Tuning {
	t := j.chosen.tuning()
	j.runner.ElementsMax.Store(cmp.Or(int64(t.BundleSizeMax), j.chosen.own[SettingBundleSize]))
	return t
}

// describeSettings lists the job's settings.
func (j *job) describeSettings() []jobserver.SettingDescription {
	notes := make(map[string]string)
	if text := j.workersNote(); text != "" {
		notes[SettingWorkers] = text
	}
	return j.chosen.describe(notes)
}

// workersNote says how many harness processes there are, where that is not what the setting says.
func (j *job) workersNote() string {
	asked, _ := j.chosen.value(SettingWorkers)
	var texts []string
	for _, env := range j.plan.Environments {
		size, started := j.sizes[env.ID]
		if !started || int64(size.processes) == asked {
			continue
		}
		text := fmt.Sprintf("%d in %q", size.processes, env.ID)
		if len(j.sizes) == 1 {
			text = fmt.Sprint(size.processes)
		}
		texts = append(texts, text+size.because(j.chosen))
	}
	return strings.Join(texts, "; ")
}

// poolSize is how many processes an environment got, and was to get.
type poolSize struct {
	processes, wanted int
	parallel          bool // one is as good as several
}

// because says why there are not as many as the setting says.
func (p poolSize) because(c *chosen) string {
	asked, _ := c.value(SettingWorkers)
	most, _ := c.value(SettingParallelism)
	switch {
	case p.processes < p.wanted:
		return ": its worker pool, as with LOOPBACK, has all workers in one process"
	case asked == 0 && p.parallel:
		return ": its SDK uses all cores in one process"
	case most > 0 && int64(p.wanted) == most:
		return ": " + SettingParallelism + " bounds it"
	case asked == 0:
		return ": as many as there are cores"
	}
	return ""
}

// grew notes how many processes an environment has got, and says so where its user asked for more.
func (j *job) grew(env plan.EnvID, p poolSize) {
	asked, from := j.chosen.value(SettingWorkers)
	if p.processes < p.wanted && asked > 1 {
		j.reporter.Message(jobpb.JobMessage_JOB_MESSAGE_WARNING, fmt.Sprintf("%s is %d (%s), but environment %q has %d harness process%s. "+
			"--environment_type=PROCESS or an EXTERNAL pool of programs can have more",
			SettingWorkers, asked, from, env, p.processes, p.because(j.chosen)))
	}
}
