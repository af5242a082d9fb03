package coder

import (
	"math/bits"

	"github.com/cespare/xxhash/v2"
)

// Hash returns the stable hash of an encoded key (xxHash64). It decides in which key group a key's state lives on disk: it must
// never change.
func Hash(key []byte) uint64 { return xxhash.Sum64(key) }

// KeyGroup returns the key group of an encoded key, 0 to n-1. n is 1 to 65536.
func KeyGroup(key []byte, n int) uint16 { return GroupOf(Hash(key), n) }

// GroupOf returns the key group of a hash. It takes the high bits, so that the low ones still spread the keys of one group.
func GroupOf(hash uint64, n int) uint16 {
	group, _ := bits.Mul64(hash, uint64(n))
	return uint16(group)
}
