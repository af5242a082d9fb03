// Package rows is the registry of everything the engine keeps on disk: the tables, the layout of their keys and the transaction
// through which a bundle reads and writes them. It imports no database; package store implements Tx over pebble.
//
// A key is table:u8 | stage:u32 | group:u16 | suffix, integers big endian, so that one key group of one stage is one range. The stage is
// not its place in the plan but a number that stands for the name of a transform, see store.Numbering and package inventory: what a
// pipeline has kept is found again when it has been changed. For the same reason suffixes name things as the user does.
// Table bytes are never reused: a retired table keeps its byte. A bundle owns the key groups it works on, so a Tx needs no
// locks: it sees what was committed before it, plus its own writes.
package rows
