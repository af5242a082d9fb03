package engine

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"google.golang.org/protobuf/types/known/structpb"

	"padstone/engine/scheduler"
	"padstone/internal/bytesize"
	"padstone/internal/fault"
	"padstone/internal/option"
	"padstone/jobserver"
)

// Settings have a value for each job: Padstone's own, that of the server, that of the pipeline option of the name, or one that was set by
// hand while the job runs. Each wins over those before it.
const (
	// SettingBundleSize, SettingBundleTime and SettingLatencyBudget bound bundles; see Tuning.
	SettingBundleSize    = "max_bundle_size"
	SettingBundleTime    = "max_bundle_time_mills"
	SettingLatencyBudget = "latency_budget_millis"
	// SettingParallelism is Flink's default parallelism of a job. There a job's operators have so many instances, one if it is -1 and
	// nobody has configured another; here what can run beside each other does, and it bounds how much: harness processes of an
	// environment, and groupings. -1, which the Python SDK sends unless told, is nobody's choice. Spec: FlinkPipelineOptions (Java),
	// FlinkRunnerOptions (Python), "If the parallelism is not set, the configured Flink default is used".
	SettingParallelism = "parallelism"
	// SettingSlowElement is how long an element may take, in seconds, before the job's messages say so, with the stack of the thread that
	// is at it. Dataflow's workers do so after 5 min. Spec: python worker_status.py DEFAULT_LOG_LULL_TIMEOUT_NS.
	SettingSlowElement = "slow_element_seconds"
	// SettingPoolWait is for how long a job that is submitted waits for worker pools that cannot be reached yet, in seconds.
	SettingPoolWait = "worker_pool_wait_seconds"
)

// left is the value of a setting that is left to Padstone, of those that have no zero.
const left = 0

// setting is what there is to know of a setting.
type setting struct {
	name     string
	def      int64 // Padstone's own value; left: what it does depends
	min, max int64
	also     int64    // is allowed beside them, and means that nobody has chosen
	live     bool     // it may be changed while the job runs
	words    []string // what values are called, from min on; nil: they are numbers
	bytes    bool     // values may be written with a unit
	unit     string
	says     string // for DescribePipelineOptions
}

// Bounds of settings. The upper ones keep mistakes from passing for wishes: a bundle that is open for a day commits nothing for a day.
const (
	settingTimeMax = 24 * 60 * 60 * 1000
	// settingParallelismMax is Flink's. Spec: flink KeyGroupRangeAssignment.UPPER_BOUND_MAX_PARALLELISM.
	settingParallelismMax = 1 << 15
	settingSlowMax        = 7 * 24 * 60 * 60
	// slowElementDefault is Dataflow's, in seconds.
	slowElementDefault = 300
)

// settings lists all, in the order in which they are shown.
func settings() []setting {
	return append([]setting{
		{
			name: SettingBundleSize, min: 1, max: math.MaxInt32, live: true, unit: "elements",
			says: fmt.Sprintf("The most elements a bundle takes. Default: the server's, else %d.", scheduler.BundleElementsMaxDefault),
		},
		{
			name: SettingBundleTime, min: 1, max: settingTimeMax, live: true, unit: "milliseconds",
			says: fmt.Sprintf("How long a bundle is kept open for more elements at most, in milliseconds. Default: the server's, "+
				"else %d, in a batch %d.", scheduler.BundleTimeMaxMsDefault, bundleTimeBatch),
		},
		{
			name: SettingLatencyBudget, min: 1, max: settingTimeMax, live: true, unit: "milliseconds",
			says: fmt.Sprintf("What bundles that are kept open may add to the way of an element through the job, in milliseconds. "+
				"Default: the server's, else %d in streaming jobs.", latencyBudgetStreaming),
		},
		{
			name: SettingParallelism, def: -1, min: 1, max: settingParallelismMax, also: -1, live: true, unit: "at a time",
			says: "The most harness processes of an environment, and the most groupings at a time; -1: the server's, else no bound.",
		},
		{
			name: SettingSlowElement, def: slowElementDefault, max: settingSlowMax, live: true, unit: "seconds",
			says: fmt.Sprintf("How long an element may take before the job's messages show where user code is, in seconds; 0: never. "+
				"Default: the server's, else %d.", slowElementDefault),
		},
		{
			name: SettingPoolWait, max: settingSlowMax, unit: "seconds",
			says: "How long the job waits for worker pools that cannot be reached when it is submitted, in seconds. Default: the server's, " +
				"else 0: it is refused.",
		},
	}, workerSettings()...)
}

// settingOptions are the pipeline options of the settings.
func settingOptions() (out []*jobpb.PipelineOptionDescriptor) {
	for _, s := range settings() {
		kind := jobpb.PipelineOptionType_INTEGER
		if s.words != nil || s.bytes {
			kind = jobpb.PipelineOptionType_STRING
		}
		out = append(out, &jobpb.PipelineOptionDescriptor{Name: s.name, Type: kind, Group: "padstone", Description: s.says})
	}
	return out
}

// findSetting returns the setting of a name.
func findSetting(name string) (setting, bool) {
	all := settings()
	i := slices.IndexFunc(all, func(s setting) bool { return s.name == name })
	if i < 0 {
		return setting{}, false
	}
	return all[i], true
}

// check says what is wrong with a value, in words; "" if nothing is.
func (s *setting) check(v int64) string {
	if s.min <= v && v <= s.max || s.also != 0 && v == s.also {
		return ""
	}
	return fmt.Sprintf("%s is not %s", s.number(v), s.allowed())
}

// number writes a value that may not be allowed.
func (s *setting) number(v int64) string {
	if s.bytes && v > 0 {
		return bytesize.Text(v)
	}
	return strconv.FormatInt(v, 10)
}

func (s *setting) allowed() string {
	switch {
	case s.words != nil:
		return strings.Join(s.words, " or ")
	case s.bytes:
		return fmt.Sprintf("a size from %s to %s", bytesize.Text(s.min), bytesize.Text(s.max))
	}
	text := fmt.Sprintf("a whole number from %d to %d", s.min, s.max)
	if s.also != 0 {
		text += fmt.Sprintf(", or %d", s.also)
	}
	return text
}

// hint says what may be chosen.
func (s *setting) hint() string {
	return fmt.Sprintf("give %s (%s), or leave it out; docs/tuning.md says what it does", s.allowed(), s.unit)
}

// parse reads a value that was written.
func (s *setting) parse(text string) (v int64, wrong string) {
	if i := slices.IndexFunc(s.words, func(word string) bool { return strings.EqualFold(word, text) }); i >= 0 {
		return s.min + int64(i), ""
	}
	if s.words != nil {
		return 0, fmt.Sprintf("%.100q is not %s", text, s.allowed())
	}
	if s.bytes {
		v, err := bytesize.Parse(text)
		if err != nil {
			return 0, err.Error()
		}
		return v, s.check(v)
	}
	v, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Sprintf("%.100q is no whole number", text)
	}
	return v, s.check(v)
}

// CheckSetting says why a server cannot have the value for jobs that do not choose.
func CheckSetting(name string, v int64) error {
	s, ok := findSetting(name)
	if !ok {
		return fmt.Errorf("there is no setting %q", name)
	}
	if wrong := s.check(v); wrong != "" {
		return fmt.Errorf("%s", wrong)
	}
	return nil
}

// ParseSetting reads the value of a setting as it is written in a configuration.
func ParseSetting(name, text string) (int64, error) {
	s, ok := findSetting(name)
	if !ok {
		return 0, fmt.Errorf("there is no setting %q", name)
	}
	v, wrong := s.parse(text)
	if wrong != "" {
		return 0, fmt.Errorf("%s", wrong)
	}
	return v, nil
}

// option reads the pipeline option of the setting; ok is false when the job does not choose. SDKs send integers as strings or numbers.
func (s *setting) option(options *structpb.Struct) (v int64, ok bool, err error) {
	field := option.Value(options, s.name)
	wrong := ""
	switch k := field.GetKind().(type) {
	case nil, *structpb.Value_NullValue:
		return 0, false, nil
	case *structpb.Value_StringValue:
		v, wrong = s.parse(k.StringValue)
	case *structpb.Value_NumberValue:
		if s.words != nil {
			wrong = fmt.Sprintf("%g is not %s", k.NumberValue, s.allowed())
		} else if v = int64(k.NumberValue); float64(v) != k.NumberValue {
			wrong = fmt.Sprintf("%g is no whole number", k.NumberValue)
		} else {
			wrong = s.check(v)
		}
	default:
		wrong = "it is no number"
	}
	if wrong != "" {
		return 0, false, fault.New(fault.Pipeline, codeOption, "--%s: %s", s.name, wrong).WithHint("%s", s.hint())
	}
	return v, s.also == 0 || v != s.also, nil
}

// codeOption refuses the value of a pipeline option.
const codeOption fault.Code = "invalid-option"

// chosen are the settings of one job, by name. Not for concurrent use.
type chosen struct {
	server, option, hand map[string]int64
	own                  map[string]int64 // what is made of it when it is left to Padstone; 0, or none: it depends
	slots                int              // groupings at a time, unless a parallelism bounds them
}

// settingsOf reads the settings of a job that is submitted. Errors: invalid-option.
func settingsOf(cfg Config, options *structpb.Struct) (*chosen, error) {
	c := &chosen{
		server: cfg.Settings, option: make(map[string]int64), hand: make(map[string]int64), own: make(map[string]int64),
	}
	for _, s := range settings() {
		v, ok, err := s.option(options)
		if err != nil {
			return nil, err
		}
		if ok {
			c.option[s.name] = v
		}
	}
	return c, nil
}

// clone returns a copy, which others may read.
func (c *chosen) clone() *chosen {
	return &chosen{
		server: maps.Clone(c.server), option: maps.Clone(c.option), hand: maps.Clone(c.hand), own: maps.Clone(c.own), slots: c.slots,
	}
}

// Where the value of a setting is from.
const (
	fromDefault = "default"
	fromServer  = "server"
	fromOption  = "option"
	fromHand    = "set"
)

// value is that of a setting, and where it is from.
func (c *chosen) value(name string) (v int64, from string) {
	for _, layer := range []struct {
		values map[string]int64
		from   string
	}{{c.hand, fromHand}, {c.option, fromOption}, {c.server, fromServer}} {
		if v, ok := layer.values[name]; ok {
			return v, layer.from
		}
	}
	s, _ := findSetting(name)
	return s.def, fromDefault
}

// tuning is what the settings say of bundles.
func (c *chosen) tuning() Tuning {
	size, _ := c.value(SettingBundleSize)
	time, _ := c.value(SettingBundleTime)
	budget, _ := c.value(SettingLatencyBudget)
	return tuningOf(size, time, budget)
}

// leave says what is made of settings that are left to Padstone, of a scheduler with the configuration.
func (c *chosen) leave(sc scheduler.Config) {
	c.own[SettingBundleSize] = int64(cmp.Or(sc.BundleElementsMax, scheduler.BundleElementsMaxDefault))
	c.own[SettingBundleTime] = cmp.Or(sc.BundleTimeMaxMs, scheduler.BundleTimeMaxMsDefault)
	c.own[SettingLatencyBudget] = sc.LatencyBudgetMs
}

// bounded is n within the parallelism.
func (c *chosen) bounded(n int64) int64 {
	if most, _ := c.value(SettingParallelism); most > 0 {
		return min(n, most)
	}
	return n
}

// shown is the value of a setting for people; ok is false where what is done depends on more than a number.
func (c *chosen) shown(s *setting) (v int64, from string, ok bool) {
	v, from = c.value(s.name)
	if v == left {
		v = c.own[s.name]
	}
	return v, from, v != left || s.min <= left
}

// words is the value of a setting in a message.
func (c *chosen) words(s *setting) string {
	if v, _, ok := c.shown(s); ok {
		return cmp.Or(s.text(v), strconv.FormatInt(v, 10))
	}
	return "left to Padstone"
}

// text is what a value is called; "" when it is a number.
func (s *setting) text(v int64) string {
	switch {
	case s.words != nil && s.check(v) == "":
		return s.words[v-s.min]
	case s.bytes:
		return bytesize.Text(v)
	}
	return ""
}

// describe lists the settings with what they are now.
func (c *chosen) describe(notes map[string]string) []jobserver.SettingDescription {
	var out []jobserver.SettingDescription
	for _, s := range settings() {
		v, from, ok := c.shown(&s)
		d := jobserver.SettingDescription{Name: s.name, Unit: s.unit, From: from, Changeable: s.live, Note: notes[s.name]}
		if ok {
			d.Value, d.Text = &v, s.text(v)
		}
		out = append(out, d)
	}
	return out
}
