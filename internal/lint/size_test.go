package lint

import (
	"bufio"
	"bytes"
	"fmt"
	"go/ast"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
)

// Sizes in lines. A file or function past the first number is listed in testdata and may not grow; past the second it fails.
const (
	fileLinesAim = 400
	fileLinesMax = 800
	funcLinesMax = 100
)

func TestFileLength(t *testing.T) {
	long := map[string]int{}
	for _, f := range project(t).files {
		lines := bytes.Count(f.text, []byte("\n"))
		switch {
		case f.generated:
		case lines > fileLinesMax:
			t.Errorf("%s: %d lines; split it (at most %d)", f.path, lines, fileLinesMax)
		case lines > fileLinesAim && !f.test:
			long[f.path] = lines
		}
	}
	checkRatchet(t, "long_files.txt", long, fmt.Sprintf("split it: one noun or verb a file, about %d lines", fileLinesAim))
}

func TestFunctionLength(t *testing.T) {
	tree := project(t)
	long := map[string]int{}
	for _, f := range tree.files {
		if f.generated || f.test {
			continue
		}
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			lines := tree.fset.Position(fn.End()).Line - tree.fset.Position(fn.Pos()).Line + 1
			if lines > funcLinesMax {
				long[f.path+":"+funcName(fn)] = lines
			}
		}
	}
	checkRatchet(t, "long_functions.txt", long, fmt.Sprintf("split it (at most %d lines), or list it with a reason", funcLinesMax))
}

// funcName writes a function as Type.Method or Function.
func funcName(fn *ast.FuncDecl) string {
	if fn.Recv == nil || len(fn.Recv.List) == 0 {
		return fn.Name.Name
	}
	recv := fn.Recv.List[0].Type
	if star, ok := recv.(*ast.StarExpr); ok {
		recv = star.X
	}
	switch x := recv.(type) {
	case *ast.IndexExpr:
		recv = x.X
	case *ast.IndexListExpr:
		recv = x.X
	}
	if id, ok := recv.(*ast.Ident); ok {
		return id.Name + "." + fn.Name.Name
	}
	return fn.Name.Name
}

// ratchetEntry is one line of a ratchet: name, lines, reason.
type ratchetEntry struct {
	lines  int
	reason string
}

// checkRatchet compares what is long now with what testdata/name allows.
func checkRatchet(t *testing.T, name string, long map[string]int, remedy string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	allowed, header := readRatchet(t, path)
	if *rewrite {
		writeRatchet(t, path, header, allowed, long)
		return
	}
	for where, lines := range long {
		entry, listed := allowed[where]
		switch {
		case !listed:
			t.Errorf("%s: %d lines; %s (internal/lint/%s)", where, lines, remedy, path)
		case lines > entry.lines:
			t.Errorf("%s: grew from %d to %d lines; %s", where, entry.lines, lines, remedy)
		}
	}
	for where, entry := range allowed {
		if _, still := long[where]; !still {
			t.Errorf("internal/lint/%s: %s is no longer long or no longer there; take the line out (or run with -rewrite)", path, where)
		}
		if entry.reason == "" {
			t.Errorf("internal/lint/%s: %s has no reason", path, where)
		}
	}
}

// readRatchet parses "name lines reason…" lines; lines that begin with # are the header.
func readRatchet(t *testing.T, path string) (map[string]ratchetEntry, []string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	entries := map[string]ratchetEntry{}
	var header []string
	for scan := bufio.NewScanner(bytes.NewReader(text)); scan.Scan(); {
		line := strings.TrimSpace(scan.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			header = append(header, line)
			continue
		}
		fields := strings.SplitN(line, " ", 3)
		lines, err := strconv.Atoi(strings.TrimSpace(fields[min(1, len(fields)-1)]))
		if err != nil {
			t.Fatalf("%s: %q is not `name lines reason`", path, line)
		}
		entry := ratchetEntry{lines: lines}
		if len(fields) == 3 {
			entry.reason = strings.TrimSpace(fields[2])
		}
		entries[fields[0]] = entry
	}
	return entries, header
}

// writeRatchet lowers the lengths of what is listed and drops what is short; what is new has to be listed by hand, with its reason.
func writeRatchet(t *testing.T, path string, header []string, allowed map[string]ratchetEntry, long map[string]int) {
	t.Helper()
	var lines []string
	for where, entry := range allowed {
		if n, still := long[where]; still {
			lines = append(lines, fmt.Sprintf("%s %d %s", where, min(n, entry.lines), entry.reason))
		}
	}
	sort.Strings(lines)
	text := strings.Join(append(header, lines...), "\n") + "\n"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
