package translate_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

// TestEveryCodeHasASection holds the page of errors to the codes in the source, both ways.
func TestEveryCodeHasASection(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "docs", "errors", "translate.md"))
	if err != nil {
		t.Fatal(err)
	}
	documented := submatches(regexp.MustCompile(`(?m)^## (.+)$`), page)
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var used []string
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		used = append(used, submatches(regexp.MustCompile(`fault\.Code = "([^"]+)"`), source)...)
		used = append(used, submatches(regexp.MustCompile(`fault\.Internal, "([^"]+)"`), source)...)
	}
	for _, code := range used {
		if !slices.Contains(documented, code) {
			t.Errorf("docs/errors/translate.md has no section %q: say what it means, its causes and what to do", code)
		}
	}
	for _, code := range documented {
		if !slices.Contains(used, code) {
			t.Errorf("docs/errors/translate.md has a section %q that no error uses: remove it", code)
		}
	}
}

func submatches(re *regexp.Regexp, text []byte) []string {
	var all []string
	for _, m := range re.FindAllSubmatch(text, -1) {
		all = append(all, string(m[1]))
	}
	return all
}
