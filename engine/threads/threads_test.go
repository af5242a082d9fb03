package threads

import (
	"strings"
	"testing"
	"time"
)

// Texts as the SDKs of 2.77 print them.
const (
	pythonText = `========== CACHE STATS ==========
Cache disabled
========== ACTIVE PROCESSING BUNDLES ==========
--- instruction job-1/run/2 ---
ProcessBundleDescriptorId: job-1/run/s2
tracked thread: <_Worker(Thread-16, started daemon 139656330983104)>
time since transition: 10.38 seconds

--- instruction job-1/run/21 ---
ProcessBundleDescriptorId: job-1/run/s2
tracked thread: <_Worker(Thread-17, started daemon 1396)>
time since transition: 0.25 seconds

--- instruction job-1/run/3 ---
ProcessBundleDescriptorId: job-1/run/s2
tracked thread: None
time since transition: 0.00 seconds

Processors being created:

--- instruction job-1/run/4 ---
ProcessBundleDescriptorId: job-1/run/s4
tracked thread: <_Worker(Thread-18, started daemon 77)>
time since creation started: 61.50 seconds

==============================
========== THREAD DUMP ==========
--- Thread #139656 name: MainThread ---
  File "main.py", line 1, in main
    wait()

--- Thread #139656330983104 name: Thread-16 ---
  File "sdk_worker.py", line 383, in task
    self._execute(
  File "slow.py", line 6, in nap
    time.sleep(float(NAP))

--- Thread #12 name: Thread-3 and other 2 threads---
threads: [(12, 'Thread-3'), (1396, 'Thread-17'), (77, 'Thread-18')]
  File "queue.py", line 171, in get
    self.not_empty.wait()

==============================`
	javaText = `========== MEMORY USAGE ==========
used/total/max = 80/256/3962 MB

========== ACTIVE PROCESSING BUNDLES ==========
1 total bundles, showing selected slowest
---- Instruction job-1/run/7 ----
Tracked thread: pool-2-thread-3
Time since start: 12.50 seconds
Time since transition: 11.25 seconds

========== THREAD DUMP ==========
---- Threads (1): [Thread[#31,pool-2-thread-30,5,main]] State: RUNNABLE Stack: ----
wrong

---- Threads (2): [Thread[#30,pool-2-thread-3,5,main], Thread[x,5,main]] State: TIMED_WAITING Stack: ----
java.base@17/java.lang.Thread.sleep(Native Method)
com.example.Slow.process(Slow.java:17)


`
	goText = `
============Active Process Bundle States============
Bundle ID: job-1/run/5
	Bundle State:
	 PTransform ID: e4
	 Current state: PROCESS_BUNDLE
============Goroutine Dump============
goroutine profile: total 12
1 @ 0x47c04e 0x4a0b45 0x9c8d4f
#	0x47c04d	time.Sleep+0x12c				/go/src/runtime/time.go:338
#	0x9c8d4e	main.(*slow).ProcessElement+0x4e		/tmp/slow.go:17
#	0x9c8d00	github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/exec.(*Plan).Execute+0x10	/beam/plan.go:139

1 @ 0x47c04e
#	0x9c8d00	main.main+0x10	/tmp/slow.go:40
`
)

func TestOf(t *testing.T) {
	for _, c := range []struct {
		name, text, instruction string
		want                    Thread
		stack                   []string // its lines begin and end with these
	}{
		{"python", pythonText, "job-1/run/2", Thread{
			Name: "<_Worker(Thread-16, started daemon 139656330983104)>", Idle: 10380 * time.Millisecond, Timed: true,
		}, []string{`  File "sdk_worker.py"`, "time.sleep(float(NAP))"}},
		{"python, one of several with a stack", pythonText, "job-1/run/21", Thread{
			Name: "<_Worker(Thread-17, started daemon 1396)>", Idle: 250 * time.Millisecond, Timed: true,
		}, []string{`  File "queue.py"`, "self.not_empty.wait()"}},
		{"python, no thread yet", pythonText, "job-1/run/3", Thread{Timed: true}, nil},
		{"python, being made", pythonText, "job-1/run/4", Thread{
			Name: "<_Worker(Thread-18, started daemon 77)>", Idle: 61500 * time.Millisecond, Timed: true, Creating: true,
		}, []string{`  File "queue.py"`, "self.not_empty.wait()"}},
		{"java", javaText, "job-1/run/7", Thread{Name: "pool-2-thread-3", Idle: 11250 * time.Millisecond, Timed: true},
			[]string{"java.base@17", "com.example.Slow.process(Slow.java:17)"}},
		{"go", goText, "job-1/run/5", Thread{}, []string{"time.Sleep\n    /go/src", "/beam/plan.go:139"}},
	} {
		got, ok := Of(c.text, c.instruction)
		if !ok {
			t.Errorf("%s: the bundle is not found", c.name)
		}
		stack := got.Stack
		got.Stack = ""
		if got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
		if c.stack == nil && stack != "" || c.stack != nil && !(strings.HasPrefix(stack, c.stack[0]) && strings.HasSuffix(stack, c.stack[1])) {
			t.Errorf("%s: the stack is %q", c.name, stack)
		}
	}
	for _, text := range []string{"", pythonText, javaText, goText, "--- instruction x ---", "Bundle ID: x"} {
		if got, ok := Of(text, "job-1/run/99"); ok {
			t.Errorf("a bundle that is not named is %+v", got)
		}
		Of(text, "x")
	}
}

// TestLongStacks: a stack of a runaway recursion is cut where it is farthest from what runs.
func TestLongStacks(t *testing.T) {
	deep := strings.Repeat("  File \"deep.py\", line 3, in again\n    again()\n", 1000)
	text := strings.Replace(pythonText, "    time.sleep(float(NAP))", deep+"    innermost()", 1)
	if got, _ := Of(text, "job-1/run/2"); len(got.Stack) > stackMax || !strings.HasSuffix(got.Stack, "innermost()") {
		t.Errorf("%d bytes, ending with %q", len(got.Stack), got.Stack[max(0, len(got.Stack)-20):])
	}
	text = strings.Replace(javaText, "com.example", strings.Repeat("Deep.again(Deep.java:1)\n", 1000)+"com.example", 1)
	if got, _ := Of(text, "job-1/run/7"); len(got.Stack) > stackMax || !strings.HasPrefix(got.Stack, "java.base@17") {
		t.Errorf("%d bytes, beginning with %q", len(got.Stack), got.Stack[:min(20, len(got.Stack))])
	}
}
