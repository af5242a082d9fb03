package lint

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Paths as documents write them: in backquotes, or as the target of a link.
var (
	quoted   = regexp.MustCompile("`([^`\n]+)`")
	linked   = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	pathLike = regexp.MustCompile(`^[A-Za-z0-9_.\-]+(/[A-Za-z0-9_.\-]+)*/?$`)
)

// TestDocPaths holds that documents refer to files and directories that are there.
func TestDocPaths(t *testing.T) {
	root := project(t).root
	for _, page := range documents(t, root) {
		text, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			at := fmt.Sprintf("%s:%d", page, i+1)
			for _, m := range quoted.FindAllStringSubmatch(line, -1) {
				if path := m[1]; isPath(root, path) && !exists(root, path) {
					t.Errorf("%s: `%s` does not exist; correct the path", at, path)
				}
			}
			for _, m := range linked.FindAllStringSubmatch(line, -1) {
				target, _, _ := strings.Cut(m[1], "#")
				if target == "" || strings.Contains(target, ":") {
					continue
				}
				if !exists(root, filepath.Join(filepath.Dir(page), target)) {
					t.Errorf("%s: the link to %s leads nowhere; correct it", at, m[1])
				}
			}
		}
	}
}

// TestFileMap holds that the file map of docs/architecture.md names every package.
func TestFileMap(t *testing.T) {
	tree := project(t)
	const page = "docs/architecture.md"
	text, err := os.ReadFile(filepath.Join(tree.root, page))
	if err != nil {
		t.Fatalf("%v; write the guide to the internals with its file map", err)
	}
	seen := map[string]bool{}
	for _, f := range tree.files {
		if seen[f.dir] || f.test {
			continue
		}
		seen[f.dir] = true
		if !strings.Contains(string(text), "`"+f.dir+"`") && !strings.Contains(string(text), "`"+f.dir+"/`") {
			t.Errorf("%s: the file map does not name `%s`; add a line", page, f.dir)
		}
	}
}

// documents lists the Markdown files of the root and of docs.
func documents(t *testing.T, root string) []string {
	t.Helper()
	pages, err := filepath.Glob(filepath.Join(root, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(filepath.Join(root, "docs"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".md") {
			pages = append(pages, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, page := range pages {
		if pages[i], err = filepath.Rel(root, page); err != nil {
			t.Fatal(err)
		}
	}
	return pages
}

// isPath tells whether quoted text means a path from the root: it has a slash and begins with a directory that is there.
func isPath(root, text string) bool {
	first, _, slash := strings.Cut(text, "/")
	if !slash || !pathLike.MatchString(text) {
		return false
	}
	info, err := os.Stat(filepath.Join(root, first))
	return err == nil && info.IsDir()
}

// exists tells whether path is there; what the build makes is not looked for.
func exists(root, path string) bool {
	if strings.HasPrefix(path, "bin/") {
		return true
	}
	_, err := os.Stat(filepath.Join(root, path))
	return err == nil
}
