// Package connector is the contract between the engine and native sources and sinks, those that run in the runner itself.
//
// A Source is read in bundles: every Poll ends in one commit that holds the elements it returned and the positions behind them, so
// that a position never runs ahead of its data. A Sink is fed from the outbox: rows reach Publish only after the commit that made
// them is durable, and leave the outbox only after Publish has returned. A sink that can keep a mark next to its data, the sequence of
// the last block written, makes this exactly-once: Open returns the mark of the writer before it, and what is below it is not
// written again. The implementations are sub-packages; nothing here imports a client library. Goroutines: the engine calls one
// Reader or Writer from one goroutine at a time.
package connector
