// Package lint holds the project's rules as tests: import directions, sizes, style, fault codes and the paths that documents name.
//
// It has no code outside its tests. A failure names the rule, the place and the remedy. Two rules are ratchets: what is long today
// is listed in testdata with its length and a reason, may shrink and may not grow; `go test ./internal/lint -rewrite` takes
// the lengths down. The tests read source text only: no package is built or loaded, so that all of it takes seconds.
package lint
