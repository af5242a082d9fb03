package main

import (
	"strings"
	"testing"
)

// TestBenchArguments holds that what cannot be measured is refused before anything is started, with all faults at once.
func TestBenchArguments(t *testing.T) {
	cases := []struct {
		args string
		code int
		says []string
	}{
		{"bundles --sizes 0,10000001 --seconds 0", exitUsage, []string{"--sizes: 0", "--sizes: 10000001", "--seconds: 0"}},
		{"bundles --sizes 1 --times 1s", exitUsage, []string{"--sizes and --times exclude each other"}},
		{"bundles --times 2h", exitUsage, []string{"--times: 2h0m0s"}},
		{"bundles --in-flight 0 --overhead 100 --latency-budget 0s", exitUsage, []string{"--in-flight: 0", "--overhead: 100", "--latency-budget: 0s"}},
		{"bundles --element-bytes -1", exitUsage, []string{"--element-bytes: -1"}},
		{"bundles --script x.py --element-bytes 3", exitUsage, []string{"--element-bytes: the elements are those of the --script"}},
		{"bundles --script /nowhere/x.py --sizes -1", exitUsage, []string{"--script: stat /nowhere/x.py: no such file", "--sizes: -1"}},
		{"bundles --script .", exitUsage, []string{"--script: . is a directory"}},
		{"bundles --stage x", exitUsage, []string{"--stage needs a --script"}},
		{"bundles leftover", exitUsage, []string{`["leftover"]: arguments are those of a --script`}},
		{"bundles --python /nowhere/python", exitFailed, []string{"python-not-found"}},
		{"peers --case gbk,nothing --elements huge --runs 0 --timeout 1ms", exitUsage,
			[]string{`no case "nothing"; there are empty, chain`, `--elements: "huge"`, "--runs: 0", "--timeout: 1ms"}},
		{"peers --endpoint prism --endpoint a=b:1 --endpoint a=b:2 --endpoint =c:1 --endpoint d=e", exitUsage,
			[]string{`"prism" is no name=host:port`, `"a" is named twice`, `"=c:1"`, `"d=e"`}},
		{"peers --endpoint a=b:1 --pid a=x --pid c=7", exitUsage, []string{`"a=x" is no name=PID`, `"c=7" is no name=PID`}},
		{"peers --python /nowhere/python", exitFailed, []string{"python-not-found"}},
		{"nothing", exitUsage, []string{"nothing"}},
	}
	for _, c := range cases {
		var stdout, stderr strings.Builder
		term := &terminal{out: &stdout, err: &stderr, getenv: func(string) string { return "" }, width: func() int { return 0 }}
		code := execute(t.Context(), term, append([]string{"bench"}, strings.Fields(c.args)...))
		out, errText := stdout.String(), stderr.String()
		if code != c.code || out != "" {
			t.Errorf("%s: exit code %d, not %d; stdout %q", c.args, code, c.code, out)
		}
		for _, say := range c.says {
			if !strings.Contains(errText, say) {
				t.Errorf("%s: %q does not say %q", c.args, errText, say)
			}
		}
	}
}
