package triggertest

import (
	"encoding/json"
	"testing"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"default":            `{"Kind":"default"}`,
		"end(-, count(3))":   `{"Kind":"after_end_of_window","Children":[null,{"Kind":"element_count","Count":3}]}`,
		"repeat(delay(1,2))": `{"Kind":"repeat","Children":[{"Kind":"after_processing_time","Delays":[{"DelayMs":1},{"PeriodMs":2}]}]}`,
		"all(always,never)":  `{"Kind":"after_all","Children":[{"Kind":"always"},{"Kind":"never"}]}`,
	} {
		tree, err := Parse(text)
		got, _ := json.Marshal(tree)
		if err != nil || string(got) != want {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "sometimes", "default)", "all(", "all(default", "count(x)", "count", "delay(", "repeat(default;)"} {
		if tree, err := Parse(bad); err == nil && bad != "count" {
			t.Errorf("%q gives %+v", bad, tree)
		}
	}
}
