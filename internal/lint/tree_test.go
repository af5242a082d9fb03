package lint

import (
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "lower the lengths in testdata to the present ones and drop what is short now")

// module is the path in go.mod.
const module = "padstone"

// goFile is one Go file of the project.
type goFile struct {
	path      string // from the root, with slashes
	dir       string // directory of path
	text      []byte
	ast       *ast.File
	test      bool
	generated bool
}

// tree is all source of the project.
type tree struct {
	root  string
	fset  *token.FileSet
	files []*goFile
}

// loadTree reads the project once for all tests.
var loadTree = sync.OnceValues(func() (*tree, error) {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		return nil, err
	}
	t := &tree{root: root, fset: token.NewFileSet()}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if path != root && skipDir(d.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		file, err := parser.ParseFile(t.fset, rel, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		t.files = append(t.files, &goFile{
			path: rel, dir: pathDir(rel), text: text, ast: file,
			test: strings.HasSuffix(rel, "_test.go"), generated: ast.IsGenerated(file),
		})
		return nil
	})
	sort.Slice(t.files, func(i, j int) bool { return t.files[i].path < t.files[j].path })
	return t, err
})

// skipDir tells which directories hold no source of ours. Go's own rule skips names with a dot or an underscore, and testdata.
func skipDir(name string) bool {
	return strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata" || name == "node_modules" || name == "bin"
}

func pathDir(p string) string {
	if i := strings.LastIndex(p, "/"); i >= 0 {
		return p[:i]
	}
	return "."
}

// project returns the source, or ends the test.
func project(t *testing.T) *tree {
	t.Helper()
	tree, err := loadTree()
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// at prints a position as file:line.
func (t *tree) at(p token.Pos) string {
	return t.fset.Position(p).String()
}

// under tells whether dir is pattern or below it. "a/b" matches a/b and a/b/c; "a/b!" matches a/b alone.
func under(dir, pattern string) bool {
	if exact, ok := strings.CutSuffix(pattern, "!"); ok {
		return dir == exact
	}
	return dir == pattern || strings.HasPrefix(dir, pattern+"/")
}

func underAny(dir string, patterns []string) bool {
	for _, p := range patterns {
		if under(dir, p) {
			return true
		}
	}
	return false
}
