package threads

import (
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Thread is what a harness says of the processing of a bundle.
type Thread struct {
	Name string // "" when it is not told
	// Idle is for how long the thread has been in the same method of the same transform; Timed says that this is told.
	Idle  time.Duration
	Timed bool
	// Creating says that the bundle's DoFns are being made and set up.
	Creating bool
	// Stack is where the thread is, as the SDK prints it; "" when that is not told.
	Stack string
}

// stackMax bounds a stack in bytes: what is cut is the part that is farthest from where the thread is.
const stackMax = 6 << 10

// Of finds what a status says of a bundle. ok is false when it does not name the bundle.
func Of(status, instruction string) (t Thread, ok bool) {
	for _, read := range []func(lines []string, instruction string) (Thread, bool){python, java, golang} {
		if t, ok = read(strings.Split(status, "\n"), instruction); ok {
			return t, true
		}
	}
	return Thread{}, false
}

// section returns the lines behind the one that begins it, up to the next one for which end is true.
func section(lines []string, begins func(line string) bool, end func(line string) bool) ([]string, bool) {
	for i, line := range lines {
		if !begins(line) {
			continue
		}
		rest := lines[i+1:]
		for n, l := range rest {
			if end(l) {
				return rest[:n], true
			}
		}
		return rest, true
	}
	return nil, false
}

// is compares a line, apart from blanks around it.
func is(text string) func(string) bool {
	return func(line string) bool { return strings.TrimSpace(line) == text }
}

func blank(line string) bool { return strings.TrimSpace(line) == "" }

// field returns what stands behind the name in one of the lines.
func field(lines []string, name string) (string, bool) {
	for _, line := range lines {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name); ok {
			return strings.TrimSpace(value), true
		}
	}
	return "", false
}

// span reads "1.25 seconds".
func span(text string) (time.Duration, bool) {
	number, _, _ := strings.Cut(text, " ")
	seconds, err := strconv.ParseFloat(number, 64)
	return time.Duration(seconds * float64(time.Second)), err == nil
}

// pythonIdent is the identity at the end of what Python prints for a thread: <Thread(name, started daemon 140123)>.
var pythonIdent = regexp.MustCompile(`(\d+)\)>$`)

// python reads the text of Python's SDK. Spec: worker_status.py _active_processing_bundles_state and thread_dump.
func python(lines []string, instruction string) (t Thread, ok bool) {
	bundle, ok := section(lines, is("--- instruction "+instruction+" ---"), blank)
	if !ok {
		return t, false
	}
	since, timed := field(bundle, "time since transition:")
	if !timed {
		since, t.Creating = field(bundle, "time since creation started:")
	}
	if timed || t.Creating {
		t.Idle, t.Timed = span(since)
	}
	tracked, _ := field(bundle, "tracked thread:")
	ident := pythonIdent.FindStringSubmatch(tracked)
	if ident == nil {
		return t, true
	}
	t.Name = tracked
	const head = "--- Thread #"
	next := func(line string) bool { return strings.HasPrefix(line, head) || strings.HasPrefix(line, "=====") }
	for i, line := range lines {
		if !strings.HasPrefix(line, head) {
			continue
		}
		stack, _ := section(lines[i:], is(strings.TrimSpace(line)), next)
		alike := ""
		if len(stack) > 0 && strings.HasPrefix(stack[0], "threads: [") { // those with the same stack
			alike, stack = stack[0], stack[1:]
		}
		if strings.HasPrefix(line, head+ident[1]+" ") || strings.Contains(alike, "("+ident[1]+",") {
			t.Stack = last(stack)
			return t, true
		}
	}
	return t, true
}

// java reads the text of Java's SDK. Spec: BeamFnStatusClient.java getActiveProcessBundleState and getThreadDump.
func java(lines []string, instruction string) (t Thread, ok bool) {
	bundle, ok := section(lines, is("---- Instruction "+instruction+" ----"), blank)
	if !ok {
		return t, false
	}
	if since, timed := field(bundle, "Time since transition:"); timed {
		t.Idle, t.Timed = span(since)
	}
	if t.Name, _ = field(bundle, "Tracked thread:"); t.Name == "" {
		return t, true
	}
	for i, line := range lines {
		// Thread[name,5,main], since Java 19 Thread[#30,name,5,main].
		if !strings.HasPrefix(line, "---- Threads (") || !strings.Contains(line, "["+t.Name+",") && !strings.Contains(line, ","+t.Name+",") {
			continue
		}
		stack, _ := section(lines[i:], is(strings.TrimSpace(line)), blank)
		t.Stack = first(stack)
		return t, true
	}
	return t, true
}

// golang reads the text of Go's SDK, which does not tell which goroutine processes which bundle: those that process any are taken, if
// these are few. Spec: worker_status.go goroutineDump; runtime/pprof.
func golang(lines []string, instruction string) (t Thread, ok bool) {
	if _, ok = section(lines, is("Bundle ID: "+instruction), blank); !ok {
		return t, false
	}
	const most = 3
	var found []string
	for rest := lines; len(rest) > 0; {
		n := 0
		for n < len(rest) && !blank(rest[n]) {
			n++
		}
		if stack := frames(rest[:n]); strings.Contains(stack, "exec.(*Plan).Execute") {
			found = append(found, stack)
		}
		rest = rest[min(n+1, len(rest)):]
	}
	if len(found) <= most {
		t.Stack = strings.Join(found, "\n\n")
	}
	return t, true
}

// frames are the functions of an entry of a profile: lines "#\t0x4a1\tpackage.function+0x1\t\tfile:17".
func frames(entry []string) string {
	var out []string
	for _, line := range entry {
		parts := strings.Fields(line)
		if len(parts) < 4 || parts[0] != "#" {
			continue
		}
		function, _, _ := strings.Cut(parts[2], "+0x")
		out = append(out, function+"\n    "+parts[len(parts)-1])
	}
	return first(out)
}

// last is the end of a stack: Python's has the innermost frame there.
func last(lines []string) string {
	size, i := 0, len(lines)
	for ; i > 0 && size+len(lines[i-1]) < stackMax; i-- {
		size += len(lines[i-1]) + 1
	}
	return strings.TrimRight(strings.Join(lines[i:], "\n"), "\n ")
}

// first is the beginning of a stack: those of the others have the innermost frame there.
func first(lines []string) string {
	size, n := 0, 0
	for ; n < len(lines) && size+len(lines[n]) < stackMax; n++ {
		size += len(lines[n]) + 1
	}
	return strings.TrimRight(strings.Join(lines[:n], "\n"), "\n ")
}
