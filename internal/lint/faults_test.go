package lint

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// faultPath is the package whose type Code every error code has.
const faultPath = module + "/internal/fault"

// codeShape is how a code is written: lower-case words with dashes.
var codeShape = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)+$`)

// TestFaultCodes holds that every code used in the product has one section in docs/errors, and every section a code.
func TestFaultCodes(t *testing.T) {
	used := usedCodes(t, project(t))
	documented := documentedCodes(t, project(t).root)
	for _, code := range slices.Sorted(maps.Keys(used)) {
		at := used[code]
		if !codeShape.MatchString(code) {
			t.Errorf("%s: code %q; write lower-case words with dashes", at, code)
		}
		if documented[code] == "" {
			t.Errorf("%s: code %q has no section; add `## %s` (meaning, causes, what to do) to a page of docs/errors", at, code, code)
		}
	}
	for _, code := range slices.Sorted(maps.Keys(documented)) {
		if used[code] == "" {
			t.Errorf("%s: no code uses section %q; take it out, or use a constant of type fault.Code", documented[code], code)
		}
	}
}

// documentedCodes returns the headings of docs/errors/*.md that are codes, each with its place.
func documentedCodes(t *testing.T, root string) map[string]string {
	t.Helper()
	pages, err := filepath.Glob(filepath.Join(root, "docs", "errors", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	codes := map[string]string{}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			heading, ok := strings.CutPrefix(line, "##")
			if !ok {
				continue
			}
			code := strings.Trim(strings.TrimLeft(heading, "#"), " `")
			if !codeShape.MatchString(code) {
				continue
			}
			at := fmt.Sprintf("docs/errors/%s:%d", filepath.Base(page), i+1)
			if before := codes[code]; before != "" {
				t.Errorf("%s: %q has a section at %s already", at, code, before)
			}
			codes[code] = at
		}
	}
	return codes
}

// usedCodes returns the constants of type fault.Code in the product, each with one place of use. The type checker finds them, so
// that a literal handed to a function of the caller's own counts as much as one in fault.New.
func usedCodes(t *testing.T, tree *tree) map[string]string {
	t.Helper()
	c := &checker{tree: tree, files: map[string][]*ast.File{}, done: map[string]*types.Package{}, codes: map[string]string{}}
	for _, f := range tree.files {
		if !f.test && !f.generated {
			path := module + "/" + f.dir
			c.files[path] = append(c.files[path], f.ast)
		}
	}
	for path := range c.files {
		if _, err := c.Import(path); err != nil {
			t.Fatal(err)
		}
	}
	return c.codes
}

// checker type-checks our own packages from source. Packages of others are empty to it: what it cannot resolve it passes over,
// since no fault code depends on them.
type checker struct {
	tree  *tree
	files map[string][]*ast.File // by import path
	done  map[string]*types.Package
	codes map[string]string
}

// Import returns the package at path, checked when it is ours.
func (c *checker) Import(path string) (*types.Package, error) {
	if p := c.done[path]; p != nil {
		return p, nil
	}
	files := c.files[path]
	if files == nil {
		name := path[strings.LastIndex(path, "/")+1:]
		p := types.NewPackage(path, name)
		p.MarkComplete()
		c.done[path] = p
		return p, nil
	}
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Defs: map[*ast.Ident]types.Object{}}
	conf := types.Config{Importer: c, Error: func(error) {}, FakeImportC: true}
	p, _ := conf.Check(path, c.tree.fset, files, info)
	c.done[path] = p
	for expr, tv := range info.Types {
		c.note(tv.Type, tv.Value, expr.Pos())
	}
	for id, object := range info.Defs {
		if k, ok := object.(*types.Const); ok {
			c.note(k.Type(), k.Val(), id.Pos())
		}
	}
	return p, nil
}

// note records a constant that is a code; the first place in the order of files wins.
func (c *checker) note(typ types.Type, value constant.Value, pos token.Pos) {
	named, ok := typ.(*types.Named)
	if !ok || value == nil || value.Kind() != constant.String {
		return
	}
	object := named.Obj()
	if object.Name() != "Code" || object.Pkg() == nil || object.Pkg().Path() != faultPath {
		return
	}
	code, at := constant.StringVal(value), c.tree.at(pos)
	if before, seen := c.codes[code]; code != "" && (!seen || at < before) {
		c.codes[code] = at
	}
}
