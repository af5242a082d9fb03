package metrics

import (
	"errors"
	"fmt"
	"sort"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"
)

// boundDefault is the number of paths a bounded trie keeps when it does not say. Spec: BoundedTrieData in the SDKs.
const boundDefault = 100

// mergeTrie merges two bounded tries: the union of their paths, the largest branches cut off while there are more than the bound.
func mergeTrie(a, b []byte) ([]byte, error) {
	x, y := &pipepb.BoundedTrie{}, &pipepb.BoundedTrie{}
	if err := errors.Join(proto.Unmarshal(a, x), proto.Unmarshal(b, y)); err != nil {
		return nil, fmt.Errorf("%w: %w", errPayload, err)
	}
	bound := int(max(x.GetBound(), y.GetBound()))
	if bound <= 0 {
		bound = boundDefault
	}
	root := mergeNodes(rootOf(x), rootOf(y))
	if root == nil {
		return b, nil
	}
	for leaves(root) > bound && trim(root) {
	}
	return proto.Marshal(&pipepb.BoundedTrie{Bound: int32(bound), Root: root})
}

// rootOf returns the trie's root, made from its single path if it has that form; nil for an empty trie.
func rootOf(t *pipepb.BoundedTrie) *pipepb.BoundedTrieNode {
	if t.GetRoot() != nil || len(t.GetSingleton()) == 0 {
		return t.GetRoot()
	}
	node := &pipepb.BoundedTrieNode{}
	path := t.GetSingleton()
	for i := len(path) - 1; i >= 0; i-- {
		node = &pipepb.BoundedTrieNode{Children: map[string]*pipepb.BoundedTrieNode{path[i]: node}}
	}
	return node
}

func mergeNodes(x, y *pipepb.BoundedTrieNode) *pipepb.BoundedTrieNode {
	switch {
	case x == nil:
		return y
	case y == nil:
		return x
	case x.GetTruncated() || y.GetTruncated():
		return &pipepb.BoundedTrieNode{Truncated: true}
	case len(x.GetChildren()) == 0:
		return y
	}
	for name, child := range y.GetChildren() {
		x.Children[name] = mergeNodes(x.Children[name], child)
	}
	return x
}

func leaves(n *pipepb.BoundedTrieNode) int {
	if len(n.GetChildren()) == 0 {
		return 1
	}
	sum := 0
	for _, c := range n.GetChildren() {
		sum += leaves(c)
	}
	return sum
}

// trim cuts off the branch whose children are all leaves along the path of the largest children; false when there is none.
func trim(n *pipepb.BoundedTrieNode) bool {
	names := make([]string, 0, len(n.GetChildren()))
	for name := range n.GetChildren() {
		names = append(names, name)
	}
	sort.Strings(names)
	var largest *pipepb.BoundedTrieNode
	size := 0
	for _, name := range names {
		if s := leaves(n.Children[name]); s > size {
			largest, size = n.Children[name], s
		}
	}
	if largest == nil {
		return false
	}
	if size == 1 {
		n.Truncated, n.Children = true, nil
		return true
	}
	return trim(largest)
}
