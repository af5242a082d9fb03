package main

import (
	"errors"
	"strings"
	"testing"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
)

const raisedDrained = `Traceback (most recent call last):
  File "wc.py", line 3, in <module>
    with beam.Pipeline() as p:
RuntimeError: Pipeline payments-1 failed in state DRAINED: unknown error
`

func TestJudge(t *testing.T) {
	job := func(state jobpb.JobState_Enum) jobEnd { return jobEnd{id: "payments-1", state: state} }
	done, drained := job(jobpb.JobState_DONE), job(jobpb.JobState_DRAINED)
	failed, cancelled := job(jobpb.JobState_FAILED), job(jobpb.JobState_CANCELLED)
	failedWith := failed
	failedWith.error = "boom in \"Parse\"\nTraceback …\nValueError: no number"
	lost := jobEnd{id: "payments-1", state: jobpb.JobState_RUNNING, lost: errors.New("gone")}

	cases := []struct {
		name string
		end  runEnd
		code int
		says string // a part of the lines; "-" for no line at all
	}{
		{"done", runEnd{jobs: []jobEnd{done}}, 0, "-"},
		{"drained, the client raised", runEnd{jobs: []jobEnd{drained}, script: 1, tail: raisedDrained}, 0,
			"the Python client raises RuntimeError for the state DRAINED; the job itself ended well"},
		{"stopped with a savepoint, the client raised", runEnd{jobs: []jobEnd{job(jobpb.JobState_UPDATED)}, script: 1,
			tail: strings.ReplaceAll(raisedDrained, "DRAINED", "UPDATED")}, 0,
			"the Python client raises RuntimeError for the state UPDATED; the job itself ended well"},
		{"drained, the client raised for another state", runEnd{jobs: []jobEnd{drained}, script: 1,
			tail: strings.ReplaceAll(raisedDrained, "DRAINED", "UPDATED")}, 1, "-"},
		{"drained, the script caught it", runEnd{jobs: []jobEnd{drained}}, 0, "-"},
		{"drained, then a fault of the script's own", runEnd{jobs: []jobEnd{drained}, script: 1,
			tail: raisedDrained + "\nDuring handling of the above exception, another exception occurred:\n\nKeyError: 'x'\n"}, 1, "-"},
		{"drained, the script ended otherwise", runEnd{jobs: []jobEnd{drained}, script: 7, tail: ""}, 7, "-"},
		{"done, the script failed after it", runEnd{jobs: []jobEnd{done}, script: 3, tail: "AssertionError: 1 != 2\n"}, 3, "-"},
		{"failed", runEnd{jobs: []jobEnd{failed}, script: 1, tail: raisedDrained}, 1, "-"},
		{"failed, the script hides it", runEnd{jobs: []jobEnd{failedWith}}, 1, "ValueError: no number"},
		{"failed, the client said so", runEnd{jobs: []jobEnd{failedWith}, script: 1, tail: "RuntimeError: … ValueError: no number\n"}, 1, "-"},
		{"failed, all was said in one line", runEnd{jobs: []jobEnd{{state: jobpb.JobState_FAILED, error: "short"}}}, 1, "-"},
		{"cancelled", runEnd{jobs: []jobEnd{cancelled}, script: 1}, 2, "-"},
		{"cancelled, the script does not mind", runEnd{jobs: []jobEnd{cancelled}}, 2, "-"},
		{"the script died and its job was cancelled", runEnd{jobs: []jobEnd{cancelled}, script: 9, abandoned: true}, 9, "-"},
		{"the script left its job behind", runEnd{jobs: []jobEnd{cancelled}, abandoned: true}, 2, "-"},
		{"lost", runEnd{jobs: []jobEnd{lost}}, 1, "was RUNNING when last seen"},
		{"two good jobs", runEnd{jobs: []jobEnd{done, drained}, script: 1, tail: raisedDrained}, 0, "2 jobs: 0 failed"},
		{"failed wins over cancelled", runEnd{jobs: []jobEnd{cancelled, failed, done}}, 1, "3 jobs: 1 failed, 1 cancelled"},
		{"cancelled wins over the script", runEnd{jobs: []jobEnd{done, cancelled}, script: 5}, 2, "1 cancelled"},
		{"no job", runEnd{}, 0, "submitted no job"},
		{"died before a job", runEnd{script: 4}, 4, "code 4 before it submitted a job"},
		{"refused", runEnd{script: 1, refused: []string{"unsupported-x: transform \"P\""}}, 1, "refused the pipeline: unsupported-x"},
		{"another server", runEnd{ownEndpoint: "other:1"}, 0, "other:1"},
		{"interrupted early", runEnd{script: 130, interrupted: true}, 130, "before the script submitted a job"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			code, lines := c.end.judge()
			if code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			text := strings.Join(lines, "\n")
			if c.says == "-" && text != "" || c.says != "-" && !strings.Contains(text, c.says) {
				t.Errorf("says %q, want %q", text, c.says)
			}
		})
	}
}

func TestGist(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", ""},
		{"one line\n", "one line"},
		{
			"bundle-failed: transform \"P\": Traceback (most recent call last):\n  File x\nValueError: no\n\n",
			"bundle-failed: transform \"P\": ValueError: no",
		},
		{"where\nwhat", "where: what"},
	} {
		if got := gist(c.text); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
