package lint

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/format"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// lineCharsMax bounds a line; a tab counts as one character.
const (
	lineCharsMax = 140
	// Tables and expectations of tests are data: a row that is broken over lines is harder to compare.
	testLineCharsMax = 200
)

// The words are put together here, so that this file keeps its own rule.
var unfinished = regexp.MustCompile(`\b(` + strings.Join([]string{"TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK"}, "|") + `)\b`)

func TestFormat(t *testing.T) {
	for _, f := range project(t).files {
		if f.generated {
			continue
		}
		want, err := format.Source(f.text)
		if err != nil {
			t.Errorf("%s: %v", f.path, err)
		} else if !bytes.Equal(want, f.text) {
			t.Errorf("%s: not formatted; run `gofmt -w %s`", f.path, f.path)
		}
	}
}

func TestLines(t *testing.T) {
	for _, f := range project(t).files {
		if f.generated {
			continue
		}
		for i, line := range strings.Split(string(f.text), "\n") {
			at := fmt.Sprintf("%s:%d", f.path, i+1)
			limit := lineCharsMax
			if strings.HasSuffix(f.path, "_test.go") {
				limit = testLineCharsMax
			}
			if n := utf8.RuneCountInString(line); n > limit {
				t.Errorf("%s: %d characters; break the line (at most %d)", at, n, limit)
			}
			if word := unfinished.FindString(line); word != "" {
				t.Errorf("%s: %s; finish it, refuse the case with a fault code, or open an issue", at, word)
			}
		}
	}
}

func TestPackageDocs(t *testing.T) {
	docs := map[string]*goFile{}
	names := map[string]string{}
	for _, f := range project(t).files {
		if !f.test {
			names[f.dir] = f.ast.Name.Name
		}
		if strings.HasSuffix(f.path, "/doc.go") {
			docs[f.dir] = f
		}
	}
	for dir, name := range names {
		doc := docs[dir]
		if doc == nil {
			t.Errorf("%s: no doc.go; say what the package is, what it is not, its invariants, goroutines and errors", dir)
			continue
		}
		begin := "Package " + name + " "
		if name == "main" {
			begin = "Command "
		}
		if text := doc.ast.Doc.Text(); !strings.HasPrefix(text, begin) {
			t.Errorf("%s: the package comment must begin with %q", doc.path, begin)
		}
	}
}

// callRule forbids a call, written as "package.Function" or as the name of a builtin.
type callRule struct {
	why    string
	in     []string
	except []string
	calls  []string
}

var callRules = []callRule{
	{
		why:    "only main ends the process: return an error",
		except: []string{"cmd", "bench"},
		calls:  []string{"os.Exit", "log.Fatal", "log.Fatalf", "log.Fatalln", "log.Panic", "log.Panicf", "syscall.Exit"},
	},
	{
		why:    "only commands print: log through the *zap.Logger of the constructor",
		except: []string{"cmd", "bench"},
		calls:  []string{"fmt.Print", "fmt.Printf", "fmt.Println", "log.Print", "log.Printf", "log.Println", "print", "println"},
	},
	{
		why: "pure packages are told the time: take an element.Time or a duration as a parameter",
		in:  pure,
		calls: []string{
			"time.Now", "time.Sleep", "time.Since", "time.Until", "time.After", "time.AfterFunc", "time.NewTimer", "time.NewTicker",
			"time.Tick",
		},
	},
	{
		why: "the store is the recovery path: let a broken invariant stop the process or return it as an error",
		in:  []string{"engine"}, calls: []string{"recover"},
	},
}

func TestCalls(t *testing.T) {
	tree := project(t)
	for _, f := range tree.files {
		if f.test || f.generated {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			name := callName(call)
			for _, rule := range callRules {
				if len(rule.in) > 0 && !underAny(f.dir, rule.in) || underAny(f.dir, rule.except) {
					continue
				}
				for _, forbidden := range rule.calls {
					if name == forbidden {
						t.Errorf("%s: calls %s; %s", tree.at(call.Pos()), name, rule.why)
					}
				}
			}
			return true
		})
	}
}

// callName writes a call as "package.Function" or "function"; "" for what has no such name.
func callName(call *ast.CallExpr) string {
	switch fun := call.Fun.(type) {
	case *ast.Ident:
		return fun.Name
	case *ast.SelectorExpr:
		if x, ok := fun.X.(*ast.Ident); ok {
			return x.Name + "." + fun.Sel.Name
		}
	}
	return ""
}

// TestExitInMain narrows the rule of callRules for commands: there, too, only the file main.go ends the process.
func TestExitInMain(t *testing.T) {
	tree := project(t)
	for _, f := range tree.files {
		if f.test || !underAny(f.dir, []string{"cmd", "bench"}) || strings.HasSuffix(f.path, "/main.go") {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && callName(call) == "os.Exit" {
				t.Errorf("%s: calls os.Exit; return an error to main", tree.at(call.Pos()))
			}
			return true
		})
	}
}

func TestDeclarations(t *testing.T) {
	tree := project(t)
	for _, f := range tree.files {
		if f.test || f.generated {
			continue
		}
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: func init; register in a constructor and wire in cmd", tree.at(fn.Pos()))
			}
		}
		if !underAny(f.dir, pure) {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if g, ok := n.(*ast.GoStmt); ok {
				t.Errorf("%s: starts a goroutine in a pure package; let the caller do it", tree.at(g.Pos()))
			}
			return true
		})
	}
}
